package recipes

import (
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Names of the procedures of gates.
const (
	GateClose = "gate.close.v1" // coordv1.GateClose, GateState
	GateOpen  = "gate.open.v1"  // coordv1.GateOpen, GateState
)

func gateProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(requested(GateClose, coordv1.Kind_KIND_GATE_CLOSE, gateClose)),
		requested(GateOpen, coordv1.Kind_KIND_GATE_OPEN, gateOpen),
	}
}

// gateClose closes a gate, anew if it is closed; coordv1's service Gate is its contract.
func gateClose(step statemachine.Step, req *coordv1.GateClose) (proto.Message, error) {
	key, err := object(layout.Gate, req.Name)
	if err != nil {
		return nil, err
	}
	if len(req.Reason) > objects.MaxReason {
		return nil, invalid("reason has %d bytes, more than %d", len(req.Reason), objects.MaxReason)
	}
	var lease statemachine.LeaseID
	switch {
	case req.Bound:
		if lease, err = sessionFor(step, req.Lease); err != nil {
			return nil, err
		}
	case req.Lease != 0:
		return nil, invalid("lease %d of a gate that is not bound", req.Lease)
	}
	old := step.Get(key)
	rev, err := putObject(step, key, &recipesv1.Gate{Reason: req.Reason}, lease)
	if err != nil {
		return nil, err
	}
	state := &coordv1.GateState{
		Closed: true, Since: rev, Reason: req.Reason, Session: lease, Revision: rev, Changed: old == nil,
	}
	if old != nil {
		state.Since = old.CreateRevision
	}
	return state, nil
}

// gateOpen opens a gate.
func gateOpen(step statemachine.Step, req *coordv1.GateOpen) (proto.Message, error) {
	key, err := object(layout.Gate, req.Name)
	if err != nil {
		return nil, err
	}
	state := &coordv1.GateState{Revision: step.Revision()}
	if state.Changed, err = step.Delete(key); err != nil {
		return nil, err
	}
	if state.Changed {
		state.Revision++
	}
	return state, nil
}
