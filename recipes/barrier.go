package recipes

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// KindBarrier is what Attachment.Kind says of an entry.
const KindBarrier = uint64(coordv1.QueueKind_QUEUE_BARRIER)

// MaxParties bounds the parties of a barrier.
const MaxParties = 100_000

// BarrierEnter is the name of the procedure of barriers.
const BarrierEnter = "barrier-enter.v1" // coordv1.BarrierEnter, Acquired

func barrierProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(requested(BarrierEnter, coordv1.Kind_KIND_BARRIER_ENTER, barrierEnter)),
	}
}

// Refusals of barriers.
var (
	// ErrBarrierFull: the barrier is open, and not all have left.
	ErrBarrierFull error = &refusal{reason: coordv1.Error_REASON_BARRIER_FULL, text: "the barrier has all its parties"}
	// ErrPartiesMismatch: those who are at the barrier wait for another number of parties.
	ErrPartiesMismatch error = &refusal{
		reason: coordv1.Error_REASON_PARTIES_MISMATCH, text: "the barrier is for another number of parties",
	}
)

// The double barrier; see service Barrier for what it promises. Its record is coordv1.BarrierState: while it is open,
// the entries up to its last token are inside. The entry that makes the barrier full writes it in its own commit, and a
// reaction to the deletion of the last one closes it. Only when the counts say that all could be there are the living
// ones counted.

// allTogether is the rule of barriers.
var allTogether = barrierRule{inOrder{layout.State, func(record *mvccpb.KeyValue) int64 {
	return lastTogether(BarrierState(record))
}}}

type barrierRule struct{ inOrder }

// lastTogether is the last token of the generation that is inside.
func lastTogether(s *coordv1.BarrierState) int64 {
	if !s.Open {
		return 0
	}
	return s.Last
}

// BarrierState reads a barrier's record; the zero value if there is none.
func BarrierState(record *mvccpb.KeyValue) *coordv1.BarrierState {
	s, ok := readBarrier(record)
	if !ok {
		return &coordv1.BarrierState{}
	}
	return s
}

// readBarrier reports false for what is no barrier's record.
func readBarrier(record *mvccpb.KeyValue) (s *coordv1.BarrierState, ok bool) {
	s = &coordv1.BarrierState{}
	return s, record == nil || proto.Unmarshal(record.Value, s) == nil
}

// barrierEnter makes a party.
func barrierEnter(step statemachine.Step, req *coordv1.BarrierEnter) (proto.Message, error) {
	a, err := newAcquisition(step, KindBarrier, req, false, 0)
	if err != nil {
		return nil, err
	}
	a.parties = req.Parties
	return a.acquired(step, enterBarrier)
}

// enterBarrier makes a party, and opens the barrier if it is the last one. ErrBarrierFull, ErrPartiesMismatch.
func enterBarrier(step statemachine.Step, a *acquisition) (*ownersEntry, bool, error) {
	if a.resumes == 0 && (a.parties < 1 || a.parties > MaxParties) {
		return nil, false, invalid("%d parties, not between 1 and %d", a.parties, MaxParties)
	}
	record := []byte(allTogether.Record(a.queue))
	state, ok := readBarrier(step.Get(record))
	if !ok {
		return nil, false, statemachine.NewQueueBroken(a.queue, fmt.Errorf("what stands at %q is no barrier: delete "+
			"it when nobody is there", record))
	}
	own, err := findByCounts(step, a.queue, func(*recipesv1.Tally, Entry) bool { return false }, a.entry)
	switch {
	case err != nil:
		return nil, false, err
	case a.resumes == 0 && own.counts.Entries > 0 && state.Parties != a.parties:
		return nil, false, refuse(ErrPartiesMismatch, "%d, and those who are there wait for %d", a.parties,
			state.Parties)
	case own.exists:
		made, err := a.take(step, own)
		return own, made, err
	case state.Open:
		return nil, false, refuse(ErrBarrierFull, "%q in generation %d", layout.NameOf(a.queue), state.Generation)
	}
	before := proto.CloneOf(state)
	dead := own.arrive(step, a, state)
	if !proto.Equal(before, state) {
		if _, err := step.Put(record, encode(state), 0); err != nil {
			return nil, false, err
		}
	}
	made, err := a.take(step, own)
	if err != nil {
		return nil, false, err
	}
	for _, key := range dead {
		if _, err := step.Delete(key); err != nil {
			return nil, false, err
		}
	}
	return own, made, nil
}

// arrive has a party come, and opens the barrier if that makes it full. dead are the entries of sessions that are
// overdue: they are not counted and, as they must not be inside, to be deleted a little before their time. So the
// parties are read once, by the last one: if it finds dead ones they are gone then, and the next one that looks opens
// the barrier.
func (own *ownersEntry) arrive(step statemachine.Step, a *acquisition, state *coordv1.BarrierState) (dead [][]byte) {
	state.Parties = a.parties
	if own.counts.Entries+1 < a.parties {
		return nil
	}
	there, first := int64(1), own.entry.Token
	eachEntry(step, a.queue, func(e Entry) bool {
		if e.Lingers || !step.LeaseAlive(e.Lease) {
			dead = append(dead, []byte(e.Key))
			return true
		}
		there++
		first = min(first, e.Token)
		return true
	})
	if there < a.parties {
		return dead
	}
	state.Open, state.First, state.Last = true, first, own.entry.Token
	state.Generation++
	own.holds = true
	return dead
}

// left ends the generation when nobody is inside any more.
func (r barrierRule) left(step statemachine.Step, queue string, were []*mvccpb.KeyValue) error {
	record := []byte(r.Record(queue))
	state := BarrierState(step.Get(record))
	switch entries, err := countLeft(step, queue, were, func(*recipesv1.Tally) {}); {
	case err != nil:
		return err
	case entries > 0:
		return keepRecord(step, r.Record(queue), were)
	case !state.Open:
		return nil
	}
	state.Open = false
	return further(step, func() error {
		_, err := step.Put(record, encode(state), 0)
		return err
	})
}

// Barrier is what the barrier is whose queue was read, nil where it is another kind's.
func (s *Snapshot) Barrier() *coordv1.BarrierInfo {
	if layout.KindOf(s.Queue) != coordv1.QueueKind_QUEUE_BARRIER {
		return nil
	}
	state := BarrierState(s.record)
	info := &coordv1.BarrierInfo{
		Generation: state.Generation, Parties: state.Parties, Arrived: int64(len(s.Sorted)), Open: state.Open,
	}
	if info.Arrived == 0 {
		info.Parties = 0
	}
	return info
}

// barrierRemains is the record, which stays when nobody is at the barrier.
func barrierRemains(step statemachine.Step, name string) (string, error) {
	queue := layout.QueueOf(coordv1.QueueKind_QUEUE_BARRIER, name)
	if anybody(step, queue) {
		return "", refuse(ErrBarrierFull, "barrier %q is in use", name)
	}
	return allTogether.Record(queue), nil
}
