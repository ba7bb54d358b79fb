package api

import (
	"context"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/coord/internal/guard"
)

// observer logs what an operator should see: slow requests, and errors that are the server's fault. Everything else is
// logged at debug level. Keys and values are never logged.
type observer struct {
	log  *zap.Logger
	slow time.Duration
}

func (o *observer) unary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	begin := time.Now()
	response, err := handler(ctx, req)
	if took := time.Since(begin); err != nil || took > o.slow || o.log.Core().Enabled(zap.DebugLevel) {
		o.report(ctx, info.FullMethod, took, took > o.slow, err)
	}
	return response, err
}

// stream never calls a stream slow: most live as long as their client.
func (o *observer) stream(
	srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	begin := time.Now()
	err := handler(srv, ss)
	if err != nil {
		o.report(ss.Context(), info.FullMethod, time.Since(begin), false, err)
	}
	return err
}

func (o *observer) report(ctx context.Context, method string, took time.Duration, slow bool, err error) {
	level, message := zap.DebugLevel, "request"
	// status.FromContextError knows the errors of contexts, which gRPC sends as Canceled and DeadlineExceeded.
	code := status.Code(err)
	if code == codes.Unknown {
		code = status.FromContextError(err).Code()
	}
	switch code {
	case codes.Internal, codes.DataLoss, codes.Unknown:
		level, message = zap.WarnLevel, "request failed"
	default:
		if slow {
			level, message = zap.WarnLevel, "slow request"
		}
	}
	entry := o.log.Check(level, message)
	if entry == nil {
		return
	}
	remote := ""
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	entry.Write(zap.String("method", method), zap.Duration("took", took), zap.String("remote", remote), zap.Error(err))
}

// recovered answers a request whose handler panicked: one broken request must not end the member.
func (o *observer) recovered(_ context.Context, cause any) error {
	guard.Note(o.log, "request", cause)
	return guard.Status(cause)
}
