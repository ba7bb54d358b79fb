package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// session is a lease that is kept alive until ctx ends. Its end has a cause: lost or released.
type session struct {
	client *clientv3.Client
	leases pb.LeaseClient
	lease  clientv3.LeaseID
	ttl    time.Duration

	ctx context.Context
	end context.CancelCauseFunc
	// watch is a child of ctx, ended first on release, so that the own delete is not taken for a loss.
	watch     context.Context
	stopWatch context.CancelFunc
	loops     sync.WaitGroup
}

// openSession grants a lease, which the caller must close.
func openSession(ctx context.Context, client *clientv3.Client, ttl time.Duration) (*session, error) {
	s := &session{client: client, leases: pb.NewLeaseClient(client.ActiveConnection())}
	var sent time.Time
	err := retry(ctx, func(ctx context.Context) error {
		sent = time.Now()
		resp, err := client.Grant(ctx, wholeSeconds(ttl))
		if err != nil {
			return err
		}
		s.lease, s.ttl = resp.ID, time.Duration(resp.TTL)*time.Second
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	s.watch, s.stopWatch = context.WithCancel(s.ctx)
	s.loops.Go(func() { s.keepAlive(sent.Add(guaranteed(s.ttl))) })
	return s, nil
}

// wholeSeconds is the TTL as the API takes it, rounded up.
func wholeSeconds(ttl time.Duration) int64 {
	return int64((ttl + time.Second - 1) / time.Second)
}

// guaranteed is the part of a TTL that a client counts on, from the moment it sent the request. The server starts
// counting later; the rest is for clocks that run at different rates and for a late reaction of ours.
func guaranteed(ttl time.Duration) time.Duration { return ttl - ttl/10 }

// keepAlive renews three times a TTL, more often after a failure, and ends the session at the deadline.
func (s *session) keepAlive(deadline time.Time) {
	pause := s.ttl / 3
	for sleep(s.ctx, min(pause, time.Until(deadline))) {
		sent := time.Now()
		if !sent.Before(deadline) {
			s.end(fmt.Errorf("%w: the lease could not be renewed for %v", ErrLost, guaranteed(s.ttl)))
			return
		}
		ttl, err := s.renew(min(s.ttl/3, deadline.Sub(sent)))
		switch {
		case err != nil:
			pause = s.ttl / 20
		case ttl <= 0:
			s.end(fmt.Errorf("%w: the lease expired or was revoked", ErrLost))
			return
		default:
			pause, deadline = s.ttl/3, sent.Add(guaranteed(ttl))
		}
	}
}

// renew sends one keep-alive and returns the new TTL, 0 if there is no such lease. It does not use clientv3's KeepAliveOnce,
// which retries without a pause.
func (s *session) renew(timeout time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	stream, err := s.leases.LeaseKeepAlive(ctx)
	if err != nil {
		return 0, err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(s.lease)}); err != nil {
		return 0, err
	}
	resp, err := stream.Recv()
	if err != nil {
		return 0, err
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

// watchEntry ends the session when the entry created at revision token is deleted.
func (s *session) watchEntry(key string, token int64) {
	s.loops.Go(func() {
		from := token + 1
		for sleep(s.watch, 0) {
			if s.seesDelete(key, from) {
				s.end(fmt.Errorf("%w: entry %s was deleted", ErrLost, key))
				return
			}
			// The watch broke or the past is compacted: look at the present, and watch on from there.
			if !sleep(s.watch, retryPause) {
				return
			}
			resp, err := s.client.Get(s.watch, key)
			switch {
			case err != nil:
			case len(resp.Kvs) == 0 || resp.Kvs[0].CreateRevision != token:
				s.end(fmt.Errorf("%w: entry %s was deleted", ErrLost, key))
				return
			default:
				from = resp.Header.Revision + 1
			}
		}
	})
}

// seesDelete watches key from a revision on until it is deleted, and returns false if the watch ended without telling.
func (s *session) seesDelete(key string, from int64) bool {
	ctx, cancel := context.WithCancel(s.watch)
	defer cancel()
	for resp := range s.client.Watch(ctx, key, clientv3.WithRev(from), clientv3.WithFilterPut()) {
		if len(resp.Events) > 0 {
			return true
		}
		if resp.Err() != nil {
			return false
		}
	}
	return false
}

// bind returns a context that also ends with the session, with the session's cause then.
func (s *session) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	unbind := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	return ctx, func() { unbind(); cancel(nil) }
}

// close ends the session and revokes the lease, which deletes whatever is attached to it. The lease is given one TTL to be
// revoked; then it has expired.
func (s *session) close(cause error) {
	s.end(cause)
	s.stopWatch()
	s.loops.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), min(s.ttl, revokeTimeout))
	defer cancel()
	_ = retry(ctx, func(ctx context.Context) error {
		_, err := s.client.Revoke(ctx, s.lease)
		return err
	})
}
