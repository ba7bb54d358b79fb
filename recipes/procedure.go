package recipes

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// What Attachment.Kind says of an entry.
const (
	KindLock             = uint64(coordv1.QueueKind_QUEUE_LOCK)
	KindElection         = uint64(coordv1.QueueKind_QUEUE_ELECTION)
	KindPriorityElection = uint64(coordv1.QueueKind_QUEUE_PRIORITY_ELECTION)
	KindRWLock           = uint64(coordv1.QueueKind_QUEUE_RWLOCK)
	KindSemaphore        = uint64(coordv1.QueueKind_QUEUE_SEMAPHORE)
	KindBarrier          = uint64(coordv1.QueueKind_QUEUE_BARRIER)
)

// KindEndpoint is noted with an instance's endpoint, its key in etcd's layout, which is an entry of no queue. No
// coordv1.QueueKind has this number.
const KindEndpoint = uint64(1 << 16)

// Names of the procedures of the unary services.
const (
	LockAcquire      = "lock.acquire.v1"      // recipesv1.Enqueue, Enqueued
	LockRelease      = "lock.release.v1"      // recipesv1.Remove, Removed
	ElectionCampaign = "election.campaign.v1" // recipesv1.Enqueue, Enqueued
	ElectionResign   = "election.resign.v1"   // recipesv1.Remove, Removed
	ElectionProclaim = "election.proclaim.v1" // recipesv1.Proclaim, Proclaimed
)

// Names of the procedures of the unary services for the other queues, whose entries are removed by LockRelease.
const (
	RWLockAcquire    = "rwlock.acquire.v1"    // recipesv1.Enqueue, Enqueued
	SemaphoreAcquire = "semaphore.acquire.v1" // recipesv1.Enqueue, Enqueued
	BarrierEnter     = "barrier.enter.v1"     // recipesv1.Enqueue, Enqueued
)

// Names of the procedures of the stream. Those that are called by kind run in a session; Transfer, AskRelease,
// Downgrade and Resize also without, ForceRelease only so.
const (
	RWAcquire     = "rw-acquire.v1"        // coordv1.RWAcquire, Acquired
	RWDowngrade   = "rw-downgrade.v1"      // coordv1.RWDowngrade, RWDowngraded
	SemaphoreTake = "semaphore-acquire.v1" // coordv1.SemaphoreAcquire, Acquired
	Resize        = "semaphore-resize.v1"  // coordv1.SemaphoreResize, SemaphoreResized
	Enter         = "barrier-enter.v1"     // coordv1.BarrierEnter, Acquired

	Acquire      = "acquire.v1"       // coordv1.Acquire, Acquired
	Release      = "release.v1"       // coordv1.Release, Released
	Campaign     = "campaign.v1"      // coordv1.Campaign, Acquired
	Proclaim     = "proclaim.v1"      // coordv1.Proclaim, Proclaimed
	Transfer     = "transfer.v1"      // coordv1.Transfer, Transferred
	AskRelease   = "ask-release.v1"   // coordv1.AskRelease, Asked
	ForceRelease = "force-release.v1" // coordv1.ForceReleaseRequest, ForceReleaseResponse
)

// Names of the procedures of counters, sequences, latches, gates and groups. They run in a session and without.
const (
	CounterAdd     = "counter.add.v1"      // coordv1.CounterAdd, CounterValue
	CounterSet     = "counter.set.v1"      // coordv1.CounterSet, CounterValue
	SequenceNext   = "sequence.next.v1"    // coordv1.SequenceNext, SequenceRange
	LatchSet       = "latch.set.v1"        // coordv1.LatchSet, LatchState
	LatchCountDown = "latch.count-down.v1" // coordv1.LatchCountDown, LatchState
	GateClose      = "gate.close.v1"       // coordv1.GateClose, GateState
	GateOpen       = "gate.open.v1"        // coordv1.GateOpen, GateState
	GroupJoin      = "group.join.v1"       // coordv1.GroupJoin, GroupJoined
	GroupUpdate    = "group.update.v1"     // coordv1.GroupUpdate, GroupUpdated
	GroupLeave     = "group.leave.v1"      // coordv1.GroupLeave, GroupLeft
)

// Names of the procedures of the service registry, of shared configuration, and of what operators delete. None is a
// request of a session: members call them for the services that check what is written.
const (
	RegistryPut    = "registry.put.v1"    // recipesv1.ServicePut, coordv1.ServicePutResponse
	RegistryRemove = "registry.remove.v1" // recipesv1.ServiceRemove, coordv1.ServiceRemoveResponse
	RegistryOrder  = "registry.order.v1"  // coordv1.ServiceOrderRequest, ServiceOrderResponse
	RegistryProbed = "registry.probed.v1" // recipesv1.ServiceFound, ServiceNoted
	ConfigCommit   = "config.commit.v1"   // recipesv1.ConfigCommit, ConfigCommitted
	ConfigReport   = "config.report.v1"   // coordv1.ConfigReportRequest, ConfigReportResponse
	ConfigDelete   = "config.delete.v1"   // coordv1.ConfigDeleteRequest, ConfigDeleteResponse
	DeleteObject   = "object.delete.v1"   // coordv1.DeleteObjectRequest, DeleteObjectResponse
)

// Program returns what this package is to the state machine: its procedures, Guard and Reactor.
func Program() statemachine.Program {
	return statemachine.Program{Procedures: Procedures(), Guard: Guard, Reactor: Reactor()}
}

// Procedures returns all procedures of this package.
func Procedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(called(LockAcquire, enqueueAs(KindLock, enterPlain))),
		freeing(called(LockRelease, remove)),
		growing(called(ElectionCampaign, enqueueAs(KindElection, enterPlain))),
		freeing(called(ElectionResign, remove)),
		called(ElectionProclaim, proclaim),
		growing(called(RWLockAcquire, enqueueAs(KindRWLock, enterRWLock))),
		growing(called(SemaphoreAcquire, enqueueAs(KindSemaphore, enterSemaphore))),
		growing(called(BarrierEnter, enqueueAs(KindBarrier, enterBarrier))),

		growing(requested(Acquire, coordv1.Kind_KIND_ACQUIRE, acquire)),
		freeing(requested(Release, coordv1.Kind_KIND_RELEASE, release)),
		growing(requested(Campaign, coordv1.Kind_KIND_CAMPAIGN, campaign)),
		requested(Proclaim, coordv1.Kind_KIND_PROCLAIM, proclaimRequest),
		requested(Transfer, coordv1.Kind_KIND_TRANSFER, transfer),
		requested(AskRelease, coordv1.Kind_KIND_ASK_RELEASE, askRelease),
		freeing(called(ForceRelease, forceRelease)),

		growing(requested(CounterAdd, coordv1.Kind_KIND_COUNTER_ADD, counterAdd)),
		growing(requested(CounterSet, coordv1.Kind_KIND_COUNTER_SET, counterSet)),
		growing(requested(SequenceNext, coordv1.Kind_KIND_SEQUENCE_NEXT, sequenceNext)),
		growing(requested(LatchSet, coordv1.Kind_KIND_LATCH_SET, latchSet)),
		requested(LatchCountDown, coordv1.Kind_KIND_LATCH_COUNT_DOWN, latchCountDown),
		growing(requested(GateClose, coordv1.Kind_KIND_GATE_CLOSE, gateClose)),
		requested(GateOpen, coordv1.Kind_KIND_GATE_OPEN, gateOpen),
		growing(requested(GroupJoin, coordv1.Kind_KIND_GROUP_JOIN, groupJoin)),
		growing(requested(GroupUpdate, coordv1.Kind_KIND_GROUP_UPDATE, groupUpdate)),
		freeing(requested(GroupLeave, coordv1.Kind_KIND_GROUP_LEAVE, groupLeave)),
		growing(requested(RWAcquire, coordv1.Kind_KIND_RW_ACQUIRE, rwAcquire)),
		requested(RWDowngrade, coordv1.Kind_KIND_RW_DOWNGRADE, rwDowngrade),
		growing(requested(SemaphoreTake, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, semaphoreAcquire)),
		requested(Resize, coordv1.Kind_KIND_SEMAPHORE_RESIZE, semaphoreResize),
		growing(requested(Enter, coordv1.Kind_KIND_BARRIER_ENTER, barrierEnter)),

		growing(called(RegistryPut, registryPut)),
		freeing(called(RegistryRemove, registryRemove)),
		called(RegistryOrder, registryOrder),
		called(RegistryProbed, registryProbed),
		called(ConfigCommit, configCommit),
		called(ConfigReport, configReport),
		freeing(called(ConfigDelete, configDelete)),
		freeing(called(DeleteObject, deleteObject)),
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

// sessionOf is the session whose request the step is. Without one ErrInvalid.
func sessionOf(step statemachine.Step) (statemachine.LeaseID, error) {
	if id := step.Session(); id != 0 {
		return id, nil
	}
	return 0, invalid("a request outside of a session")
}
