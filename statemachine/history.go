package statemachine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// A history is what one log says, from its first entry on. It has an identity of its own, drawn at random by who proposes the first
// entry: two clusters that were founded with the same flags are different ones, and so is one that was restored from a backup, whose
// revisions mean other things from there on. Who holds a revision, a token or a lease must know of which history it is.

// metaHistory is the row of the identity; absent before the first entry.
var metaHistory = mvcc.MetaKey("history")

// ErrNoHistory: the log of this cluster has no entry yet that this member has applied, so that nothing can be said of its keys.
var ErrNoHistory = errors.New("the history of this cluster has not begun: since it was founded no leader was elected, or this member has heard of none")

// History tells which history a machine is in. It is safe for concurrent use.
type History struct {
	id    atomic.Uint64
	begun chan struct{}
}

// NewHistory is a history with an identity, or, with 0, one that has not begun.
func NewHistory(id uint64) *History {
	h := &History{begun: make(chan struct{})}
	h.Begin(id)
	return h
}

// ID is the identity; 0 before it is known.
func (h *History) ID() uint64 { return h.id.Load() }

// Begun is closed when the identity is known.
func (h *History) Begun() <-chan struct{} { return h.begun }

// Begin tells the readers which history it is, unless id is 0. It is called by one goroutine at a time.
func (h *History) Begin(id uint64) {
	if id != 0 && h.id.Swap(id) == 0 {
		close(h.begun)
	}
}

// History tells which history this machine is in, as far as it has published it. It is the same value at all times.
func (m *Machine) History() *History { return m.told }

func (b *batch) beginHistory(h *raftv1.HistoryBegin) Result {
	switch {
	case h.GetId() == 0:
		return refuse(fmt.Errorf("%w: a history has an id other than 0", ErrInvalid))
	case b.m.history != 0:
		return refuse(fmt.Errorf("%w: the history has begun, as %x", ErrInvalid, b.m.history))
	}
	b.m.history = h.Id
	b.kv.Rows().Set(metaHistory, binary.BigEndian.AppendUint64(nil, h.Id))
	return Result{Response: HistoryBegun{ID: h.Id}}
}
