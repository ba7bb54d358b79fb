package machine

import (
	"encoding/binary"
	"fmt"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// metaHistory is the row of the identity; absent before the first entry.
var metaHistory = mvcc.MetaKey("history")

// History tells which history this machine is in, as far as it has published it. It is the same value at all times.
func (m *Machine) History() *statemachine.History { return m.told }

func (b *batch) beginHistory(h *raftv1.HistoryBegin) statemachine.Result {
	switch {
	case h.GetId() == 0:
		return refuse(fmt.Errorf("%w: a history has an id other than 0", statemachine.ErrInvalid))
	case b.m.history != 0:
		return refuse(fmt.Errorf("%w: the history has begun, as %x", statemachine.ErrInvalid, b.m.history))
	}
	b.m.history = h.Id
	b.kv.Rows().Set(metaHistory, binary.BigEndian.AppendUint64(nil, h.Id))
	return statemachine.Result{Response: statemachine.HistoryBegun{ID: h.Id}}
}
