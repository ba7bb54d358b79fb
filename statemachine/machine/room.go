package machine

import (
	"google.golang.org/protobuf/encoding/protowire"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Held is what the sessions hold of the bounds of Room in the latest published state, in bytes.
func (m *Machine) Held() (outcomes, sessions int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mu.state == nil {
		return 0, 0
	}
	return m.mu.state.outcomeBytes, m.mu.state.sessionBytes
}

// Refused counts what was refused at the bounds of Room since the start of the process.
func (m *Machine) Refused() (outcomes, sessions uint64) {
	return m.refused.outcomes.Load(), m.refused.sessions.Load()
}

// held sums up what all sessions of a table hold. It follows from the sessions and outcomes that there are: a table
// that is loaded counts as the one that wrote the rows.
type held struct {
	outcomes  int // bytes of all outcomes, with OutcomeOverhead
	backlogs  int // sessions with any
	sessions  int // bytes of all sessions, with SessionOverhead
	perStream map[uint64]int
}

// session counts a session in, or out again where sign is -1.
func (h *held) session(s *session, sign int) {
	h.stream(s, sign)
	h.outcomes += sign * s.outcomes.cost
	if s.outcomes.cost > 0 {
		h.backlogs += sign
	}
	if s.outcomes.all = nil; sign > 0 {
		s.outcomes.all = h
	}
}

// stream counts a session in, or out, where it is attached.
func (h *held) stream(s *session, sign int) {
	n := sign * (statemachine.SessionOverhead + len(s.identity))
	h.sessions += n
	if h.perStream[s.stream] += n; h.perStream[s.stream] == 0 {
		delete(h.perStream, s.stream)
	}
}

// outcomeSize is what the bytes of a coordv1.Outcome count.
func outcomeSize(data []byte) int {
	if len(data) > 0 && data[0] == byte(raftv1.OutcomeRefusal)<<3|byte(protowire.BytesType) {
		return statemachine.RefusalSize
	}
	return len(data)
}

// charge counts outcomes in, or out. Those of a session that is gone count for nothing.
func (o *outcomes) charge(n int) {
	before := o.cost
	o.cost += n
	if o.all == nil {
		return
	}
	o.all.outcomes += n
	switch {
	case before == 0 && o.cost > 0:
		o.all.backlogs++
	case before > 0 && o.cost == 0:
		o.all.backlogs--
	}
}
