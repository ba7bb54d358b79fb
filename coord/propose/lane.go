package propose

import (
	"slices"
	"sync"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// What a command may weigh is counted in keys that its ranges look at, about a microsecond of every replica each.
const (
	// LightWeight is what a command may weigh that goes straight to the proposer: an entry of 2 MiB has room for 40,000 small
	// commands, which then hold up those behind them no longer than as many puts would, for half a second.
	LightWeight = 16
	// LaneWeight is what the heavy commands that are under way may weigh together, unless there is one alone: about 50 ms.
	LaneWeight = 50_000
	// MaxLane and MaxLaneBytes bound the heavy commands that wait.
	MaxLane      = 4096
	MaxLaneBytes = 64 << 20
)

// Lane keeps heavy commands from holding up the light ones. All commands wait for those that stand before them in the log, and
// the budget of the state machine bounds each by itself, but not how many there are: so heavy ones wait here, in order, until
// those before them have been applied. What is behind in the log then waits for LaneWeight at most, or for one command. Weights
// are estimates of this member. It is safe for concurrent use.
type Lane struct {
	proposer *Proposer

	mu struct {
		sync.Mutex
		running int64 // weight of those under way
		waiting []*heavy
		left    int // of waiting, whose client has given up
		bytes   int // of waiting
		closed  bool
	}
}

// heavy is a command in the lane.
type heavy struct {
	kind   raftv1.Kind
	body   []byte
	weight int64
	// done is nil once nobody waits any more. Guarded by the lane's mutex.
	done func(statemachine.Result)
}

// NewLane returns the lane in front of a proposer.
func NewLane(p *Proposer) *Lane { return &Lane{proposer: p} }

// Submit is Proposer.Submit for a command of a weight.
func (l *Lane) Submit(kind raftv1.Kind, body []byte, weight int64, done func(statemachine.Result)) (cancel func()) {
	if weight <= LightWeight {
		return l.proposer.Submit(kind, body, done)
	}
	h := &heavy{kind: kind, body: body, weight: min(weight, LaneWeight), done: done}
	if err := l.join(h); err != nil {
		done(statemachine.Result{Err: err})
		return func() {}
	}
	l.advance()
	return func() { l.leave(h) }
}

func (l *Lane) join(h *heavy) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.mu.closed:
		return ErrStopped
	case len(l.mu.waiting)-l.mu.left >= MaxLane, l.mu.bytes > 0 && l.mu.bytes+len(h.body) > MaxLaneBytes:
		return ErrTooManyRequests
	}
	l.mu.waiting = append(l.mu.waiting, h)
	l.mu.bytes += len(h.body)
	return nil
}

// leave gives a command up. One that is under way counts until its result is there: it holds up others all the same.
func (l *Lane) leave(h *heavy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.done = nil
	if !slices.Contains(l.mu.waiting, h) {
		return
	}
	if l.mu.left++; l.mu.left > len(l.mu.waiting)/2 {
		l.mu.waiting = slices.DeleteFunc(l.mu.waiting, func(h *heavy) bool {
			if h.done == nil {
				l.mu.bytes -= len(h.body)
			}
			return h.done == nil
		})
		l.mu.left = 0
	}
}

// advance lets those go that may.
func (l *Lane) advance() {
	for h := l.next(); h != nil; h = l.next() {
		l.proposer.Submit(h.kind, h.body, func(r statemachine.Result) { l.finish(h, r) })
	}
}

// next takes the first command that waits, if it may go now.
func (l *Lane) next() *heavy {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.mu.waiting) > 0 {
		h := l.mu.waiting[0]
		gone := h.done == nil
		if !gone && l.mu.running > 0 && l.mu.running+h.weight > LaneWeight {
			return nil
		}
		l.mu.waiting[0] = nil
		l.mu.waiting = l.mu.waiting[1:]
		l.mu.bytes -= len(h.body)
		if !gone {
			l.mu.running += h.weight
			return h
		}
		l.mu.left--
	}
	return nil
}

func (l *Lane) finish(h *heavy, r statemachine.Result) {
	l.mu.Lock()
	l.mu.running -= h.weight
	done, closed := h.done, l.mu.closed
	h.done = nil
	l.mu.Unlock()
	if done != nil {
		done(r)
	}
	if !closed {
		l.advance()
	}
}

// Close ends the waits of those that are not under way with ErrStopped. The proposer's Close ends the others'.
func (l *Lane) Close() {
	l.mu.Lock()
	l.mu.closed = true
	var dones []func(statemachine.Result)
	for _, h := range l.mu.waiting {
		if h.done != nil {
			dones = append(dones, h.done)
		}
	}
	l.mu.waiting, l.mu.left, l.mu.bytes = nil, 0, 0
	l.mu.Unlock()
	for _, done := range dones {
		done(statemachine.Result{Err: ErrStopped})
	}
}
