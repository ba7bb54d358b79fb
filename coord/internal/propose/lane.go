package propose

import (
	"context"
	"slices"
	"sync"

	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// What a command may weigh is counted in keys that its ranges look at, about a microsecond of every replica each.
const (
	// LightWeight is what a command may weigh that goes straight to the proposer: an entry of 2 MiB has room for 40,000
	// small commands, which then hold up those behind them no longer than as many puts would, for half a second.
	LightWeight = 16
	// LaneWeight is what the heavy commands that are under way may weigh together, unless there is one alone: about 50
	// ms.
	LaneWeight = 50_000
	// OpenWeight is what opening a session weighs beside a tenth of its bytes: see Opening.
	OpenWeight = 100
	// MaxLane and MaxLaneBytes bound the heavy commands that wait.
	MaxLane      = 100_000
	MaxLaneBytes = 64 << 20
)

// Opening is the weight of a command of so many bytes that opens a session, in a lane of its own for them: 500 small
// ones, or half a megabyte, are under way at a time. So a client that opens all it can holds up neither what others do
// with theirs nor their heartbeats.
func Opening(bytes int) int64 { return OpenWeight + int64(bytes)/10 }

// Lane keeps heavy commands from holding up the light ones. All commands wait for those that stand before them in the
// log, and the budget of the state machine bounds each by itself, but not how many there are: so heavy ones wait here,
// in order, until those before them have been applied. What is behind in the log then waits for LaneWeight at most, or
// for one command. Weights are estimates of this member. What only frees something goes before the rest, and has an
// eighth more of the room: a lane that somebody fills must not keep others from giving up what they have. It is safe
// for concurrent use.
type Lane struct {
	proposer *Proposer

	mu struct {
		sync.Mutex
		running int64       // weight of those under way
		waiting [2][]*heavy // those that free, and the rest
		left    int         // of waiting, whose client has given up
		bytes   int         // of waiting
		closed  bool
	}
}

// heavy is a command in the lane.
type heavy struct {
	by     raftv1.Principal
	kind   raftv1.Kind
	body   []byte
	weight int64
	frees  bool
	waits  bool // in the lane
	// done is nil once nobody waits any more. Guarded by the lane's mutex, as waits is.
	done func(statemachine.Result)
}

// NewLane returns the lane in front of a proposer.
func NewLane(p *Proposer) *Lane { return &Lane{proposer: p} }

// Submit is Proposer.Submit for a command of a weight. frees says of requests of a session that they only give
// something back; of other commands it is known.
func (l *Lane) Submit(
	ctx context.Context, kind raftv1.Kind, body []byte, weight int64, frees bool, done func(statemachine.Result),
) (cancel func()) {
	if weight <= LightWeight {
		return l.proposer.Submit(ctx, kind, body, done)
	}
	by, err := principal.Of(ctx)
	if err != nil {
		done(statemachine.Result{Err: err})
		return func() {}
	}
	h := &heavy{
		by: by, kind: kind, body: body, weight: min(weight, LaneWeight), frees: frees || gives(kind), done: done,
	}
	if err := l.join(h); err != nil {
		done(statemachine.Result{Err: err})
		return func() {}
	}
	l.advance()
	return func() { l.leave(h) }
}

// gives is frees without deletions: anybody can fill the lane with those of what others need.
func gives(kind raftv1.Kind) bool {
	return kind == raftv1.KindLeaseRevoke || kind == raftv1.KindSessionEnd
}

// queue is where a command waits.
func (l *Lane) queue(h *heavy) *[]*heavy {
	if h.frees {
		return &l.mu.waiting[0]
	}
	return &l.mu.waiting[1]
}

func (l *Lane) length() int { return len(l.mu.waiting[0]) + len(l.mu.waiting[1]) }

func (l *Lane) join(h *heavy) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	most, mostBytes := MaxLane, MaxLaneBytes
	if h.frees {
		most, mostBytes = most+most/8, mostBytes+mostBytes/8
	}
	switch {
	case l.mu.closed:
		return ErrStopped
	case l.length()-l.mu.left >= most, l.mu.bytes > 0 && l.mu.bytes+len(h.body) > mostBytes:
		return ErrTooManyRequests
	}
	h.waits = true
	queue := l.queue(h)
	*queue = append(*queue, h)
	l.mu.bytes += len(h.body)
	return nil
}

// leave gives a command up. One that is under way counts until its result is there: it holds up others all the same.
func (l *Lane) leave(h *heavy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.done = nil
	if !h.waits {
		return
	}
	if l.mu.left++; l.mu.left <= l.length()/2 {
		return
	}
	for i := range l.mu.waiting {
		l.mu.waiting[i] = slices.DeleteFunc(l.mu.waiting[i], func(h *heavy) bool {
			if h.done == nil {
				l.mu.bytes -= len(h.body)
			}
			return h.done == nil
		})
	}
	l.mu.left = 0
}

// advance lets those go that may.
func (l *Lane) advance() {
	for h := l.next(); h != nil; h = l.next() {
		l.proposer.submit(h.by, h.kind, h.body, func(r statemachine.Result) { l.finish(h, r) })
	}
}

// next takes the first command that waits, if it may go now.
func (l *Lane) next() *heavy {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.length() > 0 {
		queue := &l.mu.waiting[0]
		if len(*queue) == 0 {
			queue = &l.mu.waiting[1]
		}
		h := (*queue)[0]
		gone := h.done == nil
		if !gone && l.mu.running > 0 && l.mu.running+h.weight > LaneWeight {
			return nil
		}
		h.waits = false
		(*queue)[0] = nil
		*queue = (*queue)[1:]
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
	for _, h := range slices.Concat(l.mu.waiting[:]...) {
		if h.done != nil {
			dones = append(dones, h.done)
		}
	}
	l.mu.waiting, l.mu.left, l.mu.bytes = [2][]*heavy{}, 0, 0
	l.mu.Unlock()
	for _, done := range dones {
		done(statemachine.Result{Err: ErrStopped})
	}
}
