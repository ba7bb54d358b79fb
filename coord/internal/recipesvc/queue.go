package recipesvc

import (
	"context"
	"fmt"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// described is how many waiters and holders Describe returns if the client does not say.
const described = 1000

// queueServer has what the services of queues, whose entries say who their owner is, have in common.
type queueServer struct {
	service   *Service
	kind      coordv1.QueueKind
	enqueueBy string // procedure
}

// ownersRequest is what enqueues, whatever the kind.
type ownersRequest interface {
	GetName() string
	GetLease() int64
	GetOwnerId() string
	GetOwner() string
	GetLabels() map[string]string
}

func (qs queueServer) acquisition(req ownersRequest, waitMS, graceMS int64) (*acquisition, error) {
	a, err := newAcquisition(waitMS, graceMS)
	if err != nil {
		return nil, err
	}
	if a.Value, err = recipes.EncodeIdentity(req.GetOwner(), req.GetLabels()); err != nil {
		return nil, err
	}
	a.Name, a.Lease, a.OwnerId, a.queue = req.GetName(), req.GetLease(), req.GetOwnerId(),
		layout.QueueOf(qs.kind, req.GetName())
	a.enqueueBy, a.removeBy = qs.enqueueBy, recipes.LockRelease
	return a, nil
}

// try answers once. Without a time to wait it enqueues only if it holds at once.
func (s *Service) try(ctx context.Context, a *acquisition) (*coordv1.TryAcquireResponse, error) {
	a.Try = a.wait == 0
	resp := &coordv1.TryAcquireResponse{}
	if err := s.acquire(ctx, a, tryAnswer{resp}, false); err != nil {
		return nil, wireError(err)
	}
	return resp, nil
}

// Release removes the entry of a token.
func (qs queueServer) Release(ctx context.Context, req *coordv1.ReleaseRequest) (*coordv1.ReleaseResponse, error) {
	resp := &recipesv1.Removed{}
	rev, err := qs.service.call(ctx, recipes.LockRelease,
		&recipesv1.Remove{Name: req.Name, Key: req.Key, Token: req.Token}, resp)
	if err != nil {
		return nil, wireError(err)
	}
	return &coordv1.ReleaseResponse{Released: resp.Outcome == recipesv1.Removed_REMOVED, Revision: rev}, nil
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
	switch kind {
	case coordv1.QueueKind_QUEUE_SEMAPHORE:
		resp.Semaphore = queue.Semaphore()
	case coordv1.QueueKind_QUEUE_BARRIER:
		resp.Barrier = queue.Barrier()
	}
	return resp, nil
}

func describe(kind coordv1.QueueKind, entries []recipes.Entry, limit int) (list []*coordv1.Entry) {
	for _, e := range entries[:min(len(entries), limit)] {
		p := e.Proto()
		if recipes.HasIdentity(kind) {
			p = recipes.WithIdentity(p)
		}
		list = append(list, p)
	}
	return list
}
