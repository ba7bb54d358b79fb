package stream

import (
	"sync"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// underway are the commands of a stream that have no result, so that its end can give them up: without a quorum the
// proposer's queue must not fill up with what nobody waits for.
type underway struct {
	mu      sync.Mutex
	last    uint64
	cancels map[uint64]func() // nil until Submit has returned
	closed  bool
}

// submit sends a command through the log, with requests that weigh nothing.
func (st *stream) submit(kind raftv1.Kind, body []byte, done func(statemachine.Result)) {
	st.submitHeavy(kind, body, 0, false, done)
}

// submitHeavy is submit with requests of a weight. frees says that they only give something back.
func (st *stream) submitHeavy(kind raftv1.Kind, body []byte, weight int64, frees bool, done func(statemachine.Result)) {
	u := &st.underway
	u.mu.Lock()
	u.last++
	number := u.last
	if u.cancels == nil && !u.closed {
		u.cancels = map[uint64]func(){}
	}
	if !u.closed {
		u.cancels[number] = nil
	}
	u.mu.Unlock()
	cancel := st.server.opts.Backend.Submit(st.ctx, kind, body, weight, frees, func(r statemachine.Result) {
		u.mu.Lock()
		delete(u.cancels, number)
		u.mu.Unlock()
		done(r)
	})
	u.mu.Lock()
	_, waits := u.cancels[number]
	if waits {
		u.cancels[number] = cancel
	}
	closed := u.closed
	u.mu.Unlock()
	if closed {
		cancel()
	}
}

// close gives up everything. The proposer may be answering meanwhile, with the results of commands that it gives back
// here: so nothing is cancelled under the mutex.
func (u *underway) close() {
	u.mu.Lock()
	cancels := u.cancels
	u.cancels, u.closed = nil, true
	u.mu.Unlock()
	for _, cancel := range cancels {
		if cancel != nil {
			cancel()
		}
	}
}
