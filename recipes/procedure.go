package recipes

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// What Attachment.Kind says of an entry; of one in another queue its kind's own file does.
const (
	KindLock             = uint64(coordv1.QueueKind_QUEUE_LOCK)
	KindElection         = uint64(coordv1.QueueKind_QUEUE_ELECTION)
	KindPriorityElection = uint64(coordv1.QueueKind_QUEUE_PRIORITY_ELECTION)
)

// KindEndpoint is noted with an instance's endpoint, its key in etcd's layout, which is an entry of no queue. No
// coordv1.QueueKind has this number.
const KindEndpoint = uint64(1 << 16)

// Names of the procedures of locks and elections, and of those for queues of any kind. By kind they run in a session,
// by name without one: then a request for an entry names the session's lease. ForceRelease runs only by name.
const (
	Acquire      = "acquire.v1"       // coordv1.Acquire, Acquired
	Release      = "release.v1"       // coordv1.Release, Released
	Campaign     = "campaign.v1"      // coordv1.Campaign, Acquired
	Proclaim     = "proclaim.v1"      // coordv1.Proclaim, Proclaimed
	Transfer     = "transfer.v1"      // coordv1.Transfer, Transferred
	AskRelease   = "ask-release.v1"   // coordv1.AskRelease, Asked
	ForceRelease = "force-release.v1" // coordv1.ForceReleaseRequest, ForceReleaseResponse
)

// DeleteObject is the name of the procedure of what operators delete. Like those of the registry and of configuration
// it is no request of a session: members call them for the services that check what is written.
const DeleteObject = "object.delete.v1" // coordv1.DeleteObjectRequest, DeleteObjectResponse

// Program returns what this package is to the state machine: its procedures, Guard and Reactor.
func Program() statemachine.Program {
	return statemachine.Program{Procedures: Procedures(), Guard: Guard, Reactor: Reactor()}
}

// Procedures returns all procedures of this package.
func Procedures() []statemachine.Procedure {
	all := queueProcedures()
	for _, p := range parts() {
		all = append(all, p.procedures...)
	}
	return append(all, freeing(called(DeleteObject, deleteObject)))
}

// queueProcedures are those of locks and elections, and those for queues of any kind.
func queueProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(requested(Acquire, coordv1.Kind_KIND_ACQUIRE, acquire)),
		freeing(requested(Release, coordv1.Kind_KIND_RELEASE, release)),
		growing(requested(Campaign, coordv1.Kind_KIND_CAMPAIGN, campaign)),
		requested(Proclaim, coordv1.Kind_KIND_PROCLAIM, proclaim),
		requested(Transfer, coordv1.Kind_KIND_TRANSFER, transfer),
		requested(AskRelease, coordv1.Kind_KIND_ASK_RELEASE, askRelease),
		freeing(called(ForceRelease, forceRelease)),
	}
}

func called[T any, Request message[T]](
	name string, run func(statemachine.Step, Request) (proto.Message, error),
) statemachine.Procedure {
	return procedure[T, Request]{name, 0, run}
}

func requested[T any, Request message[T]](
	name string, kind coordv1.Kind, run func(statemachine.Step, Request) (proto.Message, error),
) statemachine.Procedure {
	return procedure[T, Request]{name, kind, run}
}

// freed is a procedure that only gives something back.
type freed struct{ statemachine.Procedure }

func freeing(p statemachine.Procedure) statemachine.Procedure { return freed{p} }

// Frees implements statemachine.Procedure.
func (freed) Frees() bool { return true }

// grown is a procedure that makes something new, so the member that takes the request asks first whether there is
// space.
type grown struct{ statemachine.Procedure }

func growing(p statemachine.Procedure) statemachine.Procedure { return grown{p} }

// Grows says whether a procedure makes something new, for which there must be space. The others free, or change what is
// there in the hands of its holder.
func Grows(p statemachine.Procedure) bool {
	_, ok := p.(grown)
	return ok
}

type message[T any] interface {
	*T
	proto.Message
}

// procedure is a step on decoded messages.
type procedure[T any, Request message[T]] struct {
	name string
	kind coordv1.Kind
	step func(statemachine.Step, Request) (proto.Message, error)
}

// Name implements statemachine.Procedure.
func (p procedure[T, Request]) Name() string { return p.name }

// Kind implements statemachine.Procedure.
func (p procedure[T, Request]) Kind() coordv1.Kind { return p.kind }

// Request implements statemachine.Procedure.
func (p procedure[T, Request]) Request() proto.Message { return Request(new(T)) }

// Frees implements statemachine.Procedure.
func (p procedure[T, Request]) Frees() bool { return false }

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
	// The response of a request is stored: the same bytes on every replica.
	return proto.MarshalOptions{Deterministic: true}.Marshal(resp)
}
