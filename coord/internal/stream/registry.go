package stream

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/coord-dev/coord/statemachine"
)

// Registry knows the streams of a member. It is an observer that has to be told before the watch hub and the proposer: so a
// session that is lost is told to its client before the loss of its entries, and before the answer to anything that ran after
// it. The zero value is ready.
type Registry struct {
	revision atomic.Int64

	mu      sync.Mutex
	streams map[uint64]*stream
}

// add gives the stream an id that no other has.
func (r *Registry) add(st *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams == nil {
		r.streams = map[uint64]*stream{}
	}
	for st.id == 0 || r.streams[st.id] != nil {
		st.id = rand.Uint64()
	}
	r.streams[st.id] = st
}

func (r *Registry) remove(st *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, st.id)
}

// Revision is the last one that was applied.
func (r *Registry) Revision() statemachine.Revision { return r.revision.Load() }

func (r *Registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.streams)
}

// Applied tells the streams of sessions that they have lost. It implements statemachine.Observer.
func (r *Registry) Applied(a *statemachine.Applied) {
	r.revision.Store(a.Revision)
	for _, change := range a.Sessions {
		r.mu.Lock()
		st := r.streams[change.Stream]
		r.mu.Unlock()
		if st != nil {
			st.sessionChanged(change)
		}
	}
}

// Recovered looks again at all sessions: a snapshot does not say which were lost. It implements statemachine.Observer.
func (r *Registry) Recovered(a *statemachine.Applied, _ func(uint64) bool) {
	r.revision.Store(a.Revision)
	r.mu.Lock()
	streams := make([]*stream, 0, len(r.streams))
	for _, st := range r.streams {
		streams = append(streams, st)
	}
	r.mu.Unlock()
	for _, st := range streams {
		st.recheck()
	}
}
