package recipes

import (
	"math"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Names of the procedures of sequences.
const (
	SequenceNext = "sequence.next.v1" // coordv1.SequenceNext, SequenceRange
)

func sequenceProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(requested(SequenceNext, coordv1.Kind_KIND_SEQUENCE_NEXT, sequenceNext)),
	}
}

// maxSequenceNext is how many numbers one request takes at most.
const maxSequenceNext = 1 << 32

// sequenceNext gives out the next numbers; coordv1's service Sequence is its contract.
func sequenceNext(step statemachine.Step, req *coordv1.SequenceNext) (proto.Message, error) {
	key, err := object(layout.Sequence, req.Name)
	if err != nil {
		return nil, err
	}
	if req.Count < 1 || req.Count > maxSequenceNext {
		return nil, invalid("a count of %d, not between 1 and %d", req.Count, int64(maxSequenceNext))
	}
	last, err := objects.Sequence(step.Get(key))
	if err != nil {
		return nil, ObjectError(req.Name, err)
	}
	if last > math.MaxInt64-req.Count {
		return nil, refuse(ErrOverflow, "%q has %d numbers left, not %d", req.Name, math.MaxInt64-last, req.Count)
	}
	rev, err := putObject(step, key, &recipesv1.Sequence{Last: last + req.Count}, 0)
	if err != nil {
		return nil, err
	}
	return &coordv1.SequenceRange{First: last + 1, Count: req.Count, Revision: rev}, nil
}
