package model

import (
	"cmp"
	"slices"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// lease is pending (pending > 0, the log index of its latest grant or renewal) or has a deadline in log time. The
// stream that it is attached to, if any, can give it more, see now.
type lease struct {
	id, ttl, deadline int64
	pending           uint64
	stream            uint64
	owner             string
}

// now is the deadline and the pending index of a lease with what its stream gives it.
func (m *Model) now(l lease) (deadline int64, pending uint64) {
	if at := m.streamAt(l.stream); at >= 0 {
		s := m.streams[at]
		return max(l.deadline, s.renewed+l.ttl), max(l.pending, s.pending)
	}
	return l.deadline, l.pending
}

func (m *Model) leaseAt(id int64) int {
	return slices.IndexFunc(m.leases, func(l lease) bool { return l.id == id })
}

// due reports whether the lease's time is over. Until a tick deletes it, it exists but is dead.
func (m *Model) due(l lease) bool {
	deadline, pending := m.now(l)
	return pending == 0 && deadline <= m.clock
}

// alive reports whether the lease exists and is not due.
func (m *Model) alive(id int64) bool {
	at := m.leaseAt(id)
	return at >= 0 && !m.due(m.leases[at]) && !statemachine.Lingers(id)
}

// leaseKeys are the keys attached to a lease, in key order.
func (m *Model) leaseKeys(id int64) [][]byte {
	if id == 0 {
		return nil // it means no lease
	}
	if !slices.ContainsFunc(m.history, func(c change) bool { return c.event.Kv.Lease == id }) {
		return nil // this is for speed alone
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
	if r.Id == 0 || r.TtlMs <= 0 || r.TtlMs > 9e12 {
		return nil, statemachine.ErrInvalid
	}
	if m.leaseAt(r.Id) >= 0 || statemachine.Lingers(r.Id) {
		return nil, statemachine.ErrLeaseExist
	}
	m.leases = append(m.leases, lease{id: r.Id, ttl: r.TtlMs, pending: m.index, owner: m.by.User})
	return statemachine.LeaseGranted{ID: r.Id, TTL: r.TtlMs, Revision: m.Revision()}, nil
}

func (m *Model) revoke(r *raftv1.LeaseRevoke) (any, error) {
	if err := m.refused(false); err != nil {
		return nil, err
	}
	if m.leaseAt(r.Id) < 0 || statemachine.Lingers(r.Id) {
		return nil, statemachine.ErrLeaseNotFound
	}
	m.drop(r.Id, false)
	return statemachine.LeaseRevoked{Revision: m.Revision()}, nil
}

// drop deletes a lease and its keys, and returns their number. Of one that expires, some linger. Its session ends.
func (m *Model) drop(id int64, expired bool) int {
	m.frees = true
	keys := m.leaseKeys(id)
	for _, key := range keys {
		if a := m.notes[string(key)]; expired && a.LingerMS > 0 {
			m.linger(m.latest(key), a)
		} else {
			m.delete(key)
		}
	}
	m.forgetLease(id)
	m.forgetStreams()
	m.endSession(id)
	return len(keys)
}

// forgetLease deletes a lease alone, if it is there.
func (m *Model) forgetLease(id int64) {
	m.leases = slices.DeleteFunc(m.leases, func(l lease) bool { return l.id == id })
}

// left is called when a key is not on a lease any more: one that lingers goes with its key.
func (m *Model) left(id int64) {
	if statemachine.Lingers(id) {
		m.forgetLease(id)
	}
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
	if r.Number != m.tick+1 || r.DeltaMs < 0 || r.DeltaMs > 1<<62-m.clock {
		return statemachine.Ticked{Number: m.tick}, nil
	}
	m.tick = r.Number
	m.clock += r.DeltaMs
	for i := range m.leases {
		if l := &m.leases[i]; l.pending > 0 && l.pending <= r.Seen {
			l.pending, l.deadline = 0, m.clock+l.ttl
		}
	}
	for i := range m.streams {
		if s := &m.streams[i]; s.pending > 0 && s.pending <= r.Seen {
			s.pending, s.renewed = 0, m.clock
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
			l.deadline, _ = m.now(l)
			due = append(due, l)
		}
	}
	slices.SortFunc(due, byExpiry)
	m.looks = 0
	for leases, keys := 0, 0; leases < len(due) && leases < tickLeases && keys < tickKeys &&
		m.looks < tickLooks; leases++ {
		if m.refusesLease(leases + 1) {
			if at := m.leaseAt(due[leases].id); at >= 0 {
				m.leases[at].deadline = m.clock + 24*60*60*1000
			}
			continue
		}
		_ = m.step(func() error { // it frees
			keys += m.drop(due[leases].id, true)
			return nil
		})
	}
}

func byExpiry(a, b lease) int {
	return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.id, b.id))
}

// Leases returns all leases by when they would expire without a renewal: a pending one a TTL from now.
func (m *Model) Leases() []statemachine.LeaseInfo {
	all := slices.Clone(m.leases)
	for i := range all {
		if all[i].deadline, all[i].pending = m.now(all[i]); all[i].pending > 0 {
			all[i].deadline = m.clock + all[i].ttl
		}
	}
	slices.SortFunc(all, byExpiry)
	infos := make([]statemachine.LeaseInfo, len(all))
	for i, l := range all {
		infos[i] = statemachine.LeaseInfo{
			ID: l.id, TTL: l.ttl, DeadlineMS: l.deadline, Pending: l.pending > 0, Owner: l.owner,
		}
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
	var pending []uint64
	for _, l := range m.leases {
		if f.MinTTL == 0 || l.ttl < f.MinTTL {
			f.MinTTL = l.ttl
		}
		f.Overdue = f.Overdue || m.due(l)
		pending = append(pending, l.pending)
	}
	for _, s := range m.streams {
		pending = append(pending, s.pending)
	}
	for _, index := range pending {
		if index > 0 {
			f.Pending++
			f.PendingMax = max(f.PendingMax, index)
		}
	}
	return f
}

// call runs a procedure.
func (m *Model) call(r *raftv1.Call) (any, error) {
	if err := m.refused(false); err != nil {
		return nil, err
	}
	m.unixMS = r.UnixMs
	for _, p := range m.program.Procedures {
		if p.Name() == r.Procedure {
			m.frees = p.Frees()
			resp, err := p.Run(&step{m: m}, r.Request)
			if err != nil {
				return nil, err
			}
			return statemachine.Called{Response: resp, Revision: m.Revision()}, nil
		}
	}
	panic("the model has no procedure " + r.Procedure)
}
