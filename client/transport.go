package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Pauses between attempts that fail at once.
const (
	minPause = 10 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// transport keeps one stream to the cluster while somebody needs it, moves it to the next endpoint when it fails, and
// carries requests, heartbeats, pushes and channels over it. It has four goroutines: run (connects, and reads), a
// writer for each link, one for heartbeats and deadlines (maintain), and the notifier (callbacks); none belongs to a
// request or a session.
type transport struct {
	config   *Config
	clock    func() time.Duration
	log      *slog.Logger
	dial     func(ctx context.Context, endpoint string) (*link, error)
	notifier *notifier

	ctx     context.Context
	stop    context.CancelCauseFunc
	running sync.WaitGroup
	welcome atomic.Pointer[coordv1.Welcome] // the last one
	calls   sync.Pool                       // their channels cost more than all the rest of a request
	need    chan struct{}                   // capacity 1: there is something to connect for
	kick    chan struct{}                   // capacity 1: there is something to send
	look    chan struct{}                   // capacity 1: maintain shall look at once

	mu struct {
		sync.Mutex
		closed       error
		link         *link // nil while there is none
		sessions     map[int64]*Session
		plain        outbox     // requests without a session
		ready        []*outbox  // with something to send
		predecessors []*Session // shared before, and lost with parties at barriers
		channels     map[uint64]*channel
		sendable     []*channel // with something to send
		after        []func()   // to be called when mu is free
		lanes        [lanesCount]lane
		channel      uint64        // the last channel's number
		nextLook     time.Duration // on the clock: no session changes its state before
		shortest     time.Duration // TTL of the sessions; 0: not known
		patience     time.Duration // with a heartbeat, after members that were silent; 0: as the TTLs have it
	}
}

// newTransport returns a transport that dials the endpoints in this order; dial is nil but in tests.
func newTransport(config *Config, order []string, dial func(context.Context, string) (*link, error)) *transport {
	t := &transport{
		config: config, clock: config.Clock, log: config.Logger, notifier: newNotifier(),
		need: make(chan struct{}, 1), kick: make(chan struct{}, 1), look: make(chan struct{}, 1),
	}
	t.calls.New = func() any { return &call{done: make(chan struct{}, 1)} }
	if t.dial = dial; dial == nil {
		t.dial = t.open
	}
	t.ctx, t.stop = context.WithCancelCause(context.Background())
	t.mu.sessions = map[int64]*Session{}
	t.mu.channels = map[uint64]*channel{}
	t.running.Go(func() { t.run(order) })
	t.running.Go(t.maintain)
	return t
}

// lock and unlock guard everything in t.mu, sessions and calls. What must not run under a mutex, because it may call
// back, runs when it is free again.
func (t *transport) lock() { t.mu.Lock() }

func (t *transport) unlock() {
	after := t.mu.after
	t.mu.after = nil
	t.mu.Unlock()
	for _, fn := range after {
		fn()
	}
}

// later has fn called by the current holder of the mutex when it is free.
func (t *transport) later(fn func()) { t.mu.after = append(t.mu.after, fn) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// close ends everything: sessions with ErrClosed, requests with what is known of them.
func (t *transport) close() {
	t.lock()
	t.mu.closed = ErrClosed
	for _, s := range t.mu.sessions {
		t.end(s, ErrClosed)
	}
	for _, c := range t.mu.plain.live() {
		t.mu.plain.remove(c)
		c.settle(nil, ErrClosed)
	}
	for _, ch := range t.mu.channels {
		ch.fail(ErrClosed)
	}
	clear(t.mu.channels)
	t.unlock()
	t.stop(ErrClosed)
	t.running.Wait()
	t.notifier.close()
}

// request is what do sends.
type request struct {
	kind     coordv1.Kind
	body     proto.Message
	guards   []*coordv1.Guard
	quick    bool
	stubborn bool
}

// newCall encodes a request.
func (t *transport) newCall(r request) (*call, error) {
	body, err := proto.Marshal(r.body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c := t.calls.Get().(*call)
	c.kind, c.body, c.guards, c.quick, c.stubborn = r.kind, body, r.guards, r.quick, r.stubborn
	return c, nil
}

// recycle takes a call back whose outcome was taken from done.
func (t *transport) recycle(c *call) {
	*c = call{done: c.done}
	t.calls.Put(c)
}

// do sends a request in a session, nil for none, and waits for its outcome. Without one the error says whether it may
// have been executed: then it wraps ErrOutcomeUnknown.
func (t *transport) do(ctx context.Context, s *Session, r request) ([]byte, error) {
	c, err := t.newCall(r)
	if err != nil {
		return nil, err
	}
	return t.await(ctx, s, c)
}

// await enqueues c and waits for its outcome.
func (t *transport) await(ctx context.Context, s *Session, c *call) ([]byte, error) {
	if err := t.enqueue(s, c); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		response, err := c.response, c.err
		t.recycle(c)
		return response, err
	case <-ctx.Done():
		return t.leave(ctx, c)
	}
}

// ask is do with the response decoded into resp.
func (t *transport) ask(ctx context.Context, s *Session, r request, resp proto.Message) error {
	body, err := t.do(ctx, s, r)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(body, resp); err != nil {
		return unknown(fmt.Errorf("response of %v: %w", r.kind, err))
	}
	return nil
}

// enqueue hands c over, to be sent as soon as there is a link.
func (t *transport) enqueue(s *Session, c *call) error {
	t.lock()
	defer t.unlock()
	return t.add(s, c)
}

// add is enqueue for who holds the mutex.
func (t *transport) add(s *Session, c *call) error {
	box := &t.mu.plain
	switch {
	case t.mu.closed != nil:
		return t.mu.closed
	case s != nil && s.ended != nil:
		return s.ended
	case s != nil:
		box = &s.box
	}
	box.add(c)
	t.offer(c)
	return nil
}

// offer makes the writer see a queued call.
func (t *transport) offer(c *call) {
	switch {
	case t.mu.link == nil:
		signal(t.need)
		return
	case c.box.session != nil && !c.box.session.attached:
		return
	}
	l := &t.mu.lanes[laneOf(c)]
	l.waiting++
	t.list(c.box)
	if laneOf(c) == laneFree || l.mayGo() {
		signal(t.kick)
	}
}

func (t *transport) list(o *outbox) {
	if !o.listed {
		o.listed = true
		t.mu.ready = append(t.mu.ready, o)
	}
}

// unqueue takes a call out of what waits to be sent.
func (t *transport) unqueue(c *call) {
	if !c.waits {
		return
	}
	c.waits = false
	if s := c.box.session; t.mu.link != nil && (s == nil || s.attached) {
		t.mu.lanes[laneOf(c)].waiting--
	}
}

// leave is the end of a call whose caller cannot wait any more, unless the outcome came in this moment.
func (t *transport) leave(ctx context.Context, c *call) ([]byte, error) {
	t.lock()
	defer t.unlock()
	select {
	case <-c.done:
		response, err := c.response, c.err
		t.recycle(c)
		return response, err
	default:
	}
	why := cause(ctx)
	if c.last != nil {
		why = fmt.Errorf("%w (%v)", why, c.last)
	}
	if c.sends > 0 && c.box.session != nil {
		why = unknown(why)
	}
	t.abandon(c)
	return nil, why
}

// abandon says that nobody waits for c. What was never sent is forgotten.
func (t *transport) abandon(c *call) {
	c.abandoned = true
	if c.sends == 0 && !c.stubborn {
		t.unqueue(c)
		c.box.remove(c)
	}
}

// answered takes over the outcome of a request.
func (t *transport) answered(box *outbox, r *coordv1.Response) {
	c := box.find(r.Sequence)
	if c == nil {
		return
	}
	if c.frame > 0 {
		t.mu.lanes[laneOf(c)].answered(c.frame)
	}
	refusal := r.GetOutcome().GetRefusal()
	if refusal == nil {
		t.unqueue(c)
		if !c.pinned {
			box.remove(c)
		}
		c.settle(r.GetOutcome().GetResponse(), nil)
		return
	}
	t.wasRefused(c, refusal)
}

// wasRefused sends c again, or tells its caller.
func (t *transport) wasRefused(c *call, r *coordv1.Refusal) {
	err := refused(r)
	s := c.box.session
	if again(r) && (s != nil || repeatable(c.kind)) && !(c.abandoned && !c.stubborn) {
		c.last = err
		t.repeat(c)
		return
	}
	t.unqueue(c)
	if gone := sessionGone(err); s != nil && gone != nil {
		if c.sends == 1 { // it was certainly not executed
			c.box.remove(c)
			c.settle(nil, gone)
		}
		t.end(s, gone) // and with it all its requests
		return
	}
	if !c.pinned {
		c.box.remove(c)
	}
	c.settle(nil, err)
}

// unpin lets a call be acknowledged; without an outcome nobody wants one any more.
func (t *transport) unpin(c *call) {
	c.pinned, c.stubborn = false, false
	if c.settled && c.box.holds(c) {
		c.box.remove(c)
	}
}

// sessionGone is what a refusal says about the end of a session, nil if it says nothing.
func sessionGone(err error) error {
	switch {
	case errors.Is(err, ErrSessionExpired):
		return fmt.Errorf("%w: the server ended it", ErrSessionExpired)
	case errors.Is(err, ErrSessionElsewhere):
		return ErrSessionElsewhere
	}
	return nil
}

// repeat sends c again after a pause.
func (t *transport) repeat(c *call) {
	c.pause = min(max(2*c.pause, minPause), maxPause)
	box, sequence := c.box, c.sequence
	time.AfterFunc(c.pause, func() {
		t.lock()
		defer t.unlock()
		if box.find(sequence) != c || c.waits {
			return // a new link sent it, or it is over
		}
		c.waits = true
		box.queue = append(box.queue, c)
		t.offer(c)
	})
}

// notify has fn called by the notifier, after what it was given before.
func (t *transport) notify(fn func()) { t.notifier.notify(fn) }

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
