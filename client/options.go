package client

import "time"

// AcquireOption configures one acquire or campaign.
type AcquireOption func(*acquireOptions)

type acquireOptions struct {
	wait      time.Duration
	owner     string
	labels    map[string]string
	delay     time.Duration
	priority  int64
	reentrant bool
	once      bool
	try       bool
	onQueued  func(position int64, holder string)
	onAcquire func(waited time.Duration)
	onLost    func(error)
	onAsked   func(from, reason string)
}

// Wait bounds the waiting: when it is over, the error is ErrNotAcquired and the place in the queue is given up.
func Wait(d time.Duration) AcquireOption { return func(o *acquireOptions) { o.wait = d } }

// Owner says who asks, for people who look at the queue. Default: Config.Owner. Locks only.
func Owner(owner string) AcquireOption { return func(o *acquireOptions) { o.owner = owner } }

// Label adds to Owner. Locks only.
func Label(key, value string) AcquireOption {
	return func(o *acquireOptions) {
		if o.labels == nil {
			o.labels = map[string]string{}
		}
		o.labels[key] = value
	}
}

// Delay has nobody hold for this long if our session expires while we hold: time for work that was under way to end. It
// does not delay after a release. In whole milliseconds, at most an hour.
func Delay(d time.Duration) AcquireOption { return func(o *acquireOptions) { o.delay = d } }

// Priority makes a campaign one in the election with priorities of that name, where the greatest leads next. It is not 0,
// and the election another one than that without priorities. Elections only.
func Priority(p int64) AcquireOption { return func(o *acquireOptions) { o.priority = p } }

// Reentrant enters again what is held already, if the context is the one of Do, Run or Held.Context of the same names. The
// lock is released by whoever acquired it first.
func Reentrant() AcquireOption { return func(o *acquireOptions) { o.reentrant = true } }

// Once makes Election.Run return after one term, however it ended.
func Once() AcquireOption { return func(o *acquireOptions) { o.once = true } }

// The functions of the following options are called like Hooks: in order, and must not block.

// OnQueued has fn called when the request has to wait: how many are before it, and what the holder's entry says (a lock's
// owner, a leader's value). A key of another client that stands there is named, with what ends it: it may be nothing. It is called again if the request had to be repeated in another session.
func OnQueued(fn func(position int64, holder string)) AcquireOption {
	return func(o *acquireOptions) { o.onQueued = fn }
}

// OnAcquire has fn called when the request holds.
func OnAcquire(fn func(waited time.Duration)) AcquireOption {
	return func(o *acquireOptions) { o.onAcquire = fn }
}

// OnLost has fn called when what was held is lost; err wraps ErrLost and the reason.
func OnLost(fn func(err error)) AcquireOption { return func(o *acquireOptions) { o.onLost = fn } }

// OnAsked has fn called when somebody asks us to release (Lock.AskRelease, coordctl). Whether we do is up to us.
func OnAsked(fn func(from, reason string)) AcquireOption {
	return func(o *acquireOptions) { o.onAsked = fn }
}

func (c *Client) acquireOptions(opts []AcquireOption) acquireOptions {
	o := acquireOptions{owner: c.config.Owner}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}
