package watch

import (
	"context"

	"github.com/coord-dev/coord/statemachine"
)

// View is what the hub reads of the store: an immutable state at one revision, see machine.View.
type View interface {
	// Close releases the view.
	Close()
	// Revision is the view's revision.
	Revision() statemachine.Revision
	// Compacted is the revision of the last compaction, -1 if there was none.
	Compacted() statemachine.Revision
	// Changes calls fn for each revision in [from, Revision()] in order, with all its events, until fn returns false.
	// statemachine.ErrCompacted if from < Compacted().
	Changes(ctx context.Context, from statemachine.Revision, prev bool,
		fn func(statemachine.Revision, []statemachine.Event) bool) error
	// KeyChanges is Changes for the events of one key.
	KeyChanges(ctx context.Context, key []byte, from statemachine.Revision, prev bool,
		fn func(statemachine.Revision, []statemachine.Event) bool) error
}

// Source opens views. A view opened after Hub.Applied(a) was called shows at least a.Revision.
type Source interface {
	View() (View, error)
}

// From makes a Source of a function that opens some concrete kind of view, such as (*machine.Machine).View.
func From[V View](open func() (V, error)) Source {
	return source(func() (View, error) {
		v, err := open()
		if err != nil {
			return nil, err // not v: an interface holding a nil pointer is not nil
		}
		return v, nil
	})
}

type source func() (View, error)

func (s source) View() (View, error) { return s() }
