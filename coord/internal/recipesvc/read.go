package recipesvc

import (
	"context"
	"fmt"

	"github.com/coord-dev/coord/coord/internal/mirror"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// Reads answers what is asked of queues from a view: a call's own, or the one of all reads that gathered on a stream.
type Reads struct {
	// LeaseAlive reports whether a lease exists and is not overdue.
	LeaseAlive func(statemachine.LeaseID) bool
}

// CheckToken says whether an entry, in a queue of whatever kind, holds or waits.
func (r Reads) CheckToken(
	ctx context.Context, view mirror.View, req *coordv1.CheckTokenRequest,
) (*coordv1.CheckTokenResponse, error) {
	queue, err := readQueue(ctx, view, layout.KindOf(req.Key), req.Name)
	if err != nil {
		return nil, err
	}
	resp := &coordv1.CheckTokenResponse{Revision: view.Revision()}
	e, ok := queue.Entry(req.Key)
	if !ok || e.Lingers || !r.LeaseAlive(e.Lease) {
		return resp, nil
	}
	grant, held := queue.Granted(req.Key)
	resp.Holds = held && grant.Token == req.Token
	resp.Waits = !held && e.Token == req.Token
	return resp, nil
}

// described is how many waiters and holders Describe returns if the client does not say.
const described = 1000

// Describe shows who holds and who waits in a queue of the kind that the request says, by default a lock.
func (r Reads) Describe(
	ctx context.Context, view mirror.View, req *coordv1.DescribeRequest,
) (*coordv1.DescribeResponse, error) {
	return r.describe(ctx, view, coordv1.QueueKind_QUEUE_LOCK, req)
}

func (Reads) describe(
	ctx context.Context, view mirror.View, kind coordv1.QueueKind, req *coordv1.DescribeRequest,
) (*coordv1.DescribeResponse, error) {
	if req.Limit < 0 {
		return nil, fmt.Errorf("%w: limit %d is negative", statemachine.ErrInvalid, req.Limit)
	}
	if req.Kind != coordv1.QueueKind_QUEUE_UNSPECIFIED {
		kind = req.Kind
	}
	queue, err := readQueue(ctx, view, kind, req.Name)
	if err != nil {
		return nil, err
	}
	limit := int(req.Limit)
	if limit == 0 {
		limit = described
	}
	holders, waiting := queue.Holders(), queue.Waiting()
	resp := &coordv1.DescribeResponse{
		Holders: entriesOf(kind, holders, limit), Holding: int64(len(holders)),
		Waiters: entriesOf(kind, waiting, limit), Waiting: int64(len(waiting)), Revision: view.Revision(),
	}
	if len(resp.Holders) > 0 {
		resp.Holder = resp.Holders[0]
	}
	resp.Semaphore, resp.Barrier = queue.Semaphore(), queue.Barrier()
	return resp, nil
}

// Leader says who leads. ErrNoLeader.
func (Reads) Leader(
	ctx context.Context, view mirror.View, req *coordv1.LeaderRequest,
) (*coordv1.LeaderResponse, error) {
	kind := coordv1.QueueKind_QUEUE_ELECTION
	if req.Priority != 0 {
		kind = coordv1.QueueKind_QUEUE_PRIORITY_ELECTION
	}
	queue, err := readQueue(ctx, view, kind, req.Name)
	if err != nil {
		return nil, err
	}
	leader, ok := queue.Holder()
	if !ok {
		return nil, recipes.ErrNoLeader
	}
	return &coordv1.LeaderResponse{Leader: leader.Proto(), Revision: view.Revision()}, nil
}

func entriesOf(kind coordv1.QueueKind, entries []recipes.Entry, limit int) (list []*coordv1.Entry) {
	for _, e := range entries[:min(len(entries), limit)] {
		list = append(list, entryOf(kind, e))
	}
	return list
}

// entryOf describes an entry of a kind of queue.
func entryOf(kind coordv1.QueueKind, e recipes.Entry) *coordv1.Entry {
	if recipes.HasIdentity(kind) {
		return recipes.WithIdentity(e.Proto())
	}
	return e.Proto()
}

// readQueue reads a queue from a view.
func readQueue(
	ctx context.Context, view mirror.View, kind coordv1.QueueKind, name string,
) (*recipes.Snapshot, error) {
	if err := recipes.CheckName(name); err != nil {
		return nil, err
	}
	queue, err := mirror.Read(ctx, view, layout.QueueOf(kind, name))
	if err != nil {
		return nil, fmt.Errorf("read queue of %q: %w", name, err)
	}
	return queue, nil
}

// current is a view that shows everything that was committed before the call. The caller closes it.
func (s *Service) current(ctx context.Context) (mirror.View, error) {
	if err := s.backend.ReadIndex(ctx); err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	return s.backend.View(ctx)
}

// read answers a call from such a view.
func read[Q, R any](
	ctx context.Context, s *Service, req Q, answer func(context.Context, mirror.View, Q) (R, error),
) (resp R, err error) {
	view, err := s.current(ctx)
	if err != nil {
		return resp, wireError(err)
	}
	defer view.Close()
	resp, err = answer(ctx, view, req)
	return resp, wireError(err)
}
