package recipes

import (
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// maxPrevious is how many previous tokens of a candidate the note of a transfer remembers.
const maxPrevious = 32

// MaxMoved is how many candidates may stand between the leader and the target of a transfer: each is written anew, and
// all wait meanwhile. maxNoted is how many that were moved before the note of a transfer remembers beside them.
const (
	MaxMoved = 1000
	maxNoted = 4 * MaxMoved
)

// transfer makes another candidate the leader: the leader's entry is deleted, and where the order decides, candidates
// ahead of the target are put behind it, in their order, one revision each. A note tells that it was a transfer.
func transfer(step statemachine.Step, req *coordv1.Transfer) (proto.Message, error) {
	queue, err := entryQueue(req.Name, req.To)
	if err != nil {
		return nil, err
	}
	if ByPriority(queue) != (req.Priority != 0) {
		return nil, invalid("key %q is not one of the election that is meant", req.To)
	}
	if err := mended(step, queue); err != nil {
		return nil, err
	}
	if ByPriority(queue) {
		return transferByPriority(step, queue, req)
	}
	entries := upTo(step, queue, req.To)
	if len(entries) == 0 || entries[0].Lingers {
		return nil, refuse(ErrNoLeader, "%q", req.Name)
	}
	leader := entries[0]
	if err := checkLeader(req.Leader, leader.Key, leader.Token); err != nil {
		return nil, err
	}
	if HasIdentity(coordv1.QueueKind(notedKind(step, queue, leader))) {
		return nil, refuse(ErrWrongKind, "%q is no election", req.Name)
	}
	at := slices.IndexFunc(entries, func(e Entry) bool { return e.Key == req.To })
	if at < 0 && len(entries) > MaxMoved+1 && step.Get([]byte(req.To)) != nil {
		return nil, refuse(ErrTooManyMoved, "more than %d before %q", MaxMoved, req.To)
	}
	if at < 0 || entries[at].Lingers || entries[at].Foreign || !step.LeaseAlive(entries[at].Lease) {
		return nil, refuse(ErrNoCandidate, "%q", req.To)
	}
	if i := slices.IndexFunc(entries, func(e Entry) bool { return e.Foreign }); i >= 0 {
		return nil, refuse(ErrForeignCandidate, "%q", entries[i].Key)
	}
	resp := &coordv1.Transferred{Term: entries[at].Token, Revision: step.Revision()}
	if at == 0 {
		return resp, nil
	}
	ahead := entries[1:at]
	moved, err := movable(step, ahead)
	if err != nil {
		return nil, err
	}
	resp.Revision, err = putBehind(step, queue, leader, req.To, ahead, moved)
	return resp, err
}

// upTo returns the entries of queue up to a key and what was created with it, which is all that is in its way, as far
// as a transfer may go. Those that were created with another one are foreign: only a transaction of an etcd client
// makes such.
func upTo(step statemachine.Step, queue, key string) (entries []Entry) {
	last := int64(math.MaxInt64)
	eachEntry(step, queue, func(e Entry) bool {
		if e.Token > last || len(entries) > MaxMoved+1 {
			return false
		}
		if n := len(entries); n > 0 && entries[n-1].Token == e.Token {
			entries[n-1].Foreign, e.Foreign = true, true
		}
		if e.Key == key {
			last = e.Token
		}
		entries = append(entries, e)
		return true
	})
	return entries
}

func checkLeader(want *coordv1.Guard, key string, term int64) error {
	if want != nil && (want.Key != key || want.Token != term) {
		return refuse(ErrNotHolder, "%q in term %d", want.Key, want.Token)
	}
	return nil
}

// moving is a candidate that is put behind another one.
type moving struct {
	Entry
	note statemachine.Attachment
}

// movable returns those of the entries that are to be put behind: the dead are not. ErrForeignCandidate if there is one
// that nobody would follow there: an etcd client's, or one of the unary API.
func movable(step statemachine.Step, ahead []Entry) ([]moving, error) {
	var moved []moving
	for _, e := range ahead {
		if e.Lingers || !step.LeaseAlive(e.Lease) {
			continue // it never led, so its place protects nothing
		}
		note := step.Attachment(e.Lease, []byte(e.Key))
		if note.Kind != KindElection || note.Sequence == 0 { // only a session's requests have one
			return nil, refuse(ErrForeignCandidate, "%q", e.Key)
		}
		moved = append(moved, moving{e, note})
	}
	return moved, nil
}

// putBehind deletes the leader's entry and all ahead, and makes anew those that are moved. It returns the last
// revision.
func putBehind(
	step statemachine.Step, queue string, leader Entry, to string, ahead []Entry, moved []moving,
) (statemachine.Revision, error) {
	last, err := putTransfer(step, queue, leader, leader.Token, to, moved)
	if err != nil {
		return 0, err
	}
	for _, e := range append([]Entry{leader}, ahead...) {
		if _, err := step.Delete([]byte(e.Key)); err != nil {
			return 0, err
		}
	}
	for _, m := range moved {
		step.NextRevision()
		if last, err = step.PutEntry([]byte(m.Key), m.Value, m.Lease, m.note); err != nil {
			return 0, err
		}
	}
	return last, nil
}

// putTransfer writes the note of a transfer. It names the tokens that each candidate had before it was moved, by this
// transfer or an earlier one, so that whoever missed some of them finds its entry again.
func putTransfer(
	step statemachine.Step, queue string, from Entry, term int64, to string, moved []moving,
) (statemachine.Revision, error) {
	key := []byte(layout.TransferKey(queue))
	before := ParseTransfer(step.Get(key))
	note := &recipesv1.Transfer{From: from.Key, FromToken: term, To: to}
	again := map[string]bool{}
	earlier := before.byKey()
	for i, m := range moved {
		previous := append(earlier[m.Key].previous(m.Token), m.Token)
		note.Moved = append(note.Moved, &recipesv1.Moved{
			// the note takes the first
			Key: m.Key, Former: previous[max(0, len(previous)-maxPrevious):], Token: step.Revision() + 2 + int64(i),
		})
		again[m.Key] = true
	}
	for i, m := range before.GetMoved() {
		if i >= maxNoted {
			break
		}
		if e, ok := entryOf(queue, step.Get([]byte(m.Key))); ok && !again[m.Key] && e.Token == m.Token &&
			m.Key != from.Key {
			note.Moved = append(note.Moved, m)
		}
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(note)
	if err != nil {
		return 0, fmt.Errorf("encode the note of a transfer: %w", err)
	}
	return step.Put(key, value, 0)
}

// transferByPriority makes the target the leader; the others keep their positions.
func transferByPriority(step statemachine.Step, queue string, req *coordv1.Transfer) (proto.Message, error) {
	s := leaderOf(step, queue)
	if !s.elected() || s.entry.Lingers {
		return nil, refuse(ErrNoLeader, "%q", req.Name)
	}
	if err := checkLeader(req.Leader, s.entry.Key, s.term); err != nil {
		return nil, err
	}
	if s.entry.Key == req.To {
		return &coordv1.Transferred{Term: s.term, Revision: step.Revision()}, nil
	}
	e, ok := entryOf(queue, step.Get([]byte(req.To)))
	if !ok || !electable(step, e) {
		return nil, refuse(ErrNoCandidate, "%q", req.To)
	}
	if _, err := putTransfer(step, queue, s.entry, s.term, req.To, nil); err != nil {
		return nil, err
	}
	term, err := install(step, queue, e)
	if err != nil {
		return nil, err
	}
	if _, err := step.Delete([]byte(s.entry.Key)); err != nil {
		return nil, err
	}
	return &coordv1.Transferred{Term: term, Revision: term}, nil
}
