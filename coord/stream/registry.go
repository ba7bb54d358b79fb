package stream

import (
	"math/rand/v2"
	"sync"

	"github.com/coord-dev/coord/statemachine"
)

// Registry knows the streams of a member. It is an observer that has to be told before the proposer: so a session that is
// lost is told to its client before the answer to anything that ran after the loss. The zero value is ready.
type Registry struct {
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

func (r *Registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.streams)
}

// Applied tells the streams of sessions that they have lost. It implements statemachine.Observer.
func (r *Registry) Applied(a *statemachine.Applied) {
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
func (r *Registry) Recovered(*statemachine.Applied, func(uint64) bool) {
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
