package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Lock is a named, fair mutex. It holds no state: any number may exist for one name. Safe for concurrent use; several
// goroutines of one session exclude each other like those of several processes, and locking again what one holds waits.
type Lock struct {
	client  *Client
	session func(context.Context) (*Session, error)
	name    string
}

// Lock returns the lock of that name, acquired through the client's shared session. A name is not empty and does not
// end in a slash.
func (c *Client) Lock(name string) *Lock { return &Lock{client: c, session: c.Session, name: name} }

// Lock returns the lock of that name, acquired through this session.
func (s *Session) Lock(name string) *Lock {
	return &Lock{client: s.client, session: func(context.Context) (*Session, error) { return s, nil }, name: name}
}

// Held is a lock that was acquired. Safe for concurrent use.
type Held struct{ *grant }

// Token is the fencing token: greater than that of any earlier holder of the lock. Also Key's create revision.
func (h *Held) Token() int64 { return h.token }

// Release gives the lock to the next in line. It can be repeated. The error wraps ErrLost if the lock was lost before; it is
// ctx's if no server answered in time, and then the session goes on trying.
func (h *Held) Release(ctx context.Context) error {
	if err := h.giveBack(ctx); err != nil {
		return fmt.Errorf("release lock %q: %w", h.request.name, err)
	}
	return nil
}

// Acquire waits until the lock is ours. The error wraps ErrNotAcquired (see Wait), ErrLost (the session ended, or somebody
// removed us from the queue), or the cause of ctx; then the place in the queue was given up.
func (l *Lock) Acquire(ctx context.Context, opts ...AcquireOption) (*Held, error) {
	return l.acquire(ctx, opts, func(s *Session, svc lockService, o acquireOptions) (*grant, error) {
		return s.contend(ctx, svc, l.name, o)
	})
}

// TryAcquire acquires the lock if it is free, and never waits in the queue. The error wraps ErrNotAcquired if it is not.
func (l *Lock) TryAcquire(ctx context.Context, opts ...AcquireOption) (*Held, error) {
	return l.acquire(ctx, opts, func(s *Session, svc lockService, o acquireOptions) (*grant, error) {
		return s.tryOnce(ctx, svc, l.name, o)
	})
}

func (l *Lock) acquire(ctx context.Context, opts []AcquireOption, how func(*Session, lockService, acquireOptions) (*grant, error)) (*Held, error) {
	o := acquireOptions{owner: l.client.config.Owner}
	for _, opt := range opts {
		opt(&o)
	}
	s, err := l.session(ctx)
	if err != nil {
		return nil, fmt.Errorf("acquire lock %q: %w", l.name, err)
	}
	g, err := how(s, lockService{rpc: l.client.lock, owner: o.owner, labels: o.labels}, o)
	if err != nil {
		return nil, fmt.Errorf("acquire lock %q: %w", l.name, err)
	}
	return &Held{g}, nil
}

// Do runs fn while the lock is held. fn's context ends before anybody else can hold the lock; context.Cause says why
// (ErrLost). Do waits for fn to return, releases, and returns fn's error, and ErrLost if the lock was lost meanwhile.
func (l *Lock) Do(ctx context.Context, fn func(ctx context.Context, held *Held) error, opts ...AcquireOption) error {
	held, err := l.Acquire(ctx, opts...)
	if err != nil {
		return err
	}
	return held.do(ctx, func(ctx context.Context) error { return fn(ctx, held) })
}

// Check says whether the entry with this key and token holds the lock now, as the servers agree.
func (l *Lock) Check(ctx context.Context, key string, token int64) (bool, error) {
	var resp *coordv1.CheckTokenResponse
	err := l.client.read(ctx, func(ctx context.Context) (err error) {
		resp, err = l.client.lock.CheckToken(ctx, &coordv1.CheckTokenRequest{Name: l.name, Key: key, Token: token}, grpc.WaitForReady(true))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("check token of lock %q: %w", l.name, err)
	}
	return resp.Holds, nil
}

// Describe returns who holds and who waits.
func (l *Lock) Describe(ctx context.Context) (*coordv1.DescribeResponse, error) {
	var resp *coordv1.DescribeResponse
	err := l.client.read(ctx, func(ctx context.Context) (err error) {
		resp, err = l.client.lock.Describe(ctx, &coordv1.DescribeRequest{Name: l.name}, grpc.WaitForReady(true))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("describe lock %q: %w", l.name, err)
	}
	return resp, nil
}

// lockService implements service for locks.
type lockService struct {
	rpc    coordv1.LockClient
	owner  string
	labels map[string]string
}

func (ls lockService) open(ctx context.Context, r attachment) (func() (event, error), error) {
	stream, err := ls.rpc.Acquire(ctx, &coordv1.AcquireRequest{
		Name: r.name, Lease: r.lease, OwnerId: r.ownerID, Owner: ls.owner, Labels: ls.labels,
		WaitMs: r.wait.Milliseconds(), ResumeToken: r.resume, GraceMs: r.grace.Milliseconds(),
	}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	return func() (event, error) {
		ev, err := stream.Recv()
		return event{queued: ev.GetQueued(), granted: ev.GetGranted(), notAcquired: ev.GetNotAcquired(), lost: ev.GetLost()}, err
	}, nil
}

// try asks once; the answer is nil if the entry does not hold, and then there is none.
func (ls lockService) try(ctx context.Context, r attachment) (*coordv1.Granted, error) {
	resp, err := ls.rpc.TryAcquire(ctx, &coordv1.TryAcquireRequest{
		Name: r.name, Lease: r.lease, OwnerId: r.ownerID, Owner: ls.owner, Labels: ls.labels,
	}, grpc.WaitForReady(true))
	return resp.GetGranted(), err
}

func (ls lockService) remove(ctx context.Context, name, key string, token int64) error {
	_, err := ls.rpc.Release(ctx, &coordv1.ReleaseRequest{Name: name, Key: key, Token: token}, grpc.WaitForReady(true))
	return err
}
