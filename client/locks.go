package client

import (
	"context"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Locks is several locks that are acquired together: they are enqueued at one revision, so that those who want some of
// the same ones cannot wait for each other in a circle. It holds no state. Safe for concurrent use.
type Locks struct {
	recipe
	names []string
}

// Locks returns the locks of these names, 1 to 64 and all different, acquired through the client's shared session.
func (c *Client) Locks(names ...string) *Locks {
	return &Locks{recipe{client: c}, slices.Clone(names)}
}

// Locks returns the locks of these names, acquired through this session.
func (s *Session) Locks(names ...string) *Locks {
	return &Locks{recipe{s.client, s}, slices.Clone(names)}
}

// HeldLocks is several locks that are held. When one is lost, the others are given back, and all count as lost. Safe
// for concurrent use.
type HeldLocks struct{ Grant }

// Token is the fencing token of one of the names, 0 if it is none of them.
func (h *HeldLocks) Token(name string) int64 {
	if i := slices.Index(h.names, name); i >= 0 {
		return h.entries[i].token
	}
	return 0
}

// Key is the key of the entry of one of the names, "" if it is none of them.
func (h *HeldLocks) Key(name string) string {
	if i := slices.Index(h.names, name); i >= 0 {
		return h.entries[i].key
	}
	return ""
}

// Names are the locks' names, in the order given.
func (h *HeldLocks) Names() []string { return slices.Clone(h.names) }

// Guards are preconditions for a transaction of etcd's API: all locks are still held. See also KV.
func (h *HeldLocks) Guards() []clientv3.Cmp {
	var guards []clientv3.Cmp
	for _, e := range h.entries {
		guards = append(guards, e.guards()...)
	}
	return guards
}

// Release gives all of them back, see Held.Release.
func (h *HeldLocks) Release(ctx context.Context) error {
	if err := h.release(ctx); err != nil {
		return fmt.Errorf("release locks %q: %w", h.names, err)
	}
	return nil
}

// Acquire waits until all are ours. Errors are those of Lock.Acquire.
func (l *Locks) Acquire(ctx context.Context, opts ...LocksOption) (*HeldLocks, error) {
	return l.acquire(ctx, ofAcquire(l.client, opts))
}

// TryAcquire acquires all of them if all are free, else none.
func (l *Locks) TryAcquire(ctx context.Context, opts ...LocksOption) (*HeldLocks, error) {
	return l.acquire(ctx, ofTry(l.client, opts))
}

func (l *Locks) acquire(ctx context.Context, o options) (_ *HeldLocks, err error) {
	ctx, end := l.client.config.Hooks.trace(ctx, "acquire", fmt.Sprintf("%q", l.names))
	defer func() { end(err) }()
	c, err := l.admit(ctx, coordv1.Kind_KIND_ACQUIRE, l.names, o, o.acquire(l.names...))
	if err != nil {
		return nil, fmt.Errorf("acquire locks %q: %w", l.names, err)
	}
	return &HeldLocks{Grant{c}}, nil
}

// Do runs fn while all are held, see Lock.Do.
func (l *Locks) Do(ctx context.Context, fn func(ctx context.Context, held *HeldLocks) error,
	opts ...LocksOption) error {
	held, err := l.Acquire(ctx, opts...)
	if err != nil {
		return err
	}
	return held.do(ctx, func(ctx context.Context) error { return fn(ctx, held) })
}
