package stream

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/coord-dev/coord/statemachine"
)

// Streams knows the streams of a member. It is an observer that has to be told before the watch hub and the proposer:
// so a session that is lost is told to its client before the loss of its entries, and before the answer to anything
// that ran after it. The zero value is ready.
type Streams struct {
	revision atomic.Int64

	mu      sync.Mutex
	streams map[uint64]*stream
}

// add gives the stream an id that no other has.
func (s *Streams) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams == nil {
		s.streams = map[uint64]*stream{}
	}
	for st.id == 0 || s.streams[st.id] != nil {
		st.id = rand.Uint64()
	}
	s.streams[st.id] = st
}

func (s *Streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st.id)
}

// Revision is the last one that was applied.
func (s *Streams) Revision() statemachine.Revision { return s.revision.Load() }

func (s *Streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Applied tells the streams of sessions that they have lost. It implements statemachine.Observer.
func (s *Streams) Applied(a *statemachine.Applied) {
	s.revision.Store(a.Revision)
	for _, change := range a.Sessions {
		s.mu.Lock()
		st := s.streams[change.Stream]
		s.mu.Unlock()
		if st != nil {
			st.sessionChanged(change)
		}
	}
}

// Recovered looks again at all sessions: a snapshot does not say which were lost. It implements statemachine.Observer.
func (s *Streams) Recovered(a *statemachine.Applied, _ func(uint64) bool) {
	s.revision.Store(a.Revision)
	s.mu.Lock()
	streams := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.recheck()
	}
}
