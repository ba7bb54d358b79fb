package coordtest

import (
	"context"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"

	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// Whichever way a request comes in, the commands that come of it are for whom the gate says: a recorder asks it of all
// that is proposed, so each test with one does, of each method that the server has or gets.

// user is who asks.
var user = raftv1.Principal{User: "somebody", AuthRevision: 7}

// common are the kinds of commands that a member sends for many clients at once.
var common = map[raftv1.Kind]bool{raftv1.KindStreamRenew: true, raftv1.KindLeaseRenew: true}

// asUser has all requests asked by user, as the gate of a server with users does.
func asUser() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo,
			handler grpc.UnaryHandler) (any, error) {
			return handler(principal.With(ctx, user), req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo,
			handler grpc.StreamHandler) error {
			return handler(srv, &middleware.WrappedServerStream{
				ServerStream: ss, WrappedContext: principal.With(ss.Context(), user),
			})
		}),
	}
}
