// Package recipestest is, for tests, the smallest thing that behaves like the state machine towards recipes: ordered
// keys, leases and a revision. Around it, Member adds what the services need of a member.
package recipestest

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/google/btree"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/lease"
)

// Store holds keys and leases. Not safe for concurrent use.
type Store struct {
	Rev    statemachine.Revision
	Leases map[statemachine.LeaseID]bool
	// Sessions says which leases are those of sessions.
	Sessions map[statemachine.LeaseID]bool
	// UnixMS is the time at which entries are made.
	UnixMS int64
	// NoSpace refuses the writes of procedures.
	NoSpace bool
	// Failing has reactions fail: the queue of each is broken.
	Failing error
	// Committed, if set, is called with the events of each revision.
	Committed func(statemachine.Revision, []statemachine.Event)

	kvs    *btree.BTreeG[*mvccpb.KeyValue] // they are never changed, only replaced
	notes  map[string]statemachine.Attachment
	broken map[string]bool // queues
	kept   *lease.Table    // gives lingering places the ids of their leases
}

// New returns an empty Store at revision 1.
func New() *Store {
	return &Store{
		Rev: 1, Leases: map[statemachine.LeaseID]bool{}, Sessions: map[statemachine.LeaseID]bool{},
		notes: map[string]statemachine.Attachment{},
		kept:  lease.NewTable(nil), broken: map[string]bool{},
		kvs: btree.NewG(16, func(a, b *mvccpb.KeyValue) bool { return bytes.Compare(a.Key, b.Key) < 0 }),
	}
}

// Copy is a Store with the same keys, for reading.
func (s *Store) Copy() *Store { return &Store{Rev: s.Rev, kvs: s.kvs.Clone()} }

// Get returns the latest version of key, nil if there is none.
func (s *Store) Get(key []byte) *mvccpb.KeyValue {
	kv, _ := s.kvs.Get(&mvccpb.KeyValue{Key: key})
	return kv
}

// Len is the number of keys.
func (s *Store) Len() int { return s.kvs.Len() }

// Scan calls fn for the keys in [key, end) in key order until fn returns false.
func (s *Store) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	s.kvs.AscendRange(&mvccpb.KeyValue{Key: key}, &mvccpb.KeyValue{Key: end}, fn)
}

// Children implements recipes.Reader.
func (s *Store) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) {
	var found []*mvccpb.KeyValue
	dir := append(bytes.Clone(parent), '/')
	s.Scan(dir, append(bytes.Clone(parent), '/'+1), func(kv *mvccpb.KeyValue) bool {
		if !bytes.Contains(kv.Key[len(dir):], []byte("/")) {
			found = append(found, kv)
		}
		return true
	})
	slices.SortStableFunc(found, func(a, b *mvccpb.KeyValue) int {
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	})
	for _, kv := range found {
		if !fn(kv) {
			return
		}
	}
}

// Put writes key as an etcd client would.
func (s *Store) Put(key, value string, on statemachine.LeaseID) error {
	st := &step{store: s}
	_, err := st.Put([]byte(key), []byte(value), on)
	st.end()
	return err
}

// PutTogether writes keys as a transaction of an etcd client would, in one revision.
func (s *Store) PutTogether(on statemachine.LeaseID, keys ...string) error {
	st := &step{store: s}
	for _, key := range keys {
		if _, err := st.Put([]byte(key), nil, on); err != nil {
			return err
		}
	}
	st.end()
	return nil
}

// Delete deletes keys as an etcd client would, in one revision.
func (s *Store) Delete(keys ...string) {
	st := &step{store: s}
	for _, key := range keys {
		_, _ = st.Delete([]byte(key))
	}
	st.end()
}

// Revoke deletes a lease and its keys in one revision.
func (s *Store) Revoke(id statemachine.LeaseID) { s.endLease(id, false) }

// Expire is Revoke, but for keys that linger: they are put again on a lease of their own.
func (s *Store) Expire(id statemachine.LeaseID) { s.endLease(id, true) }

// ExpirePlaces is Expire for the leases of all places that linger.
func (s *Store) ExpirePlaces() {
	for id := range maps.Clone(s.Leases) {
		if statemachine.Lingers(id) {
			s.Expire(id)
		}
	}
}

func (s *Store) endLease(id statemachine.LeaseID, linger bool) {
	st := &step{store: s}
	for _, k := range st.LeaseKeys(id) {
		note, old := s.notes[string(k)], s.Get(k)
		if !linger || note.LingerMS == 0 {
			_, _ = st.Delete(k)
			continue
		}
		kept := s.kept.GrantLingering(0, note.LingerMS, 1, "").ID
		s.Leases[kept] = true
		_, _ = st.write(k, old.Value, kept)
		note.LingerMS = 0
		s.notes[string(k)] = note
	}
	delete(s.Leases, id)
	delete(s.Sessions, id)
	st.end()
}

// Call runs a procedure as one command.
func (s *Store) Call(procedure string, request []byte) ([]byte, error) {
	for _, p := range recipes.Procedures() {
		if p.Name() == procedure {
			return s.run(p, &step{store: s}, request)
		}
	}
	return nil, fmt.Errorf("%w: no procedure %q", statemachine.ErrInvalid, procedure)
}

// Request runs a request of a session as one command.
func (s *Store) Request(
	session statemachine.LeaseID, sequence uint64, kind coordv1.Kind, request, response proto.Message,
) error {
	body, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	out, err := s.RequestBytes(session, sequence, kind, body)
	if err != nil {
		return err
	}
	return proto.Unmarshal(out, response)
}

// RequestBytes is Request with what is encoded.
func (s *Store) RequestBytes(
	session statemachine.LeaseID, sequence uint64, kind coordv1.Kind, body []byte,
) ([]byte, error) {
	for _, p := range recipes.Procedures() {
		if p.Kind() == kind && kind != 0 {
			return s.run(p, &step{store: s, session: session, sequence: sequence}, body)
		}
	}
	return nil, fmt.Errorf("%w: no procedure of %v", statemachine.ErrInvalid, kind)
}

func (s *Store) run(p statemachine.Procedure, st *step, request []byte) ([]byte, error) {
	var response []byte
	err := st.Attempt(func() (err error) {
		response, err = p.Run(st, request)
		return err
	})
	st.end()
	return response, err
}

// Step returns a step at the store's latest revision.
func (s *Store) Step() statemachine.Step { return &step{store: s} }
