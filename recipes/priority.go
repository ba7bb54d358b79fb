package recipes

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// encodeCandidate is the value of a candidate's key: e with another value to proclaim.
func encodeCandidate(e Entry, value []byte) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&recipesv1.Candidate{
		Priority: e.Priority, Value: value, Elected: e.Elected,
	})
	if err != nil {
		panic(fmt.Sprintf("encode a candidate: %v", err)) // it has no strings
	}
	return b
}

// decodeCandidate takes apart the value of a candidate's key; false if no recipe wrote it.
func decodeCandidate(e *Entry) bool {
	c := &recipesv1.Candidate{}
	if proto.Unmarshal(e.Value, c) != nil || c.Priority == 0 {
		return false
	}
	e.Value, e.Priority, e.Elected = c.Value, c.Priority, c.Elected
	return true
}

// precedes says whether e is elected rather than o.
func (e Entry) precedes(o Entry) bool {
	if e.Priority != o.Priority {
		return e.Priority > o.Priority
	}
	return e.Compare(o) < 0
}

// leader is who leads an election with priorities. Its entry is empty if nobody does; it may linger.
type leader struct {
	entry Entry
	term  int64
}

func leaderOf(r Reader, queue string) leader {
	return leaderFrom(get(r, layout.RecordKey(queue, layout.Leader)), func(key string) (Entry, bool) {
		return entryOf(queue, get(r, key))
	})
}

// leaderFrom reads the leader's record. It counts only while the candidate stands as it did when it was elected.
func leaderFrom(record *mvccpb.KeyValue, find func(key string) (Entry, bool)) leader {
	if record == nil {
		return leader{}
	}
	l := &recipesv1.Leader{}
	if proto.Unmarshal(record.Value, l) != nil {
		return leader{}
	}
	e, ok := find(l.Key)
	if !ok || e.Token != l.Token || !e.Elected {
		return leader{}
	}
	return leader{entry: e, term: record.ModRevision}
}

func (s leader) elected() bool { return s.entry.Key != "" }

// campaignByPriority makes a candidate. It leads at once only if nobody does and no place is kept.
func campaignByPriority(
	step statemachine.Step, req *coordv1.Campaign, lease statemachine.LeaseID,
) (proto.Message, error) {
	queue := layout.ElectionQueue(req.Name, req.Priority)
	if err := mended(step, queue); err != nil {
		return nil, err
	}
	own := &ownersEntry{key: layout.EntryKey(queue, lease, req.OwnerId)}
	old := step.Get([]byte(own.key))
	if own.entry, own.exists = entryOf(queue, old); old != nil && (!own.exists || own.entry.Lingers) {
		return nil, refuse(ErrKeyTaken, "%q", own.key)
	}
	if !own.exists {
		own.entry = Entry{Key: own.key, Lease: lease, OwnerID: req.OwnerId}
	}
	s := leaderOf(step, queue)
	// Candidates without a leader are there only if an etcd client wrote where none should; then all are elected anew.
	alone := !s.elected() && !hasOther(step, queue, own.key)
	own.holds = alone || s.entry.Key == own.key
	own.entry.Priority, own.entry.Elected = req.Priority, own.holds
	made := own.holds || !req.Try
	resp := &coordv1.Acquired{Revision: step.Revision()}
	if made {
		note := statemachine.Attachment{Kind: KindPriorityElection, LingerMS: req.LingerMs}
		if err := own.enter(step, encodeCandidate(own.entry, req.Value), note); err != nil {
			return nil, err
		}
		resp.Revision = own.entry.Claim
	}
	var err error
	switch {
	case !made || s.elected():
	case alone:
		s.entry = own.entry
		s.term, err = putLeader(step, queue, own.entry)
	default:
		err = elect(step, queue)
		s = leaderOf(step, queue)
		own.holds = s.entry.Key == own.key
	}
	if err != nil {
		return nil, err
	}
	resp.Entries = []*coordv1.AcquiredEntry{own.candidacy(step, queue, s, made)}
	return resp, nil
}

// candidacy describes a candidate to its owner.
func (own *ownersEntry) candidacy(step statemachine.Step, queue string, s leader, made bool) *coordv1.AcquiredEntry {
	a := &coordv1.AcquiredEntry{Name: layout.NameOf(queue), Key: own.key}
	if made && own.holds {
		a.Token, a.State = s.term, coordv1.AcquiredEntry_HOLDS
		return a
	}
	if made {
		a.Token, a.State = own.entry.Token, coordv1.AcquiredEntry_WAITS
	}
	f := frontOf(step, queue)
	if !f.all {
		return a
	}
	if s.elected() && !s.entry.Lingers {
		a.Holder = noted(step, s.entry, KindPriorityElection)
		a.Holder.Token = s.term
	}
	for _, e := range f.entries {
		if made && e.Key != own.key && (e.Key == s.entry.Key || !e.Lingers && e.precedes(own.entry)) {
			a.Position++
		}
	}
	return a
}

// hasOther says whether there is a candidate beside that of key.
func hasOther(step statemachine.Step, queue, key string) (found bool) {
	eachEntry(step, queue, func(e Entry) bool {
		found = e.Key != key && electable(step, e)
		return !found
	})
	return found
}

func electable(step statemachine.Step, e Entry) bool {
	return !e.Lingers && !e.Elected && step.LeaseAlive(e.Lease)
}

// elect makes the best candidate the leader, or nobody if there is none. A candidate that led before loses its entry:
// who leads again does so by another campaign, so that a leader learns of the end of its term by the end of its entry.
func elect(step statemachine.Step, queue string) error {
	var best Entry
	var ended [][]byte // entries of candidates that led
	eachEntry(step, queue, func(e Entry) bool {
		switch {
		case electable(step, e) && (best.Key == "" || e.precedes(best)):
			best = e
		case e.Elected && !e.Lingers:
			ended = append(ended, []byte(e.Key))
		}
		return true
	})
	for _, key := range ended {
		if _, err := deleteKey(step, key); err != nil {
			return err
		}
	}
	if best.Key == "" {
		_, err := deleteKey(step, []byte(layout.RecordKey(queue, layout.Leader)))
		return err
	}
	_, err := install(step, queue, best)
	return err
}

// install makes a candidate the leader and returns the term.
func install(step statemachine.Step, queue string, e Entry) (term int64, err error) {
	e.Elected = true
	note := step.Attachment(e.Lease, []byte(e.Key))
	err = further(step, func() error {
		_, err := putNoted(step, e.Key, encodeCandidate(e, e.Value), e.Lease, note)
		return err
	})
	if err != nil {
		return 0, err
	}
	return putLeader(step, queue, e)
}

// putLeader writes who leads. The key belongs to no lease: it must not vanish at the revision that needs it written.
func putLeader(step statemachine.Step, queue string, e Entry) (term int64, err error) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(&recipesv1.Leader{Key: e.Key, Token: e.Token})
	if err != nil {
		return 0, fmt.Errorf("encode the leader of %q: %w", queue, err)
	}
	err = further(step, func() (err error) {
		term, err = step.Put([]byte(layout.RecordKey(queue, layout.Leader)), value, 0)
		return err
	})
	return term, err
}

func deleteKey(step statemachine.Step, key []byte) (existed bool, err error) {
	err = further(step, func() (err error) {
		existed, err = step.Delete(key)
		return err
	})
	return existed, err
}

// further writes, at the next revision if the key was written at this one.
func further(step statemachine.Step, write func() error) error {
	err := write()
	if errors.Is(err, statemachine.ErrInvalid) {
		step.NextRevision()
		err = write()
	}
	return err
}

// maxUnled is how many candidates are looked at, when one goes, where nobody leads and nobody did.
const maxUnled = 4

// left elects the next leader if the last one is gone. Without a record there was nobody to elect when it went, and
// nobody comes without being elected: so of candidates that die together not each has all others looked through. A few
// are, which only somebody who wrote by hand can have left there.
func (byRecord) left(step statemachine.Step, queue string, were []*mvccpb.KeyValue) error {
	record := layout.RecordKey(queue, layout.Leader)
	switch {
	case leaderOf(step, queue).elected():
		return nil
	case step.Get([]byte(record)) != nil, step.Broken(queue), deletedRecord(step, record, were) >= 0:
		return elect(step, queue)
	}
	left, found := maxUnled, false
	eachEntry(step, queue, func(e Entry) bool {
		left--
		found = electable(step, e)
		return !found && left > 0
	})
	if !found {
		return nil
	}
	return elect(step, queue)
}
