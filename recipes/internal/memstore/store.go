// Package memstore is, for tests, the smallest thing that behaves like the state machine towards recipes: maps and a
// revision. Around it, Member adds what the services need of a member.
package memstore

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// Store holds keys and leases. Not safe for concurrent use.
type Store struct {
	Rev    statemachine.Revision
	KVs    map[string]*mvccpb.KeyValue // values are never changed, only replaced
	Leases map[statemachine.LeaseID]bool
	// NoSpace refuses the writes of procedures.
	NoSpace bool
	// Committed, if set, is called with the events of each revision.
	Committed func(statemachine.Revision, []statemachine.Event)
}

// New returns an empty Store at revision 1.
func New() *Store {
	return &Store{Rev: 1, KVs: map[string]*mvccpb.KeyValue{}, Leases: map[statemachine.LeaseID]bool{}}
}

// Scan implements recipes.Reader.
func (s *Store) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	var keys []string
	for k := range s.KVs {
		if k >= string(key) && k < string(end) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !fn(s.KVs[k]) {
			return
		}
	}
}

// Put writes key as an etcd client would.
func (s *Store) Put(key, value string, lease statemachine.LeaseID) error {
	st := &step{store: s}
	_, err := st.Put([]byte(key), []byte(value), lease)
	st.NextRevision()
	return err
}

// Delete deletes key as an etcd client would.
func (s *Store) Delete(key string) {
	st := &step{store: s}
	_, _ = st.Delete([]byte(key))
	st.NextRevision()
}

// Revoke deletes a lease and its keys in one revision.
func (s *Store) Revoke(lease statemachine.LeaseID) {
	st := &step{store: s}
	for _, k := range st.LeaseKeys(lease) {
		_, _ = st.Delete(k)
	}
	delete(s.Leases, lease)
	st.NextRevision()
}

// Call runs a procedure as one command. A refusal that came after a write is an error that wraps nothing.
func (s *Store) Call(procedure string, request []byte) ([]byte, error) {
	for _, p := range recipes.Procedures() {
		if p.Name() != procedure {
			continue
		}
		st, before := &step{store: s}, s.Rev
		response, err := p.Run(st, request)
		if err != nil && (len(st.events) > 0 || s.Rev != before) {
			return nil, fmt.Errorf("%s was refused after it had written: %v", procedure, err)
		}
		st.NextRevision()
		return response, err
	}
	return nil, fmt.Errorf("%w: no procedure %q", statemachine.ErrInvalid, procedure)
}

// Step returns a step at the store's latest revision.
func (s *Store) Step() statemachine.Step { return &step{store: s} }

// step implements statemachine.Step.
type step struct {
	store  *Store
	events []statemachine.Event // of the current revision
}

func (s *step) Revision() statemachine.Revision { return s.store.Rev }

func (s *step) NextRevision() {
	if len(s.events) == 0 {
		return
	}
	s.store.Rev++
	if s.store.Committed != nil {
		s.store.Committed(s.store.Rev, s.events)
	}
	s.events = nil
}

func (s *step) Get(key []byte) *mvccpb.KeyValue { return s.store.KVs[string(key)] }

func (s *step) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) { s.store.Scan(key, end, fn) }

func (s *step) record(typ mvccpb.Event_EventType, kv *mvccpb.KeyValue) error {
	if slices.ContainsFunc(s.events, func(e statemachine.Event) bool { return string(e.Kv.Key) == string(kv.Key) }) {
		return fmt.Errorf("%w: %q written twice in one revision", statemachine.ErrInvalid, kv.Key)
	}
	s.events = append(s.events, statemachine.Event{Type: typ, Kv: kv, PrevKv: s.store.KVs[string(kv.Key)]})
	return nil
}

func (s *step) Put(key, value []byte, lease statemachine.LeaseID) (statemachine.Revision, error) {
	if s.store.NoSpace {
		return 0, statemachine.ErrNoSpace
	}
	if lease != 0 && !s.store.Leases[lease] {
		return 0, statemachine.ErrLeaseNotFound
	}
	return s.write(key, value, lease)
}

func (s *step) Touch(key []byte) (statemachine.Revision, error) {
	old := s.store.KVs[string(key)]
	if old == nil {
		return 0, statemachine.ErrKeyNotFound
	}
	return s.write(key, old.Value, old.Lease)
}

func (s *step) write(key, value []byte, lease statemachine.LeaseID) (statemachine.Revision, error) {
	rev := s.store.Rev + 1
	kv := &mvccpb.KeyValue{Key: key, Value: value, Lease: lease, CreateRevision: rev, ModRevision: rev, Version: 1}
	if old := s.store.KVs[string(key)]; old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	if err := s.record(mvccpb.Event_PUT, kv); err != nil {
		return 0, err
	}
	s.store.KVs[string(key)] = kv
	return rev, nil
}

func (s *step) Delete(key []byte) (bool, error) {
	if s.store.KVs[string(key)] == nil {
		return false, nil
	}
	if err := s.record(mvccpb.Event_DELETE, &mvccpb.KeyValue{Key: key, ModRevision: s.store.Rev + 1}); err != nil {
		return false, err
	}
	delete(s.store.KVs, string(key))
	return true, nil
}

func (s *step) LeaseAlive(id statemachine.LeaseID) bool { return s.store.Leases[id] }

func (s *step) LeaseKeys(id statemachine.LeaseID) [][]byte {
	var keys [][]byte
	for _, k := range slices.Sorted(maps.Keys(s.store.KVs)) {
		if s.store.KVs[k].Lease == id {
			keys = append(keys, []byte(k))
		}
	}
	return keys
}

func (s *step) ClockMS() int64 { return 0 }

// PutEntry implements statemachine.Step.
func (s *step) PutEntry(key, value []byte, lease statemachine.LeaseID, _ statemachine.Attachment) (statemachine.Revision, error) {
	return s.Put(key, value, lease)
}

// Attachment implements statemachine.Step.
func (s *step) Attachment(statemachine.LeaseID, []byte) statemachine.Attachment {
	return statemachine.Attachment{}
}

// Session implements statemachine.Step.
func (s *step) Session() statemachine.LeaseID { return 0 }

// IsSession implements statemachine.Step.
func (s *step) IsSession(statemachine.LeaseID) bool { return false }
