package statemachine

import (
	"errors"
	"sync/atomic"
)

// A history is what one log says, from its first entry on. It has an identity of its own, drawn at random by who
// proposes the first entry: two clusters that were founded with the same flags are different ones, and so is one that
// was restored from a backup, whose revisions mean other things from there on. Who holds a revision, a token or a lease
// must know of which history it is.

// ErrNoHistory: the log of this cluster has no entry yet that this member has applied, so that nothing can be said of
// its keys.
var ErrNoHistory = errors.New(
	"the history of this cluster has not begun: since it was founded no leader was elected, " +
		"or this member has heard of none")

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
