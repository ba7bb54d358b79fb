package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// maxGrace is the longest a member may be asked to keep the place of a waiter whose stream broke.
const maxGrace = time.Minute

// service is what locks and elections have in common on the wire.
type service interface {
	// open starts a stream; next returns its events.
	open(ctx context.Context, r attachment) (next func() (event, error), err error)
	// remove removes the entry by its token.
	remove(ctx context.Context, name, key string, token int64) error
}

// attachment is one request for an entry; see AcquireRequest for the fields.
type attachment struct {
	name    string
	lease   int64
	ownerID string
	wait    time.Duration
	resume  int64
	grace   time.Duration
}

// event is one event of a stream; one field is set.
type event struct {
	queued      *coordv1.Queued
	granted     *coordv1.Granted
	notAcquired *coordv1.NotAcquired
	lost        *coordv1.Lost
}

// AcquireOption configures one acquire or campaign.
type AcquireOption func(*acquireOptions)

type acquireOptions struct {
	wait     time.Duration
	owner    string
	labels   map[string]string
	onQueued func(position int64, holder string)
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

// OnQueued has fn called when the request has to wait: how many are before it, and what the holder's entry says (a lock's
// owner, a leader's value). It is called again if the request had to be repeated. It must not block.
func OnQueued(fn func(position int64, holder string)) AcquireOption {
	return func(o *acquireOptions) { o.onQueued = fn }
}

// contender is one entry, from the request to its end. follow, on a goroutine of the session, is the only one that talks to
// the server until stopped.
type contender struct {
	session  *Session
	service  service
	request  attachment
	onQueued func(position int64, holder string)
	patience time.Time     // when a timed request gives up; zero: never
	rest     time.Duration // how long follow waits before its first stream

	ctx     context.Context // of follow
	stop    context.CancelFunc
	known   chan struct{} // closed when key and token are set
	granted chan struct{} // closed when the entry holds
	over    chan struct{} // closed when follow has ended; err is set before
	err     error         // why the entry is gone, or not known to be there; nil: follow was stopped

	mu    sync.Mutex
	key   string
	token int64
}

func (s *Session) newContender(svc service, name string, o acquireOptions) *contender {
	// The client's deadline for the session is the latest sensible time to come back for a place in the queue.
	s.mu.Lock()
	grace := min(s.deadline.ttl/2, maxGrace)
	s.mu.Unlock()
	c := &contender{
		session: s, service: svc, onQueued: o.onQueued,
		request: attachment{name: name, lease: int64(s.lease), ownerID: s.claimOwner(name), grace: grace},
		known:   make(chan struct{}), granted: make(chan struct{}), over: make(chan struct{}),
	}
	if o.wait > 0 {
		c.patience = time.Now().Add(o.wait)
	}
	c.ctx, c.stop = context.WithCancel(s.ctx)
	return c
}

// contend enqueues and waits. The error is ErrNotAcquired, ctx's, ErrLost (with the reason), or a refusal by the server.
// When it returns, the place is given up, or, if no server can be reached, a goroutine of the session goes on trying.
func (s *Session) contend(ctx context.Context, svc service, name string, o acquireOptions) (*grant, error) {
	if o.wait < 0 {
		return nil, fmt.Errorf("%w: negative time to wait %v", ErrInvalid, o.wait)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	c := s.newContender(svc, name, o)
	if !s.start(c.follow) {
		return nil, ErrSessionClosed
	}
	select {
	case <-c.granted:
		return newGrant(c), nil
	case <-c.over:
		select {
		case <-c.granted: // and lost at once: the caller finds out
			return newGrant(c), nil
		default:
		}
		return nil, c.err
	case <-ctx.Done():
		c.abandon()
		return nil, context.Cause(ctx)
	case <-c.patienceOver():
		c.abandon()
		return nil, ErrNotAcquired
	}
}

// tryOnce acquires or says at once that it cannot.
func (s *Session) tryOnce(ctx context.Context, svc lockService, name string, o acquireOptions) (*grant, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	c := s.newContender(svc, name, o)
	var granted *coordv1.Granted
	err := s.client.retry(ctx, s.attempt, func(ctx context.Context) (err error) {
		granted, err = svc.try(ctx, c.request)
		return err
	})
	switch {
	case err != nil && !retryable(err):
		s.releaseOwner(name, c.request.ownerID)
		c.stop()
		return nil, s.lostIfExpired(err)
	case err != nil: // nobody knows: an entry may be there
		if s.start(c.follow) {
			c.abandon()
		}
		return nil, err
	case granted == nil:
		s.releaseOwner(name, c.request.ownerID)
		c.stop()
		return nil, ErrNotAcquired
	}
	c.learn(granted.Key, granted.Token)
	close(c.granted)
	c.rest = s.attempt // a lock that is held for a moment needs no stream, which costs a commit
	if !s.start(c.follow) {
		return nil, ErrSessionClosed
	}
	return newGrant(c), nil
}

// patienceOver fires some time after the server should have answered a timed request: the server is silent.
func (c *contender) patienceOver() <-chan time.Time {
	if c.patience.IsZero() {
		return nil
	}
	return time.After(time.Until(c.patience) + 2*c.session.attempt)
}

// lostIfExpired ends the session where the server says that it does not exist.
func (s *Session) lostIfExpired(err error) error {
	if errors.Is(err, ErrSessionExpired) {
		s.end(err)
	}
	return err
}

// learn notes the entry.
func (c *contender) learn(key string, token int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.token == 0
	c.key, c.token = key, token
	if first {
		close(c.known)
	}
}

func (c *contender) entry() (key string, token int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.key, c.token
}

func (c *contender) isGranted() bool {
	select {
	case <-c.granted:
		return true
	default:
		return false
	}
}

// follow keeps a stream for the entry, through whatever member answers, until the entry is gone or c is stopped.
func (c *contender) follow() {
	defer close(c.over)
	defer c.stop()
	members, pause, attempt := c.session.client.members, minPause, c.session.attempt
	sleep(c.ctx, c.rest)
	for {
		at := members.current()
		attached, err := c.attach(at, attempt)
		if cause := c.session.Err(); cause != nil {
			c.err = lost(cause)
			return
		}
		if c.ctx.Err() != nil {
			return // stopped
		}
		if err != nil && !retryable(err) && (!c.isGranted() || isFinal(err)) {
			c.err = c.refused(err)
			return
		}
		if attached {
			pause, attempt = minPause, c.session.attempt
		} else {
			attempt = min(2*attempt, maxAttempt)
		}
		if at.ctx.Err() == nil && retryable(err) && !errors.Is(err, errSuperseded) {
			members.leave(at, fmt.Sprintf("stream of %q: %v", c.request.name, err))
		}
		if !sleep(c.ctx, pause) {
			continue // find out why above
		}
		pause = min(2*pause, maxPause)
	}
}

// gone is a terminal end of an entry; it is no status, so retryable must not see it.
type gone struct{ error }

// isFinal says whether err ends a grant. A refusal of another kind does not: what is granted stays granted, even if a
// server will not tell us more about it for now.
func isFinal(err error) bool {
	_, ok := errors.AsType[gone](err)
	return ok || errors.Is(err, ErrSessionExpired)
}

// refused is the error of a contender that cannot go on.
func (c *contender) refused(err error) error {
	if g, ok := errors.AsType[gone](err); ok {
		c.session.releaseOwner(c.request.name, c.request.ownerID)
		return g.error
	}
	if errors.Is(err, ErrSessionExpired) {
		c.session.end(err)
		return lost(err)
	}
	if errors.Is(err, ErrInvalid) { // so there is no entry
		c.session.releaseOwner(c.request.name, c.request.ownerID)
	}
	return err
}

func lost(reason error) error { return fmt.Errorf("%w: %w", ErrLost, reason) }

// attach opens one stream and follows it to its end. attached says that the server answered at all.
func (c *contender) attach(at *stay, attempt time.Duration) (attached bool, err error) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	defer context.AfterFunc(at.ctx, cancel)()
	impatient := time.AfterFunc(attempt, cancel)
	defer impatient.Stop()
	r := c.request
	_, r.resume = c.entry()
	if !c.patience.IsZero() && !c.isGranted() {
		r.wait = max(time.Until(c.patience), time.Millisecond)
	}
	next, err := c.service.open(ctx, r)
	for err == nil {
		var ev event
		if ev, err = next(); err == nil {
			impatient.Stop()
			err = c.take(ev, attached)
			attached = true
		}
	}
	if _, ok := errors.AsType[gone](err); ok {
		return attached, err
	}
	return attached, fromWire(err)
}

// take takes over one event; attached says that it is not the first of its stream. The error ends the stream.
func (c *contender) take(ev event, attached bool) error {
	switch {
	case ev.queued != nil:
		c.learn(ev.queued.Key, ev.queued.Token)
		if c.onQueued != nil {
			c.onQueued(ev.queued.Position, holderText(ev.queued.Holder))
		}
	case ev.granted != nil:
		c.learn(ev.granted.Key, ev.granted.Token)
		if !c.isGranted() {
			close(c.granted)
		}
	case ev.notAcquired != nil:
		return gone{ErrNotAcquired}
	case ev.lost != nil && ev.lost.Reason == coordv1.Lost_REASON_SESSION_ENDED:
		c.session.end(fmt.Errorf("%w: the server ended it", ErrSessionExpired))
		return gone{lost(c.session.Err())}
	case ev.lost != nil && !attached && !c.isGranted():
		// We came back too late for our place: begin anew, at the end of the queue.
		c.mu.Lock()
		c.token = 0
		c.known = make(chan struct{})
		c.mu.Unlock()
		return errSuperseded
	case ev.lost != nil:
		return gone{lost(ErrRemoved)}
	}
	return nil
}

func holderText(e *coordv1.Entry) string {
	if e == nil {
		return ""
	}
	if e.Owner != "" {
		return e.Owner
	}
	return string(e.Value)
}

// abandon gives up the place of a request whose caller has gone, and waits for it, though not longer than a few attempts.
func (c *contender) abandon() {
	done := make(chan struct{})
	if !c.session.start(func() {
		defer close(done)
		c.withdraw()
	}) {
		return
	}
	select {
	case <-done:
	case <-time.After(3 * c.session.attempt):
	}
}

// withdraw finds out the token, if need be by asking for the entry once more, and removes the entry.
func (c *contender) withdraw() {
	for {
		c.mu.Lock()
		known := c.known
		c.mu.Unlock()
		select {
		case <-known:
		case <-c.over:
		}
		key, token := c.entry()
		if token == 0 {
			if c.isOver() {
				return
			}
			continue // the place was lost and asked for again just now
		}
		_ = c.remove(c.session.ctx, key, token)
		c.stop()
		return
	}
}

func (c *contender) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// remove removes the entry; after it, the owner id is free.
func (c *contender) remove(ctx context.Context, key string, token int64) error {
	s := c.session
	err := s.client.retry(ctx, s.attempt, func(ctx context.Context) error {
		return c.service.remove(ctx, c.request.name, key, token)
	})
	if err == nil {
		s.releaseOwner(c.request.name, c.request.ownerID)
	}
	return err
}
