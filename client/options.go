package client

import (
	"maps"
	"time"
)

// Options are typed by what takes them: one that means nothing to a recipe does not compile there. With… sets
// something, On… has a function called. Which recipes take an option is what the interface embeds that its constructor
// returns.

// SessionOption configures Client.NewSession.
type SessionOption interface {
	apply(*options)
	forSession()
}

// LockOption configures Acquire, TryAcquire and Do of a Lock.
type LockOption interface {
	apply(*options)
	forLock()
}

// LocksOption configures Acquire, TryAcquire and Do of Locks.
type LocksOption interface {
	apply(*options)
	forLocks()
}

// RWLockOption configures Acquire, TryAcquire and Do of a RWLock.
type RWLockOption interface {
	apply(*options)
	forRWLock()
}

// SemaphoreOption configures Acquire, TryAcquire and Do of a Semaphore.
type SemaphoreOption interface {
	apply(*options)
	forSemaphore()
}

// BarrierOption configures Barrier.Enter.
type BarrierOption interface {
	apply(*options)
	forBarrier()
}

// CampaignOption configures Election.Campaign and TryCampaign, and, as each of them is a RunOption, Run.
type CampaignOption interface {
	RunOption
	forCampaign()
}

// RunOption configures Election.Run.
type RunOption interface {
	apply(*options)
	forRun()
}

// GateOption configures Gate.Close.
type GateOption interface {
	apply(*options)
	forGate()
}

// QueueOption is for everything that waits in a queue.
type QueueOption interface {
	LockOption
	LocksOption
	RWLockOption
	SemaphoreOption
	BarrierOption
	CampaignOption
}

// OwnerOption is for all whose queues show an owner: of an election the candidate's value says who it is.
type OwnerOption interface {
	LockOption
	LocksOption
	RWLockOption
	SemaphoreOption
	BarrierOption
}

// LabelOption is an OwnerOption, and for sessions.
type LabelOption interface {
	OwnerOption
	SessionOption
}

// DelayOption is for all in which the next one can be kept waiting after a holder died.
type DelayOption interface {
	LockOption
	LocksOption
	RWLockOption
	SemaphoreOption
	CampaignOption
}

// ReentryOption is for what can be acquired again by who holds it.
type ReentryOption interface {
	LockOption
	RWLockOption
}

// AskedOption is for what can be asked for: locks, and elections without priorities, which share their queues.
type AskedOption interface {
	LockOption
	LocksOption
	CampaignOption
}

// options is what all options together can say; who takes some looks only at what they can set.
type options struct {
	// Of a session, and labels also of an acquire.
	ttl           time.Duration
	host, process string
	labels        map[string]string
	onState       func(State)

	// Of an acquire or a campaign. try is not an option, but what TryAcquire and TryCampaign are.
	maxWait   time.Duration
	owner     string
	delay     time.Duration
	priority  int64
	reentry   bool
	oneTerm   bool
	try       bool
	onQueued  func(position int64, holder string)
	onAcquire func(waited time.Duration)
	onLost    func(error)
	onAsked   func(from, reason string)

	// Of a gate.
	sessionBound bool
	reason       string
}

// option implements all interfaces. Its constructors return those that it is for, so the others are out of reach.
type option func(*options)

func (o option) apply(to *options) { o(to) }
func (option) forSession()         {}
func (option) forLock()            {}
func (option) forLocks()           {}
func (option) forRWLock()          {}
func (option) forSemaphore()       {}
func (option) forBarrier()         {}
func (option) forCampaign()        {}
func (option) forRun()             {}
func (option) forGate()            {}

// applied are the options opts beside what o says already.
func applied[O interface{ apply(*options) }](o options, opts []O) options {
	for _, opt := range opts {
		opt.apply(&o)
	}
	return o
}

// ofAcquire are the options of an acquire or a campaign through c.
func ofAcquire[O interface{ apply(*options) }](c *Client, opts []O) options {
	return applied(options{owner: c.config.Owner}, opts)
}

// ofTry are those of one that does not wait.
func ofTry[O interface{ apply(*options) }](c *Client, opts []O) options {
	return applied(options{owner: c.config.Owner, try: true}, opts)
}

// WithTTL sets the TTL of a session, in whole milliseconds, 100 ms or more. Default: Config.SessionTTL.
func WithTTL(ttl time.Duration) SessionOption { return option(func(o *options) { o.ttl = ttl }) }

// WithIdentity says who a session belongs to, for people and for introspection. Default: Config.Host and
// Config.Process.
func WithIdentity(host, process string) SessionOption {
	return option(func(o *options) { o.host, o.process = host, process })
}

// WithLabel adds to the identity of a session, beside Config.Labels, or to the owner of an entry in a queue.
func WithLabel(key, value string) LabelOption {
	return option(func(o *options) {
		o.labels = maps.Clone(o.labels) // not the Config's
		if o.labels == nil {
			o.labels = map[string]string{}
		}
		o.labels[key] = value
	})
}

// WithMaxWait bounds the waiting: when it is over, the error is ErrNotAcquired and the place in the queue is given up.
// 0: no bound but the context. It means nothing where nobody waits (TryAcquire, TryCampaign).
func WithMaxWait(d time.Duration) QueueOption { return option(func(o *options) { o.maxWait = d }) }

// WithOwner says who asks, for people who look at the queue. Default: Config.Owner.
func WithOwner(owner string) OwnerOption { return option(func(o *options) { o.owner = owner }) }

// WithDelay has nobody hold for this long if our session expires while we hold: time for work that was under way to
// end. It does not delay after a release. In whole milliseconds, at most an hour.
func WithDelay(d time.Duration) DelayOption { return option(func(o *options) { o.delay = d }) }

// WithPriority makes a campaign one in the election with priorities of that name, where the greatest leads next. It is
// not 0, and the election another one than that without priorities.
func WithPriority(p int64) CampaignOption { return option(func(o *options) { o.priority = p }) }

// WithReentry enters again what is held already, if the context is the one of Do or of Held.Context of the same name.
// The lock is released by whoever acquired it first.
func WithReentry() ReentryOption { return option(func(o *options) { o.reentry = true }) }

// WithOneTerm makes Election.Run return after one term, however it ended.
func WithOneTerm() RunOption { return option(func(o *options) { o.oneTerm = true }) }

// WithReason says why a gate is closed, for who waits: at most 1024 bytes.
func WithReason(reason string) GateOption { return option(func(o *options) { o.reason = reason }) }

// WithSessionBound has a gate open when the session ends that closes it.
func WithSessionBound() GateOption { return option(func(o *options) { o.sessionBound = true }) }

// The functions of the following options are called like Hooks: in order, and must not block, nor close the client.

// OnState has fn called at each change of a session's state, one call at a time. What is held is lost before fn hears
// of Lost.
func OnState(fn func(State)) SessionOption { return option(func(o *options) { o.onState = fn }) }

// OnQueued has fn called when the request has to wait: how many are before it, and what the holder's entry says (a
// lock's owner, a leader's value). A key of another client that stands there is named, with what ends it: it may be
// nothing. It is called again if the request had to be repeated in another session.
func OnQueued(fn func(position int64, holder string)) QueueOption {
	return option(func(o *options) { o.onQueued = fn })
}

// OnAcquire has fn called when the request holds.
func OnAcquire(fn func(waited time.Duration)) QueueOption {
	return option(func(o *options) { o.onAcquire = fn })
}

// OnLost has fn called when what was held is lost; err wraps ErrLost and the reason.
func OnLost(fn func(err error)) QueueOption { return option(func(o *options) { o.onLost = fn }) }

// OnAsked has fn called when somebody asks us to release (Lock.AskRelease). Whether we do is up to us.
func OnAsked(fn func(from, reason string)) AskedOption {
	return option(func(o *options) { o.onAsked = fn })
}
