package recipes

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Refusals of the procedures, beside those of statemachine (ErrInvalid, ErrLeaseNotFound).
var (
	// ErrTokenMismatch: the entry's token is smaller than the one given, which was therefore never granted to it.
	ErrTokenMismatch = errors.New("token does not belong to the entry")
	// ErrNotHolder: the entry does not hold, or no longer exists.
	ErrNotHolder = errors.New("not the holder")
	// ErrKeyTaken: at the entry's key stands a key that is no entry, because it is not attached to the lease in its name.
	ErrKeyTaken = errors.New("a foreign key stands at the entry's place")
)

// Names of the procedures.
const (
	LockAcquire      = "lock.acquire.v1"      // Enqueue, Enqueued
	LockRelease      = "lock.release.v1"      // Remove, Removed
	ElectionCampaign = "election.campaign.v1" // Enqueue, Enqueued
	ElectionResign   = "election.resign.v1"   // Remove, Removed
	ElectionProclaim = "election.proclaim.v1" // Proclaim, Proclaimed
)

// Procedures returns all procedures of this package, for statemachine.Options.
func Procedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		procedure[recipesv1.Enqueue, *recipesv1.Enqueue]{LockAcquire, enqueue},
		procedure[recipesv1.Remove, *recipesv1.Remove]{LockRelease, remove},
		procedure[recipesv1.Enqueue, *recipesv1.Enqueue]{ElectionCampaign, enqueue},
		procedure[recipesv1.Remove, *recipesv1.Remove]{ElectionResign, remove},
		procedure[recipesv1.Proclaim, *recipesv1.Proclaim]{ElectionProclaim, proclaim},
	}
}

// procedure is a step on decoded messages.
type procedure[T any, Request interface {
	*T
	proto.Message
}] struct {
	name string
	step func(statemachine.Step, Request) (proto.Message, error)
}

// Name implements statemachine.Procedure.
func (p procedure[T, Request]) Name() string { return p.name }

// Kind implements statemachine.Procedure.
func (p procedure[T, Request]) Kind() coordv1.Kind { return 0 }

// Run implements statemachine.Procedure.
func (p procedure[T, Request]) Run(step statemachine.Step, request []byte) ([]byte, error) {
	req := Request(new(T))
	if err := proto.Unmarshal(request, req); err != nil {
		return nil, invalid("%s: %v", p.name, err)
	}
	resp, err := p.step(step, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return proto.Marshal(resp)
}
