package recipesvc

import (
	"context"
	"fmt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// described is how many waiters and holders Describe returns if the client does not say.
const described = 1000

// queueServer has what the services of queues, whose entries say who their owner is, have in common.
type queueServer struct {
	service *Service
	kind    coordv1.QueueKind
}

// Release removes entries, each by its token.
func (qs queueServer) Release(ctx context.Context, req *coordv1.Release) (*coordv1.Released, error) {
	return called(ctx, qs.service, recipes.Release, req, &coordv1.Released{})
}

// CheckToken says whether an entry, in a queue of whatever kind, holds or waits.
func (qs queueServer) CheckToken(
	ctx context.Context, req *coordv1.CheckTokenRequest,
) (*coordv1.CheckTokenResponse, error) {
	queue, rev, err := qs.service.currentQueue(ctx, layout.KindOf(req.Key), req.Name)
	if err != nil {
		return nil, wireError(err)
	}
	resp := &coordv1.CheckTokenResponse{Revision: rev}
	e, ok := queue.Entry(req.Key)
	if !ok || e.Lingers || !qs.service.backend.LeaseAlive(e.Lease) {
		return resp, nil
	}
	grant, held := queue.Granted(req.Key)
	resp.Holds = held && grant.Token == req.Token
	resp.Waits = !held && e.Token == req.Token
	return resp, nil
}

// Describe shows who holds and who waits; in a queue of the kind that the request says, if it says one.
func (qs queueServer) Describe(ctx context.Context, req *coordv1.DescribeRequest) (*coordv1.DescribeResponse, error) {
	if req.Limit < 0 {
		return nil, wireError(fmt.Errorf("%w: limit %d is negative", statemachine.ErrInvalid, req.Limit))
	}
	kind := qs.kind
	if req.Kind != coordv1.QueueKind_QUEUE_UNSPECIFIED {
		kind = req.Kind
	}
	queue, rev, err := qs.service.currentQueue(ctx, kind, req.Name)
	if err != nil {
		return nil, wireError(err)
	}
	limit := int(req.Limit)
	if limit == 0 {
		limit = described
	}
	holders, waiting := queue.Holders(), queue.Waiting()
	resp := &coordv1.DescribeResponse{
		Holders: describe(kind, holders, limit), Holding: int64(len(holders)),
		Waiters: describe(kind, waiting, limit), Waiting: int64(len(waiting)), Revision: rev,
	}
	if len(resp.Holders) > 0 {
		resp.Holder = resp.Holders[0]
	}
	resp.Semaphore, resp.Barrier = queue.Semaphore(), queue.Barrier()
	return resp, nil
}

func describe(kind coordv1.QueueKind, entries []recipes.Entry, limit int) (list []*coordv1.Entry) {
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
