package service

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// describedWaiters is how many waiters Describe returns if the client does not say.
const describedWaiters = 1000

// lockServer implements coordv1.LockServer; see the proto for the contract of each method.
type lockServer struct {
	coordv1.UnimplementedLockServer
	service *Service
}

func (ls lockServer) Acquire(req *coordv1.AcquireRequest, stream grpc.ServerStreamingServer[coordv1.AcquireEvent]) error {
	r, err := newLockRequest(req, req.WaitMs, req.GraceMs)
	if err != nil {
		return wireError(err)
	}
	r.ResumeToken = req.ResumeToken
	return wireError(ls.service.acquire(stream.Context(), r, acquireStream{stream}, true))
}

func (ls lockServer) TryAcquire(ctx context.Context, req *coordv1.TryAcquireRequest) (*coordv1.TryAcquireResponse, error) {
	r, err := newLockRequest(req, req.WaitMs, 0)
	if err != nil {
		return nil, wireError(err)
	}
	r.Try = req.WaitMs == 0
	resp := &coordv1.TryAcquireResponse{}
	if err := ls.service.acquire(ctx, r, tryAnswer{resp}, false); err != nil {
		return nil, wireError(err)
	}
	return resp, nil
}

// lockRequest is what AcquireRequest and TryAcquireRequest have in common.
type lockRequest interface {
	GetName() string
	GetLease() int64
	GetOwnerId() string
	GetOwner() string
	GetLabels() map[string]string
}

func newLockRequest(req lockRequest, waitMS, graceMS int64) (*request, error) {
	r, err := newRequest(waitMS, graceMS)
	if err != nil {
		return nil, err
	}
	if r.Value, err = recipes.EncodeIdentity(req.GetOwner(), req.GetLabels()); err != nil {
		return nil, err
	}
	r.Name, r.Lease, r.OwnerId = req.GetName(), req.GetLease(), req.GetOwnerId()
	r.enqueueBy, r.removeBy = recipes.LockAcquire, recipes.LockRelease
	return r, nil
}

func (ls lockServer) Release(ctx context.Context, req *coordv1.ReleaseRequest) (*coordv1.ReleaseResponse, error) {
	resp := &recipesv1.Removed{}
	rev, err := ls.service.call(ctx, recipes.LockRelease, &recipesv1.Remove{Name: req.Name, Key: req.Key, Token: req.Token}, resp)
	if err != nil {
		return nil, wireError(err)
	}
	return &coordv1.ReleaseResponse{Released: resp.Outcome == recipesv1.Removed_REMOVED, Revision: rev}, nil
}

func (ls lockServer) CheckToken(ctx context.Context, req *coordv1.CheckTokenRequest) (*coordv1.CheckTokenResponse, error) {
	queue, rev, err := ls.service.currentQueue(ctx, req.Name, recipes.ByPriority(req.Key))
	if err != nil {
		return nil, wireError(err)
	}
	resp := &coordv1.CheckTokenResponse{Revision: rev}
	e, ok := queue.Entry(req.Key)
	if !ok || e.Lingers || !ls.service.backend.LeaseAlive(e.Lease) {
		return resp, nil
	}
	holder, _ := queue.Holder()
	resp.Holds = holder.Key == req.Key && holder.Token == req.Token
	resp.Waits = holder.Key != req.Key && e.Token == req.Token
	return resp, nil
}

func (ls lockServer) Describe(ctx context.Context, req *coordv1.DescribeRequest) (*coordv1.DescribeResponse, error) {
	if req.Limit < 0 {
		return nil, wireError(fmt.Errorf("%w: limit %d is negative", statemachine.ErrInvalid, req.Limit))
	}
	queue, rev, err := ls.service.currentQueue(ctx, req.Name, false)
	if err != nil {
		return nil, wireError(err)
	}
	limit := int(req.Limit)
	if limit == 0 {
		limit = describedWaiters
	}
	waiting := queue.Waiting()
	resp := &coordv1.DescribeResponse{Revision: rev, Waiting: int64(len(waiting))}
	if holder, ok := queue.Holder(); ok {
		resp.Holder = recipes.WithIdentity(holder.Proto())
	}
	for _, e := range waiting[:min(len(waiting), limit)] {
		resp.Waiters = append(resp.Waiters, recipes.WithIdentity(e.Proto()))
	}
	return resp, nil
}

// acquireStream is the listener of Acquire.
type acquireStream struct {
	stream grpc.ServerStreamingServer[coordv1.AcquireEvent]
}

func (a acquireStream) queued(ev *coordv1.Queued) error {
	ev.Holder = recipes.WithIdentity(ev.Holder)
	return a.stream.Send(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_Queued{Queued: ev}})
}

func (a acquireStream) granted(ev *coordv1.Granted) error {
	return a.stream.Send(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_Granted{Granted: ev}})
}

func (a acquireStream) notAcquired(ev *coordv1.NotAcquired) error {
	ev.Holder = recipes.WithIdentity(ev.Holder)
	return a.stream.Send(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_NotAcquired{NotAcquired: ev}})
}

func (a acquireStream) lost(ev *coordv1.Lost) error {
	return a.stream.Send(&coordv1.AcquireEvent{Event: &coordv1.AcquireEvent_Lost{Lost: ev}})
}

// tryAnswer is the listener of TryAcquire.
type tryAnswer struct {
	resp *coordv1.TryAcquireResponse
}

func (a tryAnswer) queued(*coordv1.Queued) error { return nil }

func (a tryAnswer) granted(ev *coordv1.Granted) error {
	a.resp.Granted = ev
	return nil
}

func (a tryAnswer) notAcquired(ev *coordv1.NotAcquired) error {
	ev.Holder = recipes.WithIdentity(ev.Holder)
	a.resp.NotAcquired = ev
	return nil
}

// lost: a waiter that was removed by somebody else did not acquire; one whose session died is told so.
func (a tryAnswer) lost(ev *coordv1.Lost) error {
	if ev.Reason == coordv1.Lost_REASON_SESSION_ENDED {
		return statemachine.ErrLeaseNotFound
	}
	a.resp.NotAcquired = &coordv1.NotAcquired{Revision: ev.Revision}
	return nil
}
