package coordtest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/stream"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// fakeListener knows the connections it accepted, so that they can be broken.
type fakeListener struct {
	net.Listener

	mu   sync.Mutex
	open map[*fakeConn]bool
}

// Accept implements net.Listener.
func (l *fakeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &fakeConn{conn, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = make(map[*fakeConn]bool)
	}
	l.open[c] = true
	return c, nil
}

func (l *fakeListener) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		c.Conn.Close()
	}
	clear(l.open)
}

// fakeConn is a connection that its listener forgets when it is closed.
type fakeConn struct {
	net.Conn
	listener *fakeListener
}

// Close implements net.Conn.
func (c *fakeConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// losses are answers that are still to get lost.
type losses struct{ left atomic.Int64 }

var errLost = status.Error(codes.Unavailable, "coordtest: the response was lost")

// next says whether the next answer gets lost.
func (l *losses) next() bool {
	for {
		left := l.left.Load()
		if left <= 0 {
			return false
		}
		if l.left.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

func (l *losses) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if l.next() {
		return nil, errLost
	}
	return resp, err
}

func (l *losses) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.FullMethod != coordv1.Stream_Open_FullMethodName {
		return handler(srv, ss)
	}
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	err := handler(srv, &lossyStream{ss, ctx, cancel, l})
	if context.Cause(ctx) == errLost {
		return errLost
	}
	return err
}

// lossyStream is a native stream that breaks where an answer gets lost.
type lossyStream struct {
	grpc.ServerStream
	ctx    context.Context
	cancel context.CancelCauseFunc
	losses *losses
}

// Context implements grpc.ServerStream.
func (s *lossyStream) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ServerStream.
func (s *lossyStream) SendMsg(m any) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx) // nothing comes behind what was lost
	}
	if s.losses.left.Load() > 0 && answers(m) && s.losses.next() {
		s.cancel(errLost)
		return errLost
	}
	return s.ServerStream.SendMsg(m)
}

// answers says whether a frame, which the stream hands on encoded, has an answer in it.
func answers(m any) bool {
	data, err := stream.Codec(zap.NewNop()).Marshal(m)
	if err != nil {
		return false
	}
	defer data.Free()
	frame := &coordv1.ServerFrame{}
	return proto.Unmarshal(data.Materialize(), frame) == nil && len(frame.Responses) > 0
}
