package group

import (
	"context"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"
)

const (
	// readRetry is how long a ReadIndex may take before it is asked again: the
	// request or its answer may be lost.
	readRetry = 100 * time.Millisecond
	// readTimeout is how long Dragonboat waits for the answer to one request.
	readTimeout = 5 * time.Second
)

// readLoop runs one ReadIndex after the other, each for all callers that came
// before it began.
type readLoop struct {
	g    *Group
	kick chan struct{}
	// leader is signalled when the leader changed.
	leader chan struct{}

	mu   sync.Mutex
	next *readRound // collects callers for the round after the current one
}

// readRound is done when everything committed before it began was applied.
type readRound struct{ done chan struct{} }

func newReadLoop(g *Group) *readLoop {
	return &readLoop{
		g: g, kick: make(chan struct{}, 1), leader: make(chan struct{}, 1),
		next: &readRound{make(chan struct{})},
	}
}

// ReadIndex implements Raft.
func (g *Group) ReadIndex(ctx context.Context) error {
	round := g.reads.join()
	select {
	case <-round.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-g.ctx.Done():
		return ErrClosed
	case <-g.gone:
		return ErrClosed
	}
}

func (l *readLoop) join() *readRound {
	l.mu.Lock()
	round := l.next
	l.mu.Unlock()
	signal(l.kick)
	return round
}

// signal sets a flag that a loop waits for.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *readLoop) run() {
	for {
		select {
		case <-l.g.ctx.Done():
			return
		case <-l.kick:
		}
		l.mu.Lock()
		round := l.next
		l.next = &readRound{make(chan struct{})}
		l.mu.Unlock()
		if !l.confirm() {
			return
		}
		close(round.done)
	}
}

// confirm asks until one request is answered; false means that none will be.
// Any answer will do: all requests were made after the round began.
func (l *readLoop) confirm() bool {
	answered := make(chan struct{}, 1)
	stop := make(chan struct{})
	defer close(stop)
	timer := time.NewTimer(readRetry)
	defer timer.Stop()
	for {
		nh := l.g.enter()
		if nh == nil {
			return false
		}
		rs, err := nh.ReadIndex(l.g.shard, readTimeout)
		l.g.leave()
		if err == nil { // otherwise the replica is starting, or too busy: ask again
			go await(rs, answered, stop)
		}
		timer.Reset(readRetry)
		select {
		case <-answered:
			return true
		case <-timer.C:
		case <-l.leader:
		case <-l.g.gone: // callers are told by it
			return false
		case <-l.g.ctx.Done():
			return false
		}
	}
}

// await passes on the answer to one request. A request that is not answered
// before its round ends is left to the garbage collector.
func await(rs *dragonboat.RequestState, answered chan<- struct{}, stop <-chan struct{}) {
	select {
	case r := <-rs.ResultC():
		if r.Completed() {
			select {
			case answered <- struct{}{}:
			default:
			}
		}
		rs.Release()
	case <-stop:
	}
}
