package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/proto/layout"
)

// Session is a lease that somebody keeps alive: a client.Session, or a concurrency.Session of etcd's.
type Session interface {
	Lease() clientv3.LeaseID
	// Done is closed when the session is lost or closed.
	Done() <-chan struct{}
}

// Sessions returns the session there is, or a new one if the last was lost.
type Sessions func(ctx context.Context) (Session, error)

// SessionsOf makes Sessions of a method like Client.Session.
func SessionsOf[S Session](open func(context.Context) (S, error)) Sessions {
	return func(ctx context.Context) (Session, error) { return open(ctx) }
}

// RegisterOption configures Register.
type RegisterOption func(*Registration)

// MaxSilence makes the instance critical when Heartbeat was not called for that long, until it is called again: for
// processes whose work can hang while their session is kept alive.
func MaxSilence(d time.Duration) RegisterOption { return func(g *Registration) { g.silence = d } }

// Registration keeps one instance registered, from Register to Deregister: when its session was lost it registers again
// in the next one. Safe for concurrent use.
type Registration struct {
	r        *Registry
	sessions Sessions
	silence  time.Duration // 0: never too long

	ctx    context.Context // ends when nothing is kept any more
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing is kept any more; err is set before
	wake   chan struct{} // capacity 1: something is to be written

	mu      sync.Mutex
	want    Instance         // as the process says
	beat    time.Time        // the last heartbeat, or the registration
	version uint64           // counts what was wanted
	written uint64           // the last version that was written
	lease   clientv3.LeaseID // on which it was written; 0: nothing was
	trouble error            // of the last attempt to write
	err     error            // why nothing is kept any more
	news    chan struct{}    // closed, and replaced, when any of these changes
}

// Register registers an instance on the session, and returns when that is done. An instance of the same service and id
// is taken over: a process that restarts faster than its old session expires gets its place back. ctx bounds the call
// only.
//
// The errors are those of Instance.Validate, ErrNameTaken, ErrRefused, that of a closed client, and that of ctx with
// the trouble there was. After the last the outcome is unknown: the instance may be there for as long as the session
// is. Registering again takes it over.
func (r *Registry) Register(ctx context.Context, sessions Sessions, in Instance, opts ...RegisterOption) (*Registration,
	error) {
	in = *in.Clone()
	in.EnsureDefaults()
	now := time.Now()
	in.Registered, in.Heartbeat = now, time.Time{}
	if err := in.Validate(); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	g := &Registration{
		r: r, sessions: sessions, want: in, beat: now, version: 1,
		done: make(chan struct{}), wake: make(chan struct{}, 1), news: make(chan struct{}),
	}
	for _, opt := range opts {
		opt(g)
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	go g.run()
	if err := g.await(ctx, 1); err != nil {
		g.stop(err)
		return nil, fmt.Errorf("register instance %s of service %s: %w", in.ID, in.Service, err)
	}
	return g, nil
}

// Instance is what is registered, as this process says it.
func (g *Registration) Instance() Instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	return *g.want.Clone()
}

// Done is closed when the instance is not kept registered any more; Err says why.
func (g *Registration) Done() <-chan struct{} { return g.done }

// Err is nil as long as the instance is kept registered, then ErrDeregistered, ErrReplaced, or client.ErrClosed.
func (g *Registration) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// SetState says in which state the process is, and returns when that is written. If ctx ends before, it will be as soon
// as possible. ErrBadState; ErrReplaced, ErrDeregistered.
func (g *Registration) SetState(ctx context.Context, state State) error {
	if state < StatePassing || state > StateCritical {
		return fmt.Errorf("%w: %s", ErrBadState, state)
	}
	return g.change(ctx, func(in *Instance) { in.State = state })
}

// Drain is SetState(ctx, StateDraining): no new requests, please. Deregister once those that are under way are done.
func (g *Registration) Drain(ctx context.Context) error { return g.SetState(ctx, StateDraining) }

// Heartbeat says that the process works, with a payload that says how much: it becomes Instance.Load. It returns when
// that is written; if ctx ends before, it will be as soon as possible. ErrTooLarge; ErrReplaced, ErrDeregistered.
func (g *Registration) Heartbeat(ctx context.Context, load []byte) error {
	next := g.Instance()
	next.Load = load
	if err := next.Validate(); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return g.change(ctx, func(in *Instance) {
		g.beat = time.Now()
		in.Load, in.Heartbeat = next.Load, g.beat
	})
}

// change changes what is wanted and waits until it is written.
func (g *Registration) change(ctx context.Context, fn func(*Instance)) error {
	g.mu.Lock()
	next := g.want.Clone()
	fn(next)
	g.want = *next
	g.version++
	version := g.version
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
	if err := g.await(ctx, version); err != nil {
		return fmt.Errorf("instance %s of service %s: %w", next.ID, next.Service, err)
	}
	return nil
}

// await waits until a version is written.
func (g *Registration) await(ctx context.Context, version uint64) error {
	for {
		g.mu.Lock()
		written, trouble, err, news := g.written, g.trouble, g.err, g.news
		g.mu.Unlock()
		switch {
		case err != nil:
			return err
		case written >= version:
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), trouble)
		}
	}
}

// DrainOrdered waits until an operator orders the instance to be drained: nil. The other errors are that of ctx and
// Err.
func (g *Registration) DrainOrdered(ctx context.Context) error {
	in := g.Instance()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(g.ctx, func() { cancel(g.Err()) })()
	key := layout.OrderKey(in.Service, in.ID)
	for failures := 0; ; failures++ {
		err := g.r.awaitKey(ctx, key)
		if over := g.Err(); over != nil { // the note that it left stands where an order does
			return over
		}
		if err == nil {
			return nil
		}
		if pause(ctx, g.r.opts.Retry, failures); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// awaitKey waits until a key exists, as long as nothing fails.
func (r *Registry) awaitKey(ctx context.Context, key string) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	resp, err := r.client.Get(ctx, key)
	if err != nil || len(resp.Kvs) > 0 {
		return err
	}
	for resp := range r.client.Watch(ctx, key, clientv3.WithRev(resp.Header.Revision+1), clientv3.WithFilterDelete()) {
		if err := resp.Err(); err != nil || len(resp.Events) > 0 {
			return err
		}
	}
	return errClosed
}

// Deregister takes the instance out of the registry, in one commit, with a note that it left. If the cluster does not
// answer within ctx the error says so; the instance is gone with its session then. Later calls do nothing.
func (g *Registration) Deregister(ctx context.Context) error {
	if g.Err() != nil {
		return nil
	}
	g.stop(ErrDeregistered)
	g.mu.Lock()
	in, lease := g.want, g.lease
	g.mu.Unlock()
	if lease == 0 {
		return nil
	}
	if err := g.r.remove(ctx, &in, lease); err != nil {
		return fmt.Errorf("deregister instance %s of service %s: %w", in.ID, in.Service, err)
	}
	return nil
}

// stop ends the loop and waits for it.
func (g *Registration) stop(why error) {
	g.end(why)
	g.cancel()
	<-g.done
}

// end notes why nothing is kept any more; the first reason counts.
func (g *Registration) end(why error) {
	g.note(func() {
		if g.err == nil {
			g.err = why
		}
	})
}

// note changes what others wait for.
func (g *Registration) note(fn func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fn()
	close(g.news)
	g.news = make(chan struct{})
}

// run writes what is wanted whenever that, or the session, changes.
func (g *Registration) run() {
	defer close(g.done)
	defer g.cancel()
	var session Session
	for failures := 0; g.ctx.Err() == nil; failures++ {
		next, err := g.keep(session)
		if session = next; err == nil {
			failures = -1
			continue
		}
		closed := errors.Is(err, client.ErrClosed) || errors.Is(err, context.Canceled) // ours, or etcd's
		if closed || errors.Is(err, ErrReplaced) || !g.registered() &&
			(errors.Is(err, ErrNameTaken) || errors.Is(err, ErrRefused)) {
			g.end(err) // if Deregister did not
			return
		}
		g.note(func() { g.trouble = err })
		pause(g.ctx, g.r.opts.Retry, failures)
	}
}

// registered reports whether the instance ever was written.
func (g *Registration) registered() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease != 0
}

// keep does the next thing there is to do: get a session, write, or wait. It returns the session to go on with.
func (g *Registration) keep(session Session) (Session, error) {
	if session != nil && isDone(session) {
		session = nil
	}
	if session == nil {
		ctx, cancel := context.WithTimeoutCause(g.ctx, g.r.opts.ReadTimeout, errNoAnswer)
		defer cancel()
		opened, err := g.sessions(ctx)
		if err != nil {
			return nil, fmt.Errorf("session: %w", orCause(ctx, err))
		}
		session = opened
	}
	g.mu.Lock()
	in, late := g.spoken(time.Now())
	version, before := g.version, g.lease
	settled := g.written == version && before == session.Lease()
	g.mu.Unlock()
	if settled {
		g.wait(session, late)
		return session, nil
	}
	ctx, cancel := context.WithTimeoutCause(g.ctx, g.r.opts.ReadTimeout, errNoAnswer)
	defer cancel()
	if err := g.write(ctx, in, before, session.Lease()); err != nil {
		return session, orCause(ctx, err)
	}
	g.note(func() { g.written, g.lease, g.trouble = max(g.written, version), session.Lease(), nil })
	return session, nil
}

// orCause puts the reason of an attempt's end in front of what its end looked like.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w: %s", context.Cause(ctx), err)
}

func isDone(s Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// spoken is what to write: what the process says, or that it has been silent for too long. late is when the latter
// begins; zero: never, or it has.
func (g *Registration) spoken(now time.Time) (in Instance, late time.Time) {
	in = g.want
	if g.silence == 0 {
		return in, time.Time{}
	}
	if late = g.beat.Add(g.silence); now.Before(late) {
		return in, late
	}
	in.State = StateCritical
	return in, time.Time{}
}

// wait waits until there is something to do.
func (g *Registration) wait(session Session, late time.Time) {
	var timeout <-chan time.Time
	if !late.IsZero() {
		timer := time.NewTimer(time.Until(late))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-g.ctx.Done():
	case <-session.Done():
	case <-g.wake:
	case <-timeout:
		g.note(func() { g.version++ })
	}
}
