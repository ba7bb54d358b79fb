package client

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// through is where locks and elections get their session from.
type through struct {
	client *Client
	own    *Session // nil: the client's shared session
}

// claim gets a claim that holds. If the shared session is lost meanwhile, it queues again in the next one: nothing of what a
// lost session asked for stays.
func (th through) claim(ctx context.Context, kind coordv1.Kind, names []string, o acquireOptions, body func(owner string) proto.Message) (*claim, error) {
	if o.wait < 0 {
		return nil, fmt.Errorf("%w: negative time to wait %v", ErrInvalid, o.wait)
	}
	for {
		s := th.own
		if s == nil {
			shared, err := th.client.Session(ctx)
			if err != nil {
				return nil, err
			}
			s = shared
		}
		c, err := s.claim(kind, names, o, body)
		if err == nil {
			if err = c.wait(ctx); err == nil {
				return c, nil
			}
		}
		if th.own != nil || ctx.Err() != nil || !isSessionLost(err) {
			return nil, err
		}
	}
}

// session is one that can carry a request that changes something.
func (th through) session(ctx context.Context) (*Session, error) {
	if th.own != nil {
		return th.own, nil
	}
	return th.client.Session(ctx)
}

// Lock is a named, fair mutex. It holds no state: any number may exist for one name. Safe for concurrent use; several
// goroutines of one session exclude each other like those of several processes, and locking again what one holds waits,
// unless it is done with Reentrant.
type Lock struct {
	through
	name string
}

// Lock returns the lock of that name, acquired through the client's shared session: who waits when the session is lost
// queues again by itself. A name is not empty and does not end in a slash.
func (c *Client) Lock(name string) *Lock { return &Lock{through{client: c}, name} }

// Lock returns the lock of that name, acquired through this session.
func (s *Session) Lock(name string) *Lock { return &Lock{through{s.client, s}, name} }

// Held is a lock that was acquired. Safe for concurrent use.
type Held struct {
	*claim
	inner bool // of a re-entrant hold
}

// Token is the fencing token: greater than that of any earlier holder of the lock. Also Key's create revision.
func (h *Held) Token() int64 { return h.entries[0].token }

// Key is the entry's key in the store.
func (h *Held) Key() string { return h.entries[0].key }

// Name is the lock's name.
func (h *Held) Name() string { return h.names[0] }

// Guard is a precondition for a transaction of etcd's API: it holds as long as this grant exists. See also KV.
func (h *Held) Guard() clientv3.Cmp { return h.entries[0].compare() }

// compare is the guard of an entry that holds. Its key cannot have this create revision and wait.
func (e *entry) compare() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(e.key), "=", e.token)
}

// Release gives the lock to the next in line. It can be repeated. The error wraps ErrLost if the lock was lost before; it is
// ctx's if no server answered in time, and then the session goes on trying. A re-entrant hold releases nothing.
func (h *Held) Release(ctx context.Context) error {
	if h.inner {
		return nil
	}
	if err := h.release(ctx); err != nil {
		return fmt.Errorf("release lock %q: %w", h.names[0], err)
	}
	return nil
}

// Acquire waits until the lock is ours. The error wraps ErrNotAcquired (see Wait), ErrLost (the session ended, or somebody
// removed us from the queue), or the cause of ctx; then the place in the queue was given up.
func (l *Lock) Acquire(ctx context.Context, opts ...AcquireOption) (*Held, error) {
	return l.acquire(ctx, l.client.acquireOptions(opts))
}

// TryAcquire acquires the lock if it is free, and never waits in the queue. The error wraps ErrNotAcquired if it is not.
func (l *Lock) TryAcquire(ctx context.Context, opts ...AcquireOption) (*Held, error) {
	o := l.client.acquireOptions(opts)
	o.try = true
	return l.acquire(ctx, o)
}

func (l *Lock) acquire(ctx context.Context, o acquireOptions) (_ *Held, err error) {
	if o.reentrant {
		if outer := l.client.under(ctx, l.name); outer != nil {
			return &Held{outer, true}, nil
		}
	}
	ctx, end := l.client.config.Hooks.trace(ctx, "acquire", l.name)
	defer func() { end(err) }()
	c, err := l.claim(ctx, coordv1.Kind_KIND_ACQUIRE, []string{l.name}, o, o.acquire(l.name))
	if err != nil {
		return nil, fmt.Errorf("acquire lock %q: %w", l.name, err)
	}
	return &Held{c, false}, nil
}

// acquire makes the request for some names.
func (o *acquireOptions) acquire(names ...string) func(owner string) proto.Message {
	return func(owner string) proto.Message {
		return &coordv1.Acquire{
			Names: names, OwnerId: owner, Owner: o.owner, Labels: o.labels, Try: o.try, LingerMs: o.delay.Milliseconds(),
		}
	}
}

// Do runs fn while the lock is held. fn's context ends before anybody else can hold the lock; context.Cause says why
// (ErrLost). Do waits for fn to return, releases, and returns fn's error, and ErrLost if the lock was lost meanwhile.
func (l *Lock) Do(ctx context.Context, fn func(ctx context.Context, held *Held) error, opts ...AcquireOption) error {
	held, err := l.Acquire(ctx, opts...)
	if err != nil {
		return err
	}
	run := func(ctx context.Context) error { return fn(ctx, held) }
	if held.inner {
		return run(ctx)
	}
	return held.do(ctx, run)
}

// Check says whether the entry with this key and token holds the lock now, as the servers agree.
func (l *Lock) Check(ctx context.Context, key string, token int64) (bool, error) {
	return l.client.CheckToken(ctx, l.name, key, token)
}

// CheckToken says whether the entry with this key and token holds the lock or leads the election now, as the servers agree.
func (c *Client) CheckToken(ctx context.Context, name, key string, token int64) (bool, error) {
	resp := &coordv1.CheckTokenResponse{}
	err := c.t.ask(ctx, nil, request{
		kind: coordv1.Kind_KIND_CHECK_TOKEN, body: &coordv1.CheckTokenRequest{Name: name, Key: key, Token: token}, quick: true,
	}, resp)
	if err != nil {
		return false, fmt.Errorf("check token of %q: %w", name, err)
	}
	return resp.Holds, nil
}

// Describe returns who holds and who waits.
func (l *Lock) Describe(ctx context.Context) (*coordv1.DescribeResponse, error) {
	resp := &coordv1.DescribeResponse{}
	err := l.client.t.ask(ctx, nil, request{kind: coordv1.Kind_KIND_DESCRIBE, body: &coordv1.DescribeRequest{Name: l.name}}, resp)
	if err != nil {
		return nil, fmt.Errorf("describe lock %q: %w", l.name, err)
	}
	return resp, nil
}

// AskRelease asks whoever holds the lock to give it back, see OnAsked; nothing else happens. It returns who was asked; the
// error wraps ErrNotHolder if nobody holds.
func (l *Lock) AskRelease(ctx context.Context, reason string) (*coordv1.Entry, error) {
	s, err := l.session(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the holder of lock %q: %w", l.name, err)
	}
	resp := &coordv1.Asked{}
	err = l.client.t.ask(ctx, s, request{
		kind: coordv1.Kind_KIND_ASK_RELEASE, body: &coordv1.AskRelease{Name: l.name, From: l.client.config.Owner, Reason: reason},
	}, resp)
	if err == nil && resp.Holder == nil {
		err = fmt.Errorf("%w: nobody holds", ErrNotHolder)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the holder of lock %q: %w", l.name, err)
	}
	return resp.Holder, nil
}
