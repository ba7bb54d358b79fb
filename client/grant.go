package client

import (
	"context"
	"errors"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// grant is what Held and Leadership are made of.
type grant struct {
	*contender
	key   string
	token int64
	lost  chan struct{} // closed when the grant is over

	release sync.Mutex // held while it is being released
	mu      sync.Mutex
	why     error // why lost is closed
}

func newGrant(c *contender) *grant {
	key, token := c.entry()
	g := &grant{contender: c, key: key, token: token, lost: make(chan struct{})}
	if !c.session.start(g.watch) {
		g.finish(lost(ErrSessionClosed))
	}
	return g
}

// watch ends the grant when its session or its entry ends.
func (g *grant) watch() {
	select {
	case <-g.contender.over:
		if g.contender.err != nil {
			g.finish(g.contender.err)
		}
	case <-g.session.ctx.Done():
		g.finish(lost(g.session.Err()))
	}
}

// finish ends the grant; only the first reason counts.
func (g *grant) finish(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.why == nil {
		g.why = why
		close(g.lost)
	}
}

// Key is the entry's key in the store.
func (g *grant) Key() string { return g.key }

// Lost is closed when the grant is not guaranteed any more, for whatever reason; Release and Resign are one. It is closed
// before the server can give it to somebody else, unless somebody deleted the entry by hand.
func (g *grant) Lost() <-chan struct{} { return g.lost }

// Err is nil until Lost is closed; then it wraps ErrLost and the reason, or is ErrReleased.
func (g *grant) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}

// Deadline is the instant until which the grant is guaranteed by the session as it is now; see Session.Deadline.
func (g *grant) Deadline() time.Time {
	if g.Err() != nil {
		return time.Time{}
	}
	return g.session.Deadline()
}

// Guard is a precondition for a transaction of the store: it holds as long as this grant exists.
func (g *grant) Guard() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(g.key), "=", g.token)
}

// giveBack removes the entry. The grant is over for us first: nobody shall rely on it while it is being given back.
func (g *grant) giveBack(ctx context.Context) error {
	g.release.Lock()
	defer g.release.Unlock()
	if err := g.Err(); errors.Is(err, ErrLost) {
		return err
	} else if err != nil {
		return nil // released before
	}
	g.finish(ErrReleased)
	g.contender.stop()
	<-g.contender.over
	err := g.remove(ctx, g.key, g.token)
	if err != nil && retryable(err) {
		// The caller has no more time; what is left behind would block everybody until the session ends.
		g.session.start(func() { _ = g.remove(g.session.ctx, g.key, g.token) })
	}
	return err
}

// do runs fn with a context that ends, with the reason as its cause, when the grant does. It waits for fn to return before
// it gives the grant back.
func (g *grant) do(ctx context.Context, fn func(context.Context) error) (err error) {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-g.lost:
			cancel(g.Err())
		case <-stopped:
		}
	}()
	defer func() { // also when fn panics
		close(stopped)
		<-watching
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*g.session.attempt)
		defer cancel()
		backErr := g.giveBack(bounded)
		switch {
		case err == nil:
			err = backErr
		case errors.Is(backErr, ErrLost) && !errors.Is(err, ErrLost):
			err = errors.Join(err, backErr)
		}
	}()
	return fn(inner)
}
