package recipes

import (
	"errors"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Names of the procedures of latches.
const (
	LatchSet       = "latch.set.v1"        // coordv1.LatchSet, LatchState
	LatchCountDown = "latch.count-down.v1" // coordv1.LatchCountDown, LatchState
)

func latchProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(requested(LatchSet, coordv1.Kind_KIND_LATCH_SET, latchSet)),
		requested(LatchCountDown, coordv1.Kind_KIND_LATCH_COUNT_DOWN, latchCountDown),
	}
}

// Refusals of latches.
var (
	// ErrLatchState: a latch that counts cannot be set; or it is in another generation.
	ErrLatchState error = &refusal{reason: coordv1.Error_REASON_LATCH_STATE, text: "the latch is in another state"}
)

// latchSet begins a generation of a latch; coordv1's service Latch is its contract.
func latchSet(step statemachine.Step, req *coordv1.LatchSet) (proto.Message, error) {
	key, err := object(layout.Latch, req.Name)
	if err != nil {
		return nil, err
	}
	if req.Count < 0 {
		return nil, invalid("a count of %d, less than 0", req.Count)
	}
	old, err := objects.Latch(step.Get(key))
	switch {
	case errors.Is(err, objects.ErrNotSet):
	case err != nil:
		return nil, ObjectError(req.Name, err)
	case old.Remaining > 0:
		return nil, refuse(ErrLatchState, "%q counts: %d remain of generation %d", req.Name, old.Remaining,
			old.Generation)
	}
	return putLatch(step, key, &recipesv1.Latch{
		Generation: step.Revision() + 1, Count: req.Count, Remaining: req.Count,
	})
}

// latchCountDown counts a latch down. At zero there is nothing to count.
func latchCountDown(step statemachine.Step, req *coordv1.LatchCountDown) (proto.Message, error) {
	key, err := object(layout.Latch, req.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case req.Count < 1:
		return nil, invalid("a count of %d, less than 1", req.Count)
	case req.Generation < 0:
		return nil, invalid("generation %d is negative", req.Generation)
	}
	latch, err := objects.Latch(step.Get(key))
	if err != nil {
		return nil, ObjectError(req.Name, err)
	}
	switch {
	case req.Generation != 0 && req.Generation != latch.Generation:
		return nil, refuse(ErrLatchState, "%q is in generation %d, not %d", req.Name, latch.Generation, req.Generation)
	case latch.Remaining == 0:
		latch.Revision = step.Revision()
		return latch, nil
	}
	remaining := max(0, latch.Remaining-req.Count)
	return putLatch(step, key, &recipesv1.Latch{Generation: latch.Generation, Count: latch.Count, Remaining: remaining})
}

func putLatch(step statemachine.Step, key []byte, l *recipesv1.Latch) (proto.Message, error) {
	rev, err := putObject(step, key, l, 0)
	if err != nil {
		return nil, err
	}
	return &coordv1.LatchState{Generation: l.Generation, Count: l.Count, Remaining: l.Remaining, Revision: rev}, nil
}
