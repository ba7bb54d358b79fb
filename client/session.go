package client

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// SessionOption configures NewSession.
type SessionOption func(*sessionOptions)

type sessionOptions struct {
	ttl     time.Duration
	onState func(State)
}

// WithTTL sets the TTL, rounded up to whole seconds; the server may raise it. Default: Config.SessionTTL.
func WithTTL(ttl time.Duration) SessionOption { return func(o *sessionOptions) { o.ttl = ttl } }

// WithOnState has fn called at each change of state, one call at a time, on a goroutine of the session: it must not block.
// What is held is lost before fn hears of Lost.
func WithOnState(fn func(State)) SessionOption { return func(o *sessionOptions) { o.onState = fn } }

// Session is a lease that is kept alive, and what it holds. Safe for concurrent use.
type Session struct {
	client  *Client
	lease   clientv3.LeaseID
	clock   clock
	attempt time.Duration
	onState func(State)
	open    func(ctx context.Context) (keepAlive, error)

	ctx     context.Context // ends, with the reason as cause, when the session does
	end     context.CancelCauseFunc
	running sync.WaitGroup // renewals, watch over the clock, contenders

	mu       sync.Mutex
	deadline deadline
	state    State
	owners   map[string]map[string]bool // by name: owner ids in use
	serial   uint64                     // of the last owner id that was made up
	over     bool                       // no more goroutines are started
}

// keepAlive is a stream of the Lease service.
type keepAlive interface {
	Send(*pb.LeaseKeepAliveRequest) error
	Recv() (*pb.LeaseKeepAliveResponse, error)
}

// NewSession grants a lease and keeps it alive until Close, or until it is lost. ctx bounds the grant only.
func (c *Client) NewSession(ctx context.Context, opts ...SessionOption) (*Session, error) {
	o := sessionOptions{ttl: c.config.SessionTTL, onState: func(State) {}}
	for _, opt := range opts {
		opt(&o)
	}
	if o.ttl <= 0 {
		return nil, fmt.Errorf("session: TTL %v is not positive", o.ttl)
	}
	seconds := int64((o.ttl + time.Second - 1) / time.Second)
	resp, sent, err := c.grant(ctx, seconds)
	if err != nil {
		return nil, fmt.Errorf("session: grant a lease of %d s: %w", seconds, err)
	}
	granted := deadline{ttl: time.Duration(resp.TTL) * time.Second, sent: sent}
	s := newSession(c.clock, clientv3.LeaseID(resp.ID), granted, o.onState)
	s.client = c
	context.AfterFunc(c.Ctx(), func() { s.end(ErrClosed) })
	s.open = func(ctx context.Context) (keepAlive, error) {
		return c.lease.LeaseKeepAlive(ctx, grpc.WaitForReady(true))
	}
	s.begin()
	return s, nil
}

// grant asks for a lease until ctx ends. A lease whose answer was lost dies by itself.
func (c *Client) grant(ctx context.Context, seconds int64) (resp *pb.LeaseGrantResponse, sent time.Duration, err error) {
	err = c.retry(ctx, attemptTime(time.Duration(seconds)*time.Second), func(ctx context.Context) error {
		sent = c.clock()
		resp, err = c.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: seconds}, grpc.WaitForReady(true))
		return err
	})
	return resp, sent, err
}

func newSession(clock clock, lease clientv3.LeaseID, granted deadline, onState func(State)) *Session {
	ctx, end := context.WithCancelCause(context.Background())
	return &Session{
		lease: lease, clock: clock, attempt: attemptTime(granted.ttl), onState: onState, ctx: ctx, end: end,
		deadline: granted, owners: map[string]map[string]bool{},
	}
}

func (s *Session) begin() {
	s.running.Go(s.watchClock)
	s.running.Go(s.renew)
}

// Lease is the session's lease, for keys that shall live as long as the session.
func (s *Session) Lease() clientv3.LeaseID { return s.lease }

// State is the session's state now.
func (s *Session) State() State {
	if s.ctx.Err() != nil {
		return Lost
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadline.state(s.clock())
}

// Deadline is the instant until which the session is guaranteed, in terms of the local wall clock; each acknowledged
// renewal moves it. The zero time if the session is lost.
func (s *Session) Deadline() time.Time {
	if s.ctx.Err() != nil {
		return time.Time{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.deadline.at() - s.clock())
}

// Done is closed when the session is lost or closed.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Err is nil while the session lives; then ErrSessionExpired or ErrSessionClosed, with details.
func (s *Session) Err() error { return context.Cause(s.ctx) }

// Close ends the session: what it holds is lost at once (release it before), its lease is revoked, and its goroutines are
// awaited. If the revocation fails within ctx the error says so, and the lease dies by itself. Later calls do nothing.
func (s *Session) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.over
	s.over = true
	s.mu.Unlock()
	expired := s.ctx.Err() != nil
	s.end(ErrSessionClosed)
	s.running.Wait()
	if !first || expired {
		return nil
	}
	err := s.client.retry(ctx, s.attempt, func(ctx context.Context) error {
		_, err := s.client.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: int64(s.lease)}, grpc.WaitForReady(true))
		return err
	})
	if err != nil && !leaseIsGone(err) {
		return fmt.Errorf("close session %x: %w", int64(s.lease), err)
	}
	return nil
}

// start runs fn on a goroutine that Close waits for; false if the session is closed.
func (s *Session) start(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.running.Go(fn)
	return true
}

// watchClock tells the changes of state, and ends the session at its deadline.
func (s *Session) watchClock() {
	for {
		s.mu.Lock()
		now := s.clock()
		state, left := s.deadline.state(now), s.deadline.at()-now
		poll, changed := pollTime(s.deadline.ttl), state != s.state
		s.state = state
		s.mu.Unlock()
		if state == Lost {
			s.end(fmt.Errorf("%w: no renewal was acknowledged in time", ErrSessionExpired))
		}
		if changed && s.ctx.Err() == nil {
			s.onState(state)
		}
		if !sleep(s.ctx, min(poll, left)) {
			s.onState(Lost)
			return
		}
	}
}

// acknowledged takes over a renewal. It comes too late if the deadline has passed: the holders were told.
func (s *Session) acknowledged(sent, ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = s.deadline.renewed(sent, ttl)
}

// claimOwner returns an owner id for one more entry of name: the first one has none, so that it looks like an etcd client's.
func (s *Session) claimOwner(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.owners[name]
	if used == nil {
		used = map[string]bool{}
		s.owners[name] = used
	}
	id := ""
	if used[id] {
		s.serial++
		id = strconv.FormatUint(s.serial, 36)
	}
	used[id] = true
	return id
}

// releaseOwner makes an owner id available again, once its entry is known to be gone.
func (s *Session) releaseOwner(name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.owners[name], id)
	if len(s.owners[name]) == 0 {
		delete(s.owners, name)
	}
}
