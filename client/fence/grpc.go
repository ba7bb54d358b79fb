package fence

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// UnaryServerInterceptor refuses requests without a good token: InvalidArgument without one, FailedPrecondition with
// REASON_FENCED with a stale one, Unavailable if nobody knows. Handlers find the token with FromContext.
func UnaryServerInterceptor(c Checker) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		ctx, err := checked(ctx, c)
		if err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}
}

// StreamServerInterceptor is UnaryServerInterceptor for streams: the token is checked when one begins.
func StreamServerInterceptor(c Checker) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, err := checked(stream.Context(), c)
		if err != nil {
			return err
		}
		return handler(srv, &checkedStream{stream, ctx})
	}
}

type checkedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *checkedStream) Context() context.Context { return s.ctx }

// checked checks the token of a request that came.
func checked(ctx context.Context, c Checker) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	t, err := check(ctx, c, md.Get(Key))
	if err != nil {
		return nil, statusOf(err)
	}
	return WithToken(ctx, t), nil
}

// check checks the only value that there may be.
func check(ctx context.Context, c Checker, values []string) (Token, error) {
	if len(values) == 0 {
		return Token{}, ErrMissing
	}
	if len(values) > 1 {
		return Token{}, ErrMalformed
	}
	t, err := Parse(values[0])
	if err != nil {
		return Token{}, err
	}
	return t, c.Check(ctx, t)
}

func statusOf(err error) error {
	switch {
	case errors.Is(err, ErrStale):
		st := status.New(codes.FailedPrecondition, err.Error())
		detailed, detailErr := st.WithDetails(&coordv1.Error{Reason: coordv1.Error_REASON_FENCED})
		if detailErr == nil {
			st = detailed
		}
		return st.Err()
	case errors.Is(err, ErrMissing), errors.Is(err, ErrMalformed):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}

// IsStale says whether an error that a resource answered means that the token was stale: nothing was done.
func IsStale(err error) bool {
	if errors.Is(err, ErrStale) {
		return true
	}
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*coordv1.Error); ok && e.Reason == coordv1.Error_REASON_FENCED {
			return true
		}
	}
	return false
}

// UnaryClientInterceptor attaches the token of the context, see WithToken.
func UnaryClientInterceptor() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker,
		opts ...grpc.CallOption) error {
		return invoker(outgoing(ctx), method, req, reply, cc, opts...)
	}
}

// StreamClientInterceptor attaches the token of the context to streams.
func StreamClientInterceptor() grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer,
		opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return streamer(outgoing(ctx), desc, cc, method, opts...)
	}
}

func outgoing(ctx context.Context) context.Context {
	t, ok := FromContext(ctx)
	if !ok {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, Key, t.String())
}
