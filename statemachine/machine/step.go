package machine

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// call runs a procedure outside of sessions.
func (b *batch) call(r *raftv1.Call) statemachine.Result {
	if err := b.m.alarms.refuseCorrupt(); err != nil {
		return refuse(err)
	}
	p := b.m.procedures[r.Procedure]
	if p == nil {
		b.fail(fmt.Errorf("%w: a call of procedure %q", raftv1.ErrUnknown, r.Procedure))
		return statemachine.Result{}
	}
	b.unixMS = r.UnixMs
	resp, err := b.runProcedure(p, &step{batch: b}, r.Request)
	if err != nil {
		return refuse(err)
	}
	return statemachine.Result{Response: statemachine.Called{Response: resp, Revision: b.kv.Revision()}}
}

// runProcedure runs a procedure inside of the step of its command or request.
func (b *batch) runProcedure(p statemachine.Procedure, s *step, request []byte) ([]byte, error) {
	b.frees = p.Frees()
	return p.Run(s, request)
}

// step is the Step of a procedure, a guard or a reaction.
type step struct {
	batch    *batch
	session  statemachine.LeaseID
	sequence uint64
	reaction bool
	written  keySet // keys written at the current revision
}

func (s *step) Revision() statemachine.Revision { return s.batch.kv.Revision() }

func (s *step) NextRevision() {
	s.batch.kv.End()
	s.written = keySet{}
}

func (s *step) Attempt(do func() error) error {
	err := s.batch.attempt(do)
	if err != nil {
		s.written = s.batch.written()
	}
	return err
}

func (s *step) Broken(queue string) bool { return s.batch.m.broken.has(queue) }

func (s *step) Mend(queue string) { s.batch.mendQueue(queue) }

func (s *step) Get(key []byte) *mvccpb.KeyValue { return s.batch.get(key) }

func (s *step) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	s.batch.scan(mvcc.Range{Key: key, End: end}, s.counted(fn))
}

func (s *step) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) {
	s.batch.children(parent, 0, s.counted(fn))
}

func (s *step) ChildrenFrom(parent []byte, from statemachine.Revision, fn func(*mvccpb.KeyValue) bool) {
	s.batch.children(parent, from, s.counted(fn))
}

// counted is fn that adds up, of a reaction, how many versions it was called for: see expire.
func (s *step) counted(fn func(*mvccpb.KeyValue) bool) func(*mvccpb.KeyValue) bool {
	if !s.reaction {
		return fn
	}
	return func(kv *mvccpb.KeyValue) bool {
		s.batch.looks++
		return fn(kv)
	}
}

func (s *step) Put(key, value []byte, lease statemachine.LeaseID) (statemachine.Revision, error) {
	return s.put(key, value, lease, statemachine.Attachment{})
}

func (s *step) PutEntry(
	key, value []byte, lease statemachine.LeaseID, a statemachine.Attachment,
) (statemachine.Revision, error) {
	if lease == 0 {
		return 0, fmt.Errorf("%w: key %q is an entry without a lease", statemachine.ErrInvalid, key)
	}
	if a.Sequence == 0 {
		a.Sequence = s.sequence
	}
	if a.SinceUnixMS == 0 {
		a.SinceUnixMS = s.batch.unixMS
	}
	return s.put(key, value, lease, a)
}

func (s *step) put(
	key, value []byte, lease statemachine.LeaseID, a statemachine.Attachment,
) (statemachine.Revision, error) {
	if !s.reaction {
		if err := s.batch.m.alarms.refuseWrite(); err != nil {
			return 0, err
		}
	}
	if lease != 0 && !s.LeaseAlive(lease) {
		return 0, statemachine.ErrLeaseNotFound
	}
	if err := s.claim(key); err != nil {
		return 0, err
	}
	return s.batch.putEntry(key, value, lease, a, s.batch.get(key)).ModRevision, nil
}

func (s *step) Touch(key []byte) (statemachine.Revision, error) {
	prev := s.batch.get(key)
	if prev == nil {
		return 0, statemachine.ErrKeyNotFound
	}
	if err := s.claim(key); err != nil {
		return 0, err
	}
	return s.batch.putVersion(key, prev.Value, prev.Lease, prev).ModRevision, nil
}

func (s *step) Delete(key []byte) (bool, error) {
	prev := s.batch.get(key)
	if prev == nil {
		return false, nil
	}
	if err := s.claim(key); err != nil {
		return false, err
	}
	s.batch.deleteKey(prev)
	return true, nil
}

// claim notes that key is written at this revision, which must happen once only.
func (s *step) claim(key []byte) error {
	if len(key) == 0 {
		return errEmptyKey
	}
	if !s.written.add(key) {
		return fmt.Errorf("%w: key %q is written twice in one revision", statemachine.ErrInvalid, key)
	}
	return nil
}

func (s *step) Attachment(lease statemachine.LeaseID, key []byte) statemachine.Attachment {
	a, err := attachment(s.batch.kv.Rows(), lease, key)
	s.batch.fail(err)
	return a
}

func (s *step) Session() statemachine.LeaseID { return s.session }

func (s *step) IsSession(id statemachine.LeaseID) bool { return s.batch.m.sessions.byID[id] != nil }

func (s *step) LeaseAlive(id statemachine.LeaseID) bool { return s.batch.m.leases.Alive(id) }

func (s *step) LeaseKeys(id statemachine.LeaseID) [][]byte {
	keys, err := leaseKeys(s.batch.kv.Rows(), id)
	s.batch.fail(err)
	return keys
}

func (s *step) ClockMS() int64 {
	ms, _ := s.batch.m.leases.Clock()
	return ms
}
