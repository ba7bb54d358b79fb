package model

import (
	"cmp"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
)

// step is what a procedure sees.
type step struct {
	m        *Model
	session  int64
	sequence uint64
	reaction bool
}

func (s *step) Revision() statemachine.Revision { return s.m.Revision() }
func (s *step) NextRevision()                   { s.m.close() }

func (s *step) Attempt(do func() error) error { return s.m.attempt(do) }
func (s *step) Broken(queue string) bool      { return s.m.isBroken(queue) }
func (s *step) Mend(queue string)             { s.m.mend(queue) }

func (s *step) Get(key []byte) *mvccpb.KeyValue { return s.m.latest(key) }

func (s *step) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	for _, kv := range s.m.versions(key, end, s.m.Revision()) {
		if s.look(); !fn(kv) {
			return
		}
	}
}

// look counts what a reaction goes through.
func (s *step) look() {
	if s.reaction {
		s.m.looks++
	}
}

// Children walks through all keys: the order of create revisions is found by sorting.
func (s *step) ChildrenFrom(parent []byte, from statemachine.Revision, fn func(*mvccpb.KeyValue) bool) {
	for _, kv := range s.m.children(parent) {
		if kv.CreateRevision < from {
			continue
		}
		if s.look(); !fn(kv) {
			return
		}
	}
}

func (s *step) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) {
	s.ChildrenFrom(parent, 0, fn)
}

// written reports whether the running revision has changed key already.
func (s *step) written(key []byte) bool {
	for _, c := range s.m.history[len(s.m.history)-s.m.wrote:] {
		if string(c.event.Kv.Key) == string(key) {
			return true
		}
	}
	return false
}

func (s *step) Put(key, value []byte, lease statemachine.LeaseID) (statemachine.Revision, error) {
	if err := s.m.refused(true); err != nil && !s.reaction {
		return 0, err
	}
	if lease != 0 && !s.m.alive(lease) {
		return 0, statemachine.ErrLeaseNotFound
	}
	if len(key) == 0 || s.written(key) {
		return 0, statemachine.ErrInvalid
	}
	return s.m.put(key, value, lease).ModRevision, nil
}

func (s *step) PutEntry(
	key, value []byte, lease statemachine.LeaseID, a statemachine.Attachment,
) (statemachine.Revision, error) {
	if lease == 0 {
		return 0, statemachine.ErrInvalid
	}
	rev, err := s.Put(key, value, lease)
	if err == nil {
		a.Sequence = cmp.Or(a.Sequence, s.sequence)
		a.SinceUnixMS = cmp.Or(a.SinceUnixMS, s.m.unixMS)
		s.m.notes[string(key)] = a
	}
	return rev, err
}

func (s *step) Touch(key []byte) (statemachine.Revision, error) {
	kv := s.m.latest(key)
	if kv == nil {
		return 0, statemachine.ErrKeyNotFound
	}
	if s.written(key) {
		return 0, statemachine.ErrInvalid
	}
	a, noted := s.m.notes[string(key)]
	touched := s.m.put(key, kv.Value, kv.Lease)
	if noted {
		s.m.notes[string(key)] = a
	}
	return touched.ModRevision, nil
}

func (s *step) Delete(key []byte) (bool, error) {
	if s.m.latest(key) == nil {
		return false, nil
	}
	if s.written(key) {
		return false, statemachine.ErrInvalid
	}
	s.m.delete(key)
	return true, nil
}

func (s *step) LeaseAlive(id statemachine.LeaseID) bool { return s.m.alive(id) }

func (s *step) LeaseKeys(id statemachine.LeaseID) [][]byte { return s.m.leaseKeys(id) }

func (s *step) ClockMS() int64 { return s.m.clock }

func (s *step) Attachment(id statemachine.LeaseID, key []byte) statemachine.Attachment {
	return s.m.Attachment(id, key)
}

func (s *step) Session() statemachine.LeaseID { return s.session }

func (s *step) IsSession(id statemachine.LeaseID) bool { return s.m.session(id) != nil }
