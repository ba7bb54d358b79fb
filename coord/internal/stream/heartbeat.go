package stream

import (
	"errors"
	"sync"
	"time"

	"github.com/coord-dev/coord/coord/internal/propose"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// busyPause is the time after which heartbeats that found the proposer's queue full are offered again: who sends too
// much must not cost others their sessions.
const busyPause = 20 * time.Millisecond

// renewer makes one command of all heartbeats of a member that wait: while one is under way the next ones gather.
type renewer struct {
	submit func(raftv1.Kind, []byte, func(statemachine.Result)) func()

	mu struct {
		sync.Mutex
		waiting map[*stream]uint64 // the last number of each stream
		busy    bool               // a command is under way
		retry   *time.Timer
		closed  bool
	}
}

// beat renews the sessions of the stream, and says number when that is done.
func (r *renewer) beat(st *stream, number uint64) {
	r.mu.Lock()
	if r.mu.waiting == nil {
		r.mu.waiting = map[*stream]uint64{}
	}
	r.mu.waiting[st] = number
	r.mu.Unlock()
	r.next()
}

// next submits what waits, unless a command is under way.
func (r *renewer) next() {
	r.mu.Lock()
	if r.mu.busy || r.mu.closed || len(r.mu.waiting) == 0 {
		r.mu.Unlock()
		return
	}
	beats := r.mu.waiting
	r.mu.waiting, r.mu.busy = nil, true
	r.mu.Unlock()
	renew := &raftv1.StreamRenew{Streams: make([]uint64, 0, len(beats))}
	for st := range beats {
		renew.Streams = append(renew.Streams, st.id)
	}
	r.submit(raftv1.KindStreamRenew, encode(renew), func(result statemachine.Result) { r.done(beats, result.Err) })
}

// done tells the numbers of a command. Those of one that failed are left to the client's next heartbeat.
func (r *renewer) done(beats map[*stream]uint64, err error) {
	if err == nil {
		for st, number := range beats {
			st.out.heartbeat(number)
		}
	}
	r.mu.Lock()
	r.mu.busy = false
	full := errors.Is(err, propose.ErrTooManyRequests)
	if full {
		r.again(beats)
	}
	r.mu.Unlock()
	if err == nil || errors.Is(err, propose.ErrTimeout) {
		r.next()
	}
}

// again lets beats wait for busyPause.
func (r *renewer) again(beats map[*stream]uint64) {
	for st, number := range r.mu.waiting {
		beats[st] = number
	}
	r.mu.waiting = beats
	if !r.mu.closed && r.mu.retry == nil {
		r.mu.retry = time.AfterFunc(busyPause, func() {
			r.mu.Lock()
			r.mu.retry = nil
			r.mu.Unlock()
			r.next()
		})
	}
}

// forget drops a stream that has ended.
func (r *renewer) forget(st *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.waiting, st)
}

func (r *renewer) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.closed = true
	if r.mu.retry != nil {
		r.mu.retry.Stop()
	}
}
