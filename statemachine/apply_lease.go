package statemachine

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine/lease"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// The work of one tick is bounded, so that the death of very many sessions does not stall writes; the next tick goes on.
const (
	maxExpiredLeases = 1000
	maxExpiredKeys   = 4000
)

func (b *batch) leaseGrant(r *raftv1.LeaseGrant) Result {
	if err := b.m.alarms.refuseWrite(); err != nil {
		return refuse(err)
	}
	if r.Id == 0 || r.TtlMs <= 0 {
		return refuse(fmt.Errorf("%w: lease id %d must not be 0 and ttl %d ms must be positive", ErrInvalid, r.Id, r.TtlMs))
	}
	l, ok := b.m.leases.Grant(r.Id, r.TtlMs, b.index)
	if !ok {
		return refuse(ErrLeaseExist)
	}
	b.storeLease(l)
	return Result{Response: LeaseGranted{ID: l.ID, TTL: l.TTL, Revision: b.kv.Revision()}}
}

func (b *batch) storeLease(l lease.Lease) {
	b.kv.Rows().Set(mvcc.IDKey(mvcc.SpaceLeases, uint64(l.ID)), lease.EncodeRow(l))
}

func (b *batch) leaseRevoke(r *raftv1.LeaseRevoke) Result {
	if err := b.m.alarms.refuseCorrupt(); err != nil {
		return refuse(err)
	}
	if _, ok := b.m.leases.Get(r.Id); !ok {
		return refuse(ErrLeaseNotFound)
	}
	b.dropLease(r.Id)
	return Result{Response: LeaseRevoked{Revision: b.kv.Revision()}}
}

// dropLease deletes a lease and, in one revision and in key order, the keys attached to it. It returns their number.
func (b *batch) dropLease(id LeaseID) int {
	keys := b.leaseKeys(id)
	for _, key := range keys {
		if kv := b.get(key); kv != nil {
			b.deleteKey(kv)
		}
	}
	b.m.leases.Remove(id)
	b.kv.Rows().Delete(mvcc.IDKey(mvcc.SpaceLeases, uint64(id)))
	return len(keys)
}

// leaseKeys returns the keys attached to a lease, in key order.
func (b *batch) leaseKeys(id LeaseID) [][]byte {
	keys, err := leaseKeys(b.kv.Rows(), id)
	b.fail(err)
	return keys
}

func leaseKeys(src mvcc.Source, id LeaseID) (keys [][]byte, err error) {
	lower := mvcc.LeaseKeyKey(id, nil)
	upper := mvcc.LeaseKeyKey(id+1, nil)
	if id == -1 { // the last one: ids are stored as unsigned
		upper = []byte{mvcc.SpaceLeaseKeys + 1}
	}
	err = mvcc.ScanRows(src, lower, upper, func(k, _ []byte) (bool, error) {
		keys = append(keys, bytes.Clone(k[len(lower):]))
		return true, nil
	})
	return keys, err
}

// leaseRenew makes leases pending. Those that had an effect are stored as one row, which a tick turns into deadlines.
func (b *batch) leaseRenew(r *raftv1.LeaseRenew) Result {
	ttls := make([]int64, len(r.Ids))
	renewed := make([]LeaseID, 0, len(r.Ids))
	for i, id := range r.Ids {
		if ttls[i] = b.m.leases.Renew(id, b.index); ttls[i] > 0 {
			renewed = append(renewed, id)
		}
	}
	if len(renewed) > 0 {
		key := mvcc.IDKey(mvcc.SpaceRenewals, b.index)
		key = binary.BigEndian.AppendUint32(key, b.renewals)
		b.renewals++
		b.kv.Rows().Set(key, lease.EncodeRenewals(renewed))
	}
	return Result{Response: LeasesRenewed{TTLs: ttls, Revision: b.kv.Revision()}}
}

// tick lets log time pass, if it is the next one. Then it settles the deadlines that its proposer had seen, and expires
// what is due: earliest deadline first, each lease in a revision of its own.
func (b *batch) tick(r *raftv1.Tick) Result {
	settled, ok := b.m.leases.Tick(r.Number, r.DeltaMs, r.Seen)
	_, last := b.m.leases.Clock()
	if !ok {
		return Result{Response: Ticked{Number: last}}
	}
	for _, l := range settled {
		b.storeLease(l)
	}
	b.dropRenewals(r.Seen)
	b.storeClock()
	b.expire()
	b.applied.Ticks = append(b.applied.Ticks, Tick{Number: r.Number, Nonce: r.Nonce, Index: b.index, DeltaMS: r.DeltaMs})
	return Result{Response: Ticked{Applied: true, Number: last}}
}

// dropRenewals deletes the stored renewals at log indexes <= seen.
func (b *batch) dropRenewals(seen uint64) {
	lower, _ := mvcc.SpaceBounds(mvcc.SpaceRenewals)
	var keys [][]byte
	b.fail(mvcc.ScanRows(b.kv.Rows(), lower, mvcc.IDKey(mvcc.SpaceRenewals, seen+1), func(k, _ []byte) (bool, error) {
		keys = append(keys, bytes.Clone(k))
		return true, nil
	}))
	for _, k := range keys {
		b.kv.Rows().Delete(k)
	}
}

func (b *batch) expire() {
	keys := 0
	for _, id := range b.m.leases.Due(maxExpiredLeases) {
		b.kv.End() // a revision for each
		keys += b.dropLease(id)
		if keys >= maxExpiredKeys {
			break
		}
	}
}

func (b *batch) storeClock() {
	ms, tick := b.m.leases.Clock()
	v := binary.BigEndian.AppendUint64(nil, uint64(ms))
	b.kv.Rows().Set(metaClock, binary.BigEndian.AppendUint64(v, tick))
}

// call runs a procedure.
func (b *batch) call(r *raftv1.Call) Result {
	if err := b.m.alarms.refuseCorrupt(); err != nil {
		return refuse(err)
	}
	p := b.m.procedures[r.Procedure]
	if p == nil {
		b.fail(fmt.Errorf("log entry %d calls the unknown procedure %q: this version is too old for the cluster", b.index, r.Procedure))
		return Result{}
	}
	before := b.kv.Revision()
	resp, err := p.Run(&step{batch: b}, r.Request)
	if err != nil {
		if b.kv.Revision() != before {
			b.fail(fmt.Errorf("procedure %q refused %v after it had written", r.Procedure, err))
		}
		return refuse(err)
	}
	return Result{Response: Called{Response: resp, Revision: b.kv.Revision()}}
}

// step is the Step of a procedure.
type step struct {
	batch   *batch
	written map[string]bool // keys written at the current revision
}

func (s *step) Revision() Revision { return s.batch.kv.Revision() }

func (s *step) NextRevision() {
	s.batch.kv.End()
	s.written = nil
}

func (s *step) Get(key []byte) *mvccpb.KeyValue { return s.batch.get(key) }

func (s *step) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	s.batch.scan(mvcc.Range{Key: key, End: end}, fn)
}

func (s *step) Put(key, value []byte, lease LeaseID) (Revision, error) {
	if err := s.batch.m.alarms.refuseWrite(); err != nil {
		return 0, err
	}
	if lease != 0 && !s.LeaseAlive(lease) {
		return 0, ErrLeaseNotFound
	}
	if err := s.claim(key); err != nil {
		return 0, err
	}
	return s.batch.putKey(key, value, lease, s.batch.get(key)).ModRevision, nil
}

func (s *step) Touch(key []byte) (Revision, error) {
	prev := s.batch.get(key)
	if prev == nil {
		return 0, ErrKeyNotFound
	}
	if err := s.claim(key); err != nil {
		return 0, err
	}
	return s.batch.putKey(key, prev.Value, prev.Lease, prev).ModRevision, nil
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
	if s.written[string(key)] {
		return fmt.Errorf("%w: key %q is written twice in one revision", ErrInvalid, key)
	}
	if s.written == nil {
		s.written = make(map[string]bool)
	}
	s.written[string(key)] = true
	return nil
}

func (s *step) LeaseAlive(id LeaseID) bool { return s.batch.m.leases.Alive(id) }

func (s *step) LeaseKeys(id LeaseID) [][]byte { return s.batch.leaseKeys(id) }

func (s *step) ClockMS() int64 {
	ms, _ := s.batch.m.leases.Clock()
	return ms
}

// PutEntry implements Step.
func (s *step) PutEntry(key, value []byte, lease LeaseID, _ Attachment) (Revision, error) {
	return s.Put(key, value, lease)
}

// Attachment implements Step.
func (s *step) Attachment(LeaseID, []byte) Attachment { return Attachment{} }

// Session implements Step.
func (s *step) Session() LeaseID { return 0 }

// IsSession implements Step.
func (s *step) IsSession(LeaseID) bool { return false }
