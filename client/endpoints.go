package client

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// connectPatience is how long a member may take to be connected to, once others have failed.
const connectPatience = 500 * time.Millisecond

// endpoints sends everything to one member at a time.
type endpoints struct {
	order  []string
	use    func(endpoint string)
	logger *zap.Logger

	mu  sync.Mutex
	at  int
	cur *stay
}

// stay is the time spent with one member. Its context ends when the client moves on.
type stay struct {
	ctx  context.Context
	end  context.CancelFunc
	name string
}

func newStay(name string) *stay {
	ctx, cancel := context.WithCancel(context.Background())
	return &stay{ctx: ctx, end: cancel, name: name}
}

func newEndpoints(order []string, use func(string), logger *zap.Logger) *endpoints {
	return &endpoints{order: order, use: use, logger: logger, cur: newStay(order[0])}
}

// current is the stay that new calls belong to.
func (e *endpoints) current() *stay {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cur
}

// leave moves on to the next member, unless somebody did since s was current.
func (e *endpoints) leave(s *stay, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cur != s || len(e.order) == 1 {
		return
	}
	e.at = (e.at + 1) % len(e.order)
	e.cur = newStay(e.order[e.at])
	e.logger.Info("move on to the next member", zap.String("from", s.name), zap.String("to", e.cur.name), zap.String("why", why))
	e.use(e.cur.name)
	s.end()
}

// watch leaves a member that cannot be connected to, until ctx ends. gRPC does not show that the next one fails as well
// (a failed connection counts as failed until one works), so each gets its time.
func (e *endpoints) watch(ctx context.Context, conn *grpc.ClientConn) {
	for ctx.Err() == nil {
		state := conn.GetState()
		if state == connectivity.Shutdown {
			return
		}
		if state != connectivity.TransientFailure {
			conn.WaitForStateChange(ctx, state)
			continue
		}
		e.leave(e.current(), "no connection")
		patience, cancel := context.WithTimeout(ctx, connectPatience)
		conn.WaitForStateChange(patience, state)
		cancel()
	}
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
