package client

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// RWLock is a named, fair read-write lock: many readers or one writer hold it, and nobody is overtaken, so a reader
// that comes while a writer waits is served after that. It is another lock than the Lock of its name. It holds no
// state. Safe for concurrent use; goroutines of one session exclude each other like processes.
type RWLock struct {
	recipe
	name string
}

// RWLock returns the read-write lock of that name, acquired through the client's shared session; see Lock.
func (c *Client) RWLock(name string) *RWLock { return &RWLock{recipe{client: c}, name} }

// RWLock returns the read-write lock of that name, acquired through this session.
func (s *Session) RWLock(name string) *RWLock { return &RWLock{recipe{s.client, s}, name} }

// Mode is what a read-write lock is acquired for.
type Mode int

// The modes. The zero Mode is neither.
const (
	Read  Mode = iota + 1 // beside other readers
	Write                 // alone
)

// RWHeld is a read-write lock that is held, for reading or for writing. A writer's Token is a fencing token as a
// lock's. Readers hold together, so their tokens order nothing: Guards and KV say that this grant still lives. Safe for
// concurrent use.
type RWHeld struct{ Held }

// Writes says whether it is held for writing.
func (h *RWHeld) Writes() bool {
	h.s.t.lock()
	defer h.s.t.unlock()
	return !h.reads
}

// Downgrade makes a writer a reader, with the same token and without letting another writer in between; readers that
// wait for it hold at the same time. From the call on only reading is safe, whatever the error, and it can be repeated.
// The error wraps ErrLost, ErrReleased or ErrNotHolder if it is not held any more.
func (h *RWHeld) Downgrade(ctx context.Context) error {
	h.s.t.lock()
	h.reads = true
	err := h.err
	h.s.t.unlock()
	if err == nil {
		req := request{kind: coordv1.Kind_KIND_RW_DOWNGRADE, body: &coordv1.RWDowngrade{Entry: h.entries[0].guard()}}
		_, err = h.s.t.do(ctx, h.s, req)
	}
	if err != nil {
		return fmt.Errorf("downgrade %s: %w", h.what(), err)
	}
	return nil
}

// Acquire waits until we hold in the mode. Errors are those of Lock.Acquire, and to write ErrUpgrade if ctx is of a
// hold to read (Do, Held.Context): it would wait for itself.
func (l *RWLock) Acquire(ctx context.Context, mode Mode, opts ...RWLockOption) (*RWHeld, error) {
	return l.acquire(ctx, mode, ofAcquire(l.client, opts))
}

// TryAcquire holds in the mode if that is possible now, and never waits: to read, if nobody writes or waits to write;
// to write, if nobody holds or waits. The error wraps ErrNotAcquired if it is not.
func (l *RWLock) TryAcquire(ctx context.Context, mode Mode, opts ...RWLockOption) (*RWHeld, error) {
	return l.acquire(ctx, mode, ofTry(l.client, opts))
}

func (l *RWLock) acquire(ctx context.Context, mode Mode, o options) (*RWHeld, error) {
	if mode != Read && mode != Write {
		return nil, fmt.Errorf("acquire read-write lock %q: %w: mode %d is neither Read nor Write", l.name, ErrInvalid,
			mode)
	}
	if outer := l.client.under(ctx, coordv1.Kind_KIND_RW_ACQUIRE, l.name); outer != nil {
		held := &RWHeld{Held{Grant{outer}, true}}
		switch {
		case mode == Write && !held.Writes():
			return nil, fmt.Errorf("acquire %s: %w", outer.what(), ErrUpgrade)
		case o.reentry:
			return held, nil
		}
	}
	c, err := l.recipe.acquire(ctx, coordv1.Kind_KIND_RW_ACQUIRE, l.name, o, func(owner string) proto.Message {
		return &coordv1.RWAcquire{
			Name: l.name, OwnerId: owner, Owner: o.owner, Labels: o.labels, Try: o.try,
			LingerMs: o.delay.Milliseconds(),
			Write:    mode == Write,
		}
	})
	if err != nil {
		return nil, err
	}
	c.s.t.lock()
	defer c.s.t.unlock()
	c.reads = mode == Read
	return &RWHeld{Held{Grant{c}, false}}, nil
}

// Do runs fn while we hold in the mode, see Lock.Do.
func (l *RWLock) Do(ctx context.Context, mode Mode, fn func(ctx context.Context, held *RWHeld) error,
	opts ...RWLockOption) error {
	held, err := l.Acquire(ctx, mode, opts...)
	if err != nil {
		return err
	}
	return held.run(ctx, func(ctx context.Context) error { return fn(ctx, held) })
}

// Describe returns who holds and who waits.
func (l *RWLock) Describe(ctx context.Context) (Queue, error) {
	resp, err := l.describe(ctx, coordv1.QueueKind_QUEUE_RWLOCK, l.name)
	if err != nil {
		return Queue{}, fmt.Errorf("describe read-write lock %q: %w", l.name, err)
	}
	return queueOf(resp), nil
}
