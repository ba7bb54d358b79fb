package api

import (
	"context"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// leaderLosses is the number of election timeouts without a leader after which streams that require one are ended. A
// client pays more for a new stream than for a refused request, so this is slower than refusing those.
const leaderLosses = 3

// ticksPerTimeout is how often in an election timeout a member asks whether there is a leader. A member that has just
// become ready is unhealthy for no longer than that.
const ticksPerTimeout = 20

// leaderStreams holds the streams whose clients require a leader.
type leaderStreams struct {
	mu struct {
		sync.Mutex
		streams map[*leaderStream]struct{}
	}
}

// leaderStream is a stream that can be ended with a reason, which its context tells.
type leaderStream struct {
	grpc.ServerStream
	ctx *reasonContext
}

// Context ends with ErrGRPCNoLeader when the leader is lost.
func (s *leaderStream) Context() context.Context { return s.ctx }

func (l *leaderStreams) add(ss grpc.ServerStream) *leaderStream {
	ctx, cancel := context.WithCancelCause(ss.Context())
	s := &leaderStream{ServerStream: ss, ctx: &reasonContext{Context: ctx, cancel: cancel}}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.streams == nil {
		l.mu.streams = map[*leaderStream]struct{}{}
	}
	l.mu.streams[s] = struct{}{}
	return s
}

func (l *leaderStreams) remove(s *leaderStream) {
	l.mu.Lock()
	delete(l.mu.streams, s)
	l.mu.Unlock()
	s.ctx.cancel(nil)
}

// endAll ends all streams because the leader is lost.
func (l *leaderStreams) endAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.mu.streams {
		s.ctx.cancel(rpctypes.ErrGRPCNoLeader)
	}
	clear(l.mu.streams)
}

// reasonContext is a context whose Err tells the reason it was ended for, as handlers return it to the client.
type reasonContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

func (c *reasonContext) Err() error {
	err := c.Context.Err()
	if err != nil && context.Cause(c.Context) == rpctypes.ErrGRPCNoLeader {
		return rpctypes.ErrGRPCNoLeader
	}
	return err
}
