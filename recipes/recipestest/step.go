package recipestest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// step implements statemachine.Step.
type step struct {
	store    *Store
	session  statemachine.LeaseID
	sequence uint64
	reacts   bool                 // the reactor runs
	events   []statemachine.Event // of the current revision
	deleted  []*mvccpb.KeyValue   // by the command, for the reactor
	done     []change             // the revisions that are closed
}

// end lets the reactor run and closes the command.
func (s *step) end() {
	s.reacts = true
	reactor := recipes.Reactor()
	var queues []string
	were := map[string][]*mvccpb.KeyValue{}
	for _, kv := range s.deleted {
		if !bytes.HasPrefix(kv.Key, reactor.Prefix()) {
			continue
		}
		queue := reactor.QueueOf(kv.Key)
		if were[queue] == nil {
			queues = append(queues, queue)
		}
		were[queue] = append(were[queue], kv)
	}
	for _, queue := range queues {
		err := s.store.Failing
		if err == nil {
			err = s.Attempt(func() error { return reactor.Deleted(s, queue, were[queue]) })
		}
		if err == nil {
			delete(s.store.broken, queue)
		} else {
			s.store.broken[queue] = true
		}
	}
	s.NextRevision()
	for _, c := range s.done {
		if s.store.Committed != nil {
			s.store.Committed(c.rev, c.events)
		}
	}
	s.done = nil
}

// Attempt is like the machine's.
func (s *step) Attempt(do func() error) error {
	before, kvs, notes, rev := *s, s.store.kvs.Clone(), maps.Clone(s.store.notes), s.store.Rev
	err := do()
	if err != nil {
		*s = before
		s.store.kvs, s.store.notes, s.store.Rev = kvs, notes, rev
	}
	return err
}

func (s *step) Broken(queue string) bool { return s.store.broken[queue] }

func (s *step) Mend(queue string) { delete(s.store.broken, queue) }

// Revision is like the machine's: with the writes of the current revision, if there are any.
func (s *step) Revision() statemachine.Revision {
	return s.store.Rev + min(1, statemachine.Revision(len(s.events)))
}

func (s *step) NextRevision() {
	if len(s.events) == 0 {
		return
	}
	s.store.Rev++
	s.done = append(s.done, change{s.store.Rev, s.events})
	s.events = nil
}

func (s *step) Get(key []byte) *mvccpb.KeyValue { return s.store.Get(key) }

func (s *step) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) { s.store.Scan(key, end, fn) }

func (s *step) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) { s.store.Children(parent, fn) }

func (s *step) ChildrenFrom(parent []byte, from statemachine.Revision, fn func(*mvccpb.KeyValue) bool) {
	s.store.Children(parent, func(kv *mvccpb.KeyValue) bool { return kv.CreateRevision < from || fn(kv) })
}

func (s *step) record(typ mvccpb.Event_EventType, kv *mvccpb.KeyValue) error {
	if slices.ContainsFunc(s.events, func(e statemachine.Event) bool { return bytes.Equal(e.Kv.Key, kv.Key) }) {
		return fmt.Errorf("%w: %q written twice in one revision", statemachine.ErrInvalid, kv.Key)
	}
	s.events = append(s.events, statemachine.Event{Type: typ, Kv: kv, PrevKv: s.Get(kv.Key)})
	return nil
}

func (s *step) Put(key, value []byte, lease statemachine.LeaseID) (statemachine.Revision, error) {
	if s.store.NoSpace && !s.reacts {
		return 0, statemachine.ErrNoSpace
	}
	if lease != 0 && !s.LeaseAlive(lease) {
		return 0, statemachine.ErrLeaseNotFound
	}
	rev, err := s.write(key, value, lease)
	if err == nil {
		delete(s.store.notes, string(key))
	}
	return rev, err
}

func (s *step) PutEntry(
	key, value []byte, lease statemachine.LeaseID, note statemachine.Attachment,
) (statemachine.Revision, error) {
	rev, err := s.Put(key, value, lease)
	if err != nil {
		return 0, err
	}
	if note.Sequence == 0 {
		note.Sequence = s.sequence
	}
	if note.SinceUnixMS == 0 {
		note.SinceUnixMS = s.store.UnixMS
	}
	s.store.notes[string(key)] = note
	return rev, nil
}

func (s *step) Attachment(lease statemachine.LeaseID, key []byte) statemachine.Attachment {
	if kv := s.Get(key); kv == nil || kv.Lease != lease {
		return statemachine.Attachment{}
	}
	return s.store.notes[string(key)]
}

func (s *step) Touch(key []byte) (statemachine.Revision, error) {
	old := s.Get(key)
	if old == nil {
		return 0, statemachine.ErrKeyNotFound
	}
	return s.write(key, old.Value, old.Lease)
}

func (s *step) write(key, value []byte, lease statemachine.LeaseID) (statemachine.Revision, error) {
	rev := s.store.Rev + 1
	kv := &mvccpb.KeyValue{Key: key, Value: value, Lease: lease, CreateRevision: rev, ModRevision: rev, Version: 1}
	if old := s.Get(key); old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	if err := s.record(mvccpb.Event_PUT, kv); err != nil {
		return 0, err
	}
	s.left(key, lease)
	s.store.kvs.ReplaceOrInsert(kv)
	return rev, nil
}

// left ends the lease of a lingering place whose key goes to another lease, or to none.
func (s *step) left(key []byte, to statemachine.LeaseID) {
	if old := s.Get(key); old != nil && old.Lease != to && statemachine.Lingers(old.Lease) {
		delete(s.store.Leases, old.Lease)
	}
}

func (s *step) Delete(key []byte) (bool, error) {
	old := s.Get(key)
	if old == nil {
		return false, nil
	}
	kv := &mvccpb.KeyValue{Key: key, ModRevision: s.store.Rev + 1}
	if err := s.record(mvccpb.Event_DELETE, kv); err != nil {
		return false, err
	}
	s.left(key, 0)
	s.store.kvs.Delete(kv)
	delete(s.store.notes, string(key))
	if !s.reacts {
		s.deleted = append(s.deleted, old)
	}
	return true, nil
}

func (s *step) LeaseAlive(id statemachine.LeaseID) bool {
	return s.store.Leases[id] && !statemachine.Lingers(id)
}

func (s *step) LeaseKeys(id statemachine.LeaseID) (keys [][]byte) {
	s.store.kvs.Ascend(func(kv *mvccpb.KeyValue) bool {
		if kv.Lease == id {
			keys = append(keys, kv.Key)
		}
		return true
	})
	return keys
}

func (s *step) Session() statemachine.LeaseID { return s.session }

func (s *step) IsSession(id statemachine.LeaseID) bool { return s.store.Sessions[id] }

func (s *step) ClockMS() int64 { return 0 }
