package model

import (
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// lease is pending (pending > 0, the log index of its latest grant or renewal) or has a deadline in log time.
type lease struct {
	id, ttl, deadline int64
	pending           uint64
}

func (m *Model) leaseAt(id int64) int {
	return slices.IndexFunc(m.leases, func(l lease) bool { return l.id == id })
}

// due reports whether the lease's time is over. Until a tick deletes it, it exists but is dead.
func (m *Model) due(l lease) bool { return l.pending == 0 && l.deadline <= m.clock }

// alive reports whether the lease exists and is not due.
func (m *Model) alive(id int64) bool {
	at := m.leaseAt(id)
	return at >= 0 && !m.due(m.leases[at])
}

// leaseKeys are the keys attached to a lease, in key order.
func (m *Model) leaseKeys(id int64) [][]byte {
	if id == 0 {
		return nil // it means no lease
	}
	var keys [][]byte
	for _, kv := range m.versions([]byte{0}, []byte{0}, m.Revision()) {
		if kv.Lease == id {
			keys = append(keys, kv.Key)
		}
	}
	return keys
}

func (m *Model) grant(r *raftv1.LeaseGrant) (any, error) {
	if err := m.refused(true); err != nil {
		return nil, err
	}
	if r.Id == 0 || r.TtlMs <= 0 {
		return nil, statemachine.ErrInvalid
	}
	if m.leaseAt(r.Id) >= 0 {
		return nil, statemachine.ErrLeaseExist
	}
	m.leases = append(m.leases, lease{id: r.Id, ttl: r.TtlMs, pending: m.index})
	return statemachine.LeaseGranted{ID: r.Id, TTL: r.TtlMs, Revision: m.Revision()}, nil
}

func (m *Model) revoke(r *raftv1.LeaseRevoke) (any, error) {
	if err := m.refused(false); err != nil {
		return nil, err
	}
	if m.leaseAt(r.Id) < 0 {
		return nil, statemachine.ErrLeaseNotFound
	}
	m.drop(r.Id)
	return statemachine.LeaseRevoked{Revision: m.Revision()}, nil
}

// drop deletes a lease and its keys, and returns their number.
func (m *Model) drop(id int64) int {
	keys := m.leaseKeys(id)
	for _, key := range keys {
		m.delete(key)
	}
	at := m.leaseAt(id)
	m.leases = slices.Delete(m.leases, at, at+1)
	return len(keys)
}

func (m *Model) renew(r *raftv1.LeaseRenew) (any, error) {
	ttls := make([]int64, len(r.Ids))
	for i, id := range r.Ids {
		if m.alive(id) {
			l := &m.leases[m.leaseAt(id)]
			l.pending, ttls[i] = m.index, l.ttl
		}
	}
	return statemachine.LeasesRenewed{TTLs: ttls, Revision: m.Revision()}, nil
}

func (m *Model) applyTick(r *raftv1.Tick) (any, error) {
	if r.Number != m.tick+1 || r.DeltaMs < 0 {
		return statemachine.Ticked{Number: m.tick}, nil
	}
	m.tick = r.Number
	m.clock += r.DeltaMs
	for i := range m.leases {
		if l := &m.leases[i]; l.pending > 0 && l.pending <= r.Seen {
			l.pending, l.deadline = 0, m.clock+l.ttl
		}
	}
	m.expire()
	m.out.Ticks = append(m.out.Ticks, statemachine.Tick{
		Number: r.Number, Nonce: r.Nonce, Index: m.index, DeltaMS: r.DeltaMs,
	})
	return statemachine.Ticked{Applied: true, Number: m.tick}, nil
}

// expire deletes what is due, earliest deadline first, each lease in a revision of its own.
func (m *Model) expire() {
	var due []lease
	for _, l := range m.leases {
		if m.due(l) {
			due = append(due, l)
		}
	}
	slices.SortFunc(due, byExpiry)
	for leases, keys := 0, 0; leases < len(due) && leases < tickLeases && keys < tickKeys; leases++ {
		m.end()
		keys += m.drop(due[leases].id)
	}
}

func byExpiry(a, b lease) int {
	return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.id, b.id))
}

// Leases returns all leases by when they would expire without a renewal: a pending one a TTL from now.
func (m *Model) Leases() []statemachine.LeaseInfo {
	all := slices.Clone(m.leases)
	for i := range all {
		if all[i].pending > 0 {
			all[i].deadline = m.clock + all[i].ttl
		}
	}
	slices.SortFunc(all, byExpiry)
	infos := make([]statemachine.LeaseInfo, len(all))
	for i, l := range all {
		infos[i] = statemachine.LeaseInfo{ID: l.id, TTL: l.ttl, DeadlineMS: l.deadline, Pending: l.pending > 0}
		if l.pending > 0 {
			infos[i].DeadlineMS = 0
		}
	}
	return infos
}

// LeaseKeys are the keys attached to a lease, in key order.
func (m *Model) LeaseKeys(id int64) [][]byte { return m.leaseKeys(id) }

// LeaseFacts sums the leases up.
func (m *Model) LeaseFacts() statemachine.LeaseFacts {
	f := statemachine.LeaseFacts{Count: len(m.leases), LastTick: m.tick, ClockMS: m.clock}
	for _, l := range m.leases {
		if f.MinTTL == 0 || l.ttl < f.MinTTL {
			f.MinTTL = l.ttl
		}
		if l.pending > 0 {
			f.Pending++
			f.PendingMax = max(f.PendingMax, l.pending)
			continue
		}
		f.Overdue = f.Overdue || m.due(l)
	}
	return f
}

// call runs a procedure.
func (m *Model) call(r *raftv1.Call) (any, error) {
	if err := m.refused(false); err != nil {
		return nil, err
	}
	for _, p := range m.procedures {
		if p.Name() == r.Procedure {
			resp, err := p.Run(&step{m: m}, r.Request)
			if err != nil {
				return nil, err
			}
			return statemachine.Called{Response: resp, Revision: m.Revision()}, nil
		}
	}
	panic("the model has no procedure " + r.Procedure)
}

// step is what a procedure sees.
type step struct{ m *Model }

func (s *step) Revision() statemachine.Revision { return s.m.Revision() }
func (s *step) NextRevision()                   { s.m.end() }

func (s *step) Get(key []byte) *mvccpb.KeyValue { return s.m.latest(key) }

func (s *step) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	for _, kv := range s.m.versions(key, end, s.m.Revision()) {
		if !fn(kv) {
			return
		}
	}
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
	if err := s.m.refused(true); err != nil {
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

func (s *step) Touch(key []byte) (statemachine.Revision, error) {
	kv := s.m.latest(key)
	if kv == nil {
		return 0, statemachine.ErrKeyNotFound
	}
	if s.written(key) {
		return 0, statemachine.ErrInvalid
	}
	return s.m.put(key, kv.Value, kv.Lease).ModRevision, nil
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
