package keyspace

import (
	"context"
	"errors"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// endOnDrain ends streams that would last as long as their client when the member stops, with a status that says so and
// makes clients go to another member. Streams that end by themselves are left to do so.
func endOnDrain(draining context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		switch info.FullMethod {
		case pb.Maintenance_Snapshot_FullMethodName, pb.KV_RangeStream_FullMethodName,
			coordv1.Stream_Open_FullMethodName:
			return handler(srv, stream)
		}
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(draining, cancel)()
		err := handler(srv, &middleware.WrappedServerStream{ServerStream: stream, WrappedContext: ctx})
		if draining.Err() != nil && stream.Context().Err() == nil && (errors.Is(err, context.Canceled) ||
			status.Code(err) == codes.Canceled) {
			return rpctypes.ErrGRPCStopped
		}
		return err
	}
}
