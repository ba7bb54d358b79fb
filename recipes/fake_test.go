package recipes_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// store is the smallest thing that behaves like the state machine towards a procedure: maps, and a revision.
type store struct {
	rev    int64
	kvs    map[string]*mvccpb.KeyValue
	leases map[int64]bool
}

func newStore() *store {
	return &store{rev: 1, kvs: map[string]*mvccpb.KeyValue{}, leases: map[int64]bool{}}
}

// Scan implements recipes.Reader.
func (s *store) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	for _, k := range slices.Sorted(maps.Keys(s.kvs)) {
		if k >= string(key) && k < string(end) && !fn(s.kvs[k]) {
			return
		}
	}
}

// put and delete are commands of an etcd client, each a revision.
func (s *store) put(key, value string, lease int64) {
	st := &step{store: s}
	if _, err := st.Put([]byte(key), []byte(value), lease); err != nil {
		panic(err)
	}
	st.NextRevision()
}

func (s *store) delete(key string) {
	st := &step{store: s}
	_, _ = st.Delete([]byte(key))
	st.NextRevision()
}

// revoke deletes a lease and its keys in one revision.
func (s *store) revoke(lease int64) {
	st := &step{store: s}
	for _, k := range st.LeaseKeys(lease) {
		_, _ = st.Delete(k)
	}
	st.NextRevision()
	delete(s.leases, lease)
}

// call runs a procedure as one command.
func (s *store) call(tb testing.TB, name string, req, resp proto.Message) error {
	tb.Helper()
	body, err := proto.Marshal(req)
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range recipes.Procedures() {
		if p.Name() != name {
			continue
		}
		st := &step{store: s}
		out, err := p.Run(st, body)
		if err != nil {
			if len(st.written) > 0 || s.rev != st.store.rev {
				tb.Fatalf("%s was refused (%v) after it had written %v", name, err, st.written)
			}
			return err
		}
		st.NextRevision()
		return proto.Unmarshal(out, resp)
	}
	tb.Fatalf("no procedure %q", name)
	return nil
}

// step implements statemachine.Step on a store.
type step struct {
	store   *store
	written []string // in the current revision
}

func (s *step) Revision() int64 { return s.store.rev }

func (s *step) NextRevision() {
	if len(s.written) > 0 {
		s.store.rev++
		s.written = nil
	}
}

func (s *step) Get(key []byte) *mvccpb.KeyValue { return s.store.kvs[string(key)] }

func (s *step) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) { s.store.Scan(key, end, fn) }

func (s *step) write(key []byte) error {
	if slices.Contains(s.written, string(key)) {
		return fmt.Errorf("%w: %q written twice in one revision", statemachine.ErrInvalid, key)
	}
	s.written = append(s.written, string(key))
	return nil
}

func (s *step) Put(key, value []byte, lease int64) (int64, error) {
	if lease != 0 && !s.store.leases[lease] {
		return 0, statemachine.ErrLeaseNotFound
	}
	if err := s.write(key); err != nil {
		return 0, err
	}
	kv := &mvccpb.KeyValue{Key: key, Value: value, Lease: lease, CreateRevision: s.store.rev + 1, ModRevision: s.store.rev + 1, Version: 1}
	if old := s.store.kvs[string(key)]; old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	s.store.kvs[string(key)] = kv
	return kv.ModRevision, nil
}

func (s *step) Delete(key []byte) (bool, error) {
	if s.store.kvs[string(key)] == nil {
		return false, nil
	}
	if err := s.write(key); err != nil {
		return false, err
	}
	delete(s.store.kvs, string(key))
	return true, nil
}

func (s *step) LeaseAlive(id int64) bool { return s.store.leases[id] }

func (s *step) LeaseKeys(id int64) [][]byte {
	var keys [][]byte
	for _, k := range slices.Sorted(maps.Keys(s.store.kvs)) {
		if s.store.kvs[k].Lease == id {
			keys = append(keys, []byte(k))
		}
	}
	return keys
}

func (s *step) ClockMS() int64 { return 0 }
