package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Pauses between attempts that fail at once.
const (
	minPause = 10 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// renew keeps the lease alive until the session ends: a renewal each third of the TTL, and after a failure at once again,
// on a new stream and through another member.
func (s *Session) renew() {
	pause := minPause
	for s.ctx.Err() == nil {
		at := s.currentStay()
		renewed, err := s.renewOn(at)
		switch {
		case s.ctx.Err() != nil:
			return
		case errors.Is(err, ErrSessionExpired):
			s.end(err)
			return
		case renewed:
			pause = minPause
		default:
			pause = min(2*pause, maxPause)
		}
		s.moveOn(at, fmt.Sprintf("renewal: %v", err))
		if !sleep(s.ctx, min(pause, s.attempt)) {
			return
		}
	}
}

// renewOn renews on one stream until it fails. The first renewal of a session waits for its time.
func (s *Session) renewOn(at *stay) (renewed bool, err error) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	if at != nil {
		defer context.AfterFunc(at.ctx, cancel)()
	}
	var stream keepAlive
	for {
		if !sleep(s.ctx, s.untilRenewal()) {
			return renewed, s.ctx.Err()
		}
		attempt := time.AfterFunc(s.attempt, cancel)
		sent := s.clock()
		if stream == nil {
			if stream, err = s.open(ctx); err != nil {
				return renewed, err
			}
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(s.lease)}); err != nil {
			return renewed, err
		}
		resp, err := stream.Recv()
		if err != nil {
			return renewed, err
		}
		if resp.TTL <= 0 {
			return renewed, fmt.Errorf("%w: the server does not know it any more", ErrSessionExpired)
		}
		attempt.Stop()
		s.acknowledged(sent, time.Duration(resp.TTL)*time.Second)
		renewed = true
	}
}

// untilRenewal is the time until the next renewal is due.
func (s *Session) untilRenewal() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, s.deadline.sent+s.deadline.ttl/renewShare-s.clock())
}

// currentStay and moveOn do nothing in a session without a client, as tests have it.
func (s *Session) currentStay() *stay {
	if s.client == nil {
		return nil
	}
	return s.client.members.current()
}

func (s *Session) moveOn(from *stay, why string) {
	if s.client != nil {
		s.client.members.leave(from, why)
	}
}

// retry calls fn, each time with a longer bound, until it succeeds or is refused or ctx ends. It moves on to another member
// after each attempt that got no answer. fn must be idempotent.
func (c *Client) retry(ctx context.Context, attempt time.Duration, fn func(context.Context) error) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		at := c.members.current()
		bounded, cancel := context.WithTimeout(ctx, attempt)
		stop := context.AfterFunc(at.ctx, cancel)
		err := fromWire(fn(bounded))
		stop()
		cancel()
		switch {
		case err == nil:
			return nil
		case c.Ctx().Err() != nil:
			return ErrClosed
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case !retryable(err):
			return err
		}
		c.members.leave(at, err.Error())
		attempt = min(2*attempt, maxAttempt)
		if !sleep(ctx, pause) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// read is retry for a question that has no session.
func (c *Client) read(ctx context.Context, fn func(context.Context) error) error {
	return c.retry(ctx, attemptTime(c.config.SessionTTL), fn)
}

// leaseIsGone says whether a server answered that the lease does not exist.
func leaseIsGone(err error) bool {
	return errors.Is(err, ErrSessionExpired) || rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound)
}
