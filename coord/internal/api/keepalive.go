package api

import (
	"context"
	"errors"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/coord/internal/guard"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

const (
	// maxRenewBatch is the number of leases renewed by one command.
	maxRenewBatch = 4096
	// maxRenewPending is the number of requests that wait on one stream before it is read no further.
	maxRenewPending = 4 * maxRenewBatch
)

// LeaseKeepAlive renews leases and answers in the order of the requests, with a TTL of 0 for a lease that is unknown or
// expired. An etcd client sends all its leases over one stream, again and again: while one command is under way the
// requests gather, and the next command carries them all. So a stream of any length waits for two commits at most.
func (s *leaseServer) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	ctx := stream.Context()
	requests := newRenewQueue()
	go func() {
		defer guard.Recover(s.log, "lease keep alive", func(cause any) { requests.close(guard.Status(cause)) })
		receiveRenewals(ctx, stream, requests)
	}()
	for {
		ids, err := requests.take(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return wireError(err)
		}
		if err := s.renew(ctx, stream, ids); err != nil {
			return err
		}
	}
}

// receiveRenewals ends when the stream does: at the latest when the handler has returned.
func receiveRenewals(ctx context.Context, stream pb.Lease_LeaseKeepAliveServer, requests *renewQueue) {
	for {
		r, err := stream.Recv()
		if err != nil {
			requests.close(err)
			return
		}
		if !requests.add(ctx, r.ID) {
			return
		}
	}
}

// renew renews the leases by one command and answers for each.
func (s *leaseServer) renew(ctx context.Context, stream pb.Lease_LeaseKeepAliveServer, ids []int64) error {
	// The header is taken before the renewal, so that its revision is not one at which a lease was already gone.
	header, err := s.headerAt(0)
	if err != nil {
		return err
	}
	renewed, err := propose[statemachine.LeasesRenewed](ctx, s.service, raftv1.KindLeaseRenew,
		&raftv1.LeaseRenew{Ids: ids})
	if err != nil {
		return err
	}
	for i, id := range ids {
		response := &pb.LeaseKeepAliveResponse{Header: header, ID: id}
		if i < len(renewed.TTLs) {
			response.TTL = wholeSeconds(renewed.TTLs[i])
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}

// renewQueue holds the requests of one stream that have not been taken yet, in order. One goroutine adds, one takes.
type renewQueue struct {
	mu struct {
		sync.Mutex
		ids []int64
		err error // set when nothing will be added any more
	}
	ready chan struct{} // has a token when there may be something to take
	room  chan struct{} // has a token when something was taken
}

func newRenewQueue() *renewQueue {
	return &renewQueue{ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// add waits for room; false if ctx ended first.
func (q *renewQueue) add(ctx context.Context, id int64) bool {
	for !q.tryAdd(id) {
		select {
		case <-q.room:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (q *renewQueue) tryAdd(id int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.ids) >= maxRenewPending {
		return false
	}
	q.mu.ids = append(q.mu.ids, id)
	signal(q.ready)
	return true
}

// close lets take return err once the queue is empty.
func (q *renewQueue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.err = err
	signal(q.ready)
}

// take waits until there is something, and returns all of it up to maxRenewBatch.
func (q *renewQueue) take(ctx context.Context) ([]int64, error) {
	for {
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if ids, err := q.tryTake(); len(ids) > 0 || err != nil {
			return ids, err
		}
	}
}

func (q *renewQueue) tryTake() ([]int64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.ids) == 0 {
		return nil, q.mu.err
	}
	n := min(len(q.mu.ids), maxRenewBatch)
	ids := q.mu.ids[:n:n]
	q.mu.ids = q.mu.ids[n:]
	if len(q.mu.ids) == 0 {
		q.mu.ids = nil // the array goes with the batch; an idle stream keeps none
	}
	if len(q.mu.ids) > 0 || q.mu.err != nil {
		signal(q.ready)
	}
	signal(q.room)
	return ids, nil
}

// signal leaves a token in a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
