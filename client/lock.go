package client

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// recipe is what all recipes have in common: where they get their session from.
type recipe struct {
	client *Client
	own    *Session // nil: the client's shared session
}

// admit gets an admission that holds. If the shared session is lost meanwhile, it queues again in the next one: nothing
// of what a lost session asked for stays.
func (r recipe) admit(ctx context.Context, kind coordv1.Kind, names []string, o options,
	body func(owner string) proto.Message) (*admission, error) {
	if o.maxWait < 0 {
		return nil, fmt.Errorf("%w: negative time to wait %v", ErrInvalid, o.maxWait)
	}
	for {
		s := r.own
		if s == nil {
			shared, err := r.client.Session(ctx)
			if err != nil {
				return nil, err
			}
			s = shared
		}
		if r.own == nil && kind == coordv1.Kind_KIND_BARRIER_ENTER {
			if err := r.client.awaitPredecessors(ctx, o.maxWait); err != nil {
				return nil, err
			}
		}
		c, err := s.admit(kind, names, o, body)
		if err == nil {
			if err = c.wait(ctx); err == nil {
				return c, nil
			}
		}
		if r.own != nil || ctx.Err() != nil || !isSessionLost(err) {
			return nil, err
		}
	}
}

// session is one that can carry a request that changes something.
func (r recipe) session(ctx context.Context) (*Session, error) {
	if r.own != nil {
		return r.own, nil
	}
	return r.client.Session(ctx)
}

// acquire is admit for one name, with the traces and the error of an acquire.
func (r recipe) acquire(ctx context.Context, kind coordv1.Kind, name string, o options,
	body func(owner string) proto.Message) (_ *admission, err error) {
	ctx, end := r.client.config.Hooks.trace(ctx, "acquire", name)
	defer func() { end(err) }()
	c, err := r.admit(ctx, kind, []string{name}, o, body)
	if err != nil {
		return nil, fmt.Errorf("acquire %s %q: %w", kindNames[kind], name, err)
	}
	return c, nil
}

// describe asks for who holds and who waits in a queue.
func (r recipe) describe(ctx context.Context, kind coordv1.QueueKind, name string) (*coordv1.DescribeResponse, error) {
	resp := &coordv1.DescribeResponse{}
	req := request{kind: coordv1.Kind_KIND_DESCRIBE, body: &coordv1.DescribeRequest{Name: name, Kind: kind}}
	if err := r.client.t.ask(ctx, nil, req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// Lock is a named, fair mutex. It holds no state: any number may exist for one name. Safe for concurrent use; several
// goroutines of one session exclude each other like those of several processes, and locking again what one holds waits,
// unless it is done WithReentry.
type Lock struct {
	recipe
	name string
}

// Lock returns the lock of that name, acquired through the client's shared session: who waits when the session is lost
// queues again by itself. A name is not empty and does not end in a slash.
func (c *Client) Lock(name string) *Lock { return &Lock{recipe{client: c}, name} }

// Lock returns the lock of that name, acquired through this session.
func (s *Session) Lock(name string) *Lock { return &Lock{recipe{s.client, s}, name} }

// Held is a lock, or something like it, that was acquired. Safe for concurrent use.
type Held struct {
	Grant
	inner bool // of a re-entrant hold
}

// Token is the fencing token: greater than that of any earlier holder. Also Key's create revision.
func (h *Held) Token() int64 { return h.entries[0].token }

// Key is the entry's key in the store.
func (h *Held) Key() string { return h.entries[0].key }

// Name is the name of the lock, or of what it is.
func (h *Held) Name() string { return h.names[0] }

// Guards are preconditions for a transaction of etcd's API: they hold as long as this grant exists. See also KV.
func (h *Held) Guards() []clientv3.Cmp { return h.entries[0].guards() }

// guards are those of an entry that holds: its key cannot have this create revision and wait. The lease counts, too: a
// client of etcd's API that puts the key on its own keeps the create revision, and may lead by it then (L10).
func (e *entry) guards() []clientv3.Cmp {
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(e.key), "=", e.token),
		clientv3.Compare(clientv3.LeaseValue(e.key), "=", e.admission.s.Lease()),
	}
}

// Release gives the lock to the next in line. It can be repeated. The error wraps ErrLost if the lock was lost before;
// it is ctx's if no server answered in time, and then the session goes on trying. A re-entrant hold releases nothing.
func (h *Held) Release(ctx context.Context) error {
	if h.inner {
		return nil
	}
	if err := h.release(ctx); err != nil {
		return fmt.Errorf("release %s: %w", h.what(), err)
	}
	return nil
}

// Acquire waits until the lock is ours. The error wraps ErrNotAcquired (see WithMaxWait), ErrLost (the session ended,
// or somebody removed us from the queue), or the cause of ctx; then the place in the queue was given up.
func (l *Lock) Acquire(ctx context.Context, opts ...LockOption) (*Held, error) {
	return l.acquire(ctx, ofAcquire(l.client, opts))
}

// TryAcquire acquires the lock if it is free, and never waits in the queue. The error wraps ErrNotAcquired if it is
// not.
func (l *Lock) TryAcquire(ctx context.Context, opts ...LockOption) (*Held, error) {
	return l.acquire(ctx, ofTry(l.client, opts))
}

func (l *Lock) acquire(ctx context.Context, o options) (*Held, error) {
	if o.reentry {
		if outer := l.client.under(ctx, coordv1.Kind_KIND_ACQUIRE, l.name); outer != nil {
			return &Held{Grant{outer}, true}, nil
		}
	}
	c, err := l.recipe.acquire(ctx, coordv1.Kind_KIND_ACQUIRE, l.name, o, o.acquire(l.name))
	if err != nil {
		return nil, err
	}
	return &Held{Grant{c}, false}, nil
}

// acquire makes the request for some names.
func (o *options) acquire(names ...string) func(owner string) proto.Message {
	return func(owner string) proto.Message {
		return &coordv1.Acquire{
			Names: names, OwnerId: owner, Owner: o.owner, Labels: o.labels, Try: o.try,
			LingerMs: o.delay.Milliseconds(),
		}
	}
}

// Do runs fn while the lock is held. fn's context ends before anybody else can hold the lock; context.Cause says why
// (ErrLost). Do waits for fn to return, releases, and returns fn's error, and ErrLost if the lock was lost meanwhile.
func (l *Lock) Do(ctx context.Context, fn func(ctx context.Context, held *Held) error, opts ...LockOption) error {
	held, err := l.Acquire(ctx, opts...)
	if err != nil {
		return err
	}
	return held.run(ctx, func(ctx context.Context) error { return fn(ctx, held) })
}

// run runs fn while it holds, and then releases, unless it is a re-entrant hold.
func (h *Held) run(ctx context.Context, fn func(context.Context) error) error {
	if h.inner {
		return fn(ctx)
	}
	return h.do(ctx, fn)
}

// Check says whether the entry with this key and token holds the lock now, as the servers agree.
func (l *Lock) Check(ctx context.Context, key string, token int64) (bool, error) {
	return l.client.CheckToken(ctx, l.name, key, token)
}

// CheckToken says whether the entry with this key and token holds or leads now, of whatever kind it is, as the servers
// agree.
func (c *Client) CheckToken(ctx context.Context, name, key string, token int64) (bool, error) {
	resp := &coordv1.CheckTokenResponse{}
	err := c.t.ask(ctx, nil, request{
		kind: coordv1.Kind_KIND_CHECK_TOKEN, body: &coordv1.CheckTokenRequest{Name: name, Key: key, Token: token},
		quick: true,
	}, resp)
	if err != nil {
		return false, fmt.Errorf("check token of %q: %w", name, err)
	}
	return resp.Holds, nil
}

// Describe returns who holds and who waits.
func (l *Lock) Describe(ctx context.Context) (Queue, error) {
	resp, err := l.describe(ctx, coordv1.QueueKind_QUEUE_LOCK, l.name)
	if err != nil {
		return Queue{}, fmt.Errorf("describe lock %q: %w", l.name, err)
	}
	return queueOf(resp), nil
}

// AskRelease asks whoever holds the lock to give it back, see OnAsked; nothing else happens. It returns who was asked;
// the error wraps ErrNotHolder if nobody holds.
func (l *Lock) AskRelease(ctx context.Context, reason string) (QueueEntry, error) {
	s, err := l.session(ctx)
	if err != nil {
		return QueueEntry{}, fmt.Errorf("ask the holder of lock %q: %w", l.name, err)
	}
	resp := &coordv1.Asked{}
	err = l.client.t.ask(ctx, s, request{
		kind: coordv1.Kind_KIND_ASK_RELEASE,
		body: &coordv1.AskRelease{Name: l.name, From: l.client.config.Owner, Reason: reason},
	}, resp)
	if err == nil && resp.Holder == nil {
		err = fmt.Errorf("%w: nobody holds", ErrNotHolder)
	}
	if err != nil {
		return QueueEntry{}, fmt.Errorf("ask the holder of lock %q: %w", l.name, err)
	}
	return entryOf(resp.Holder), nil
}
