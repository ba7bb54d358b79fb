package registry

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/client"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/instances"
)

// write makes one request of coord.v1.Registry. Each can be repeated when nobody knows whether it was executed.
func write[Q, R any](ctx context.Context, r *Registry,
	call func(coordv1.RegistryClient, context.Context, Q, ...grpc.CallOption) (R, error), req Q) error {
	conn := r.client.ActiveConnection()
	if conn == nil {
		return client.ErrClosed
	}
	_, err := call(coordv1.NewRegistryClient(conn), ctx, req)
	if status.Code(err) == codes.Canceled && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", client.ErrClosed, err) // the connection is closed
	}
	st := status.Convert(err)
	for _, detail := range st.Details() {
		e, ok := detail.(*coordv1.Error)
		if meaning := meanings[e.GetReason()]; ok && meaning != nil {
			return &refusedError{meaning, err, st.Message()}
		}
	}
	return err
}

// refusedError is what a refusal means, with the status that said so, and its words.
type refusedError struct {
	meaning, status error
	said            string
}

func (e *refusedError) Error() string {
	if e.meaning == ErrReplaced || e.meaning == ErrNotFound {
		return e.meaning.Error() // the words say no more
	}
	return e.said
}

func (e *refusedError) Unwrap() []error { return []error{e.meaning, e.status} }

// meanings of refusals.
var meanings = map[coordv1.Error_Reason]error{
	coordv1.Error_REASON_MEMBER_EXISTS: ErrReplaced,
	coordv1.Error_REASON_NOT_SET:       ErrNotFound,
	coordv1.Error_REASON_WRONG_KIND:    ErrNameTaken,
	coordv1.Error_REASON_INVALID:       ErrRefused,
}

// write writes the instance on a lease. before is the lease that it was written on last, 0 if it never was: then it
// takes over what stands there.
func (g *Registration) write(ctx context.Context, in Instance, before, lease clientv3.LeaseID) error {
	return write(ctx, g.r, coordv1.RegistryClient.Put, &coordv1.ServicePutRequest{
		Instance: instances.RecordOf(&in), Lease: int64(lease), Before: int64(before),
	})
}

// remove removes an instance, if it is on the lease.
func (r *Registry) remove(ctx context.Context, in *Instance, lease clientv3.LeaseID) error {
	return write(ctx, r, coordv1.RegistryClient.Remove,
		&coordv1.ServiceRemoveRequest{Service: in.Service, Id: in.ID, Lease: int64(lease)})
}
