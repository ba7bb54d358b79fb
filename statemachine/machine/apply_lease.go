package machine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/lease"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// The work of one tick is bounded, so that the death of very many sessions does not stall writes; the next tick goes
// on. What follows from the deletion of a key may look at many others: who leads next is the best of all candidates.
const (
	maxExpiredLeases = 1000
	maxExpiredKeys   = 4000
	maxExpiredLooks  = 20_000 // of reactions, 5 µs or so each
)

func (b *batch) leaseGrant(r *raftv1.LeaseGrant) statemachine.Result {
	if err := b.m.alarms.refuseWrite(); err != nil {
		return refuse(err)
	}
	if r.Id == 0 || r.TtlMs <= 0 || r.TtlMs > lease.MaxTTL {
		return refuse(fmt.Errorf("%w: lease id %d must not be 0 and ttl %d ms be between 1 and %d",
			statemachine.ErrInvalid, r.Id, r.TtlMs, int64(lease.MaxTTL)))
	}
	l, ok := b.m.leases.Grant(r.Id, r.TtlMs, b.index, b.by.User)
	if !ok {
		return refuse(statemachine.ErrLeaseExist)
	}
	b.storeLease(l)
	return statemachine.Result{Response: statemachine.LeaseGranted{ID: l.ID, TTL: l.TTL, Revision: b.kv.Revision()}}
}

func (b *batch) storeLease(l lease.Lease) {
	b.kv.Rows().Set(mvcc.IDKey(mvcc.SpaceLeases, uint64(l.ID)), lease.EncodeRow(l))
}

func (b *batch) leaseRevoke(r *raftv1.LeaseRevoke) statemachine.Result {
	if err := b.m.alarms.refuseCorrupt(); err != nil {
		return refuse(err)
	}
	if _, ok := b.m.leases.Get(r.Id); !ok || statemachine.Lingers(r.Id) {
		return refuse(statemachine.ErrLeaseNotFound)
	}
	b.dropLease(r.Id, false)
	return statemachine.Result{Response: statemachine.LeaseRevoked{Revision: b.kv.Revision()}}
}

// free does one step that gives something back and is never refused.
func (b *batch) free(do func()) {
	err := b.step(func() error {
		do()
		return nil
	})
	if err != nil {
		b.fail(fmt.Errorf("refused what frees: %w", err))
	}
}

// dropLease deletes a lease and, in one revision and in key order, the keys attached to it. It returns their number. A
// key whose attachment says so stays for a while if the lease expires, see linger. If the lease is a session's, that
// ends.
func (b *batch) dropLease(id statemachine.LeaseID, expired bool) int {
	b.frees = true
	attached := b.attachedTo(id)
	if len(attached) >= b.sweepFrom() && !(expired && slices.ContainsFunc(attached, lingers)) {
		d := deleting{batch: b}
		d.attached(id, attached)
		d.end()
	} else {
		b.dropKeys(attached, expired)
	}
	l, _ := b.m.leases.Get(id)
	b.m.leases.Remove(id)
	b.kv.Rows().Delete(mvcc.IDKey(mvcc.SpaceLeases, uint64(id)))
	b.forgetStream(l.Stream)
	b.dropSession(id)
	return len(attached)
}

func lingers(key statemachine.AttachedKey) bool { return key.Attachment.LingerMS > 0 }

// dropKeys deletes the keys of a lease, or puts them on leases of their own.
func (b *batch) dropKeys(attached []statemachine.AttachedKey, expired bool) {
	for _, key := range attached {
		kv := b.get(key.Key)
		switch {
		case kv == nil:
		case expired && lingers(key):
			b.linger(kv, key.Attachment)
		default:
			b.deleteKey(kv)
		}
	}
}

// linger puts a key again instead of deleting it with the lease that it is attached to: the same value and create
// revision, on a lease of its own, which lives as long as the attachment says and keeps nothing after that.
func (b *batch) linger(kv *mvccpb.KeyValue, a statemachine.Attachment) {
	l := b.grantLingering(kv, a.LingerMS)
	a.LingerMS = 0
	b.putEntry(kv.Key, kv.Value, l, a, kv)
}

// grantLingering grants a lease for a key that outlives its own. The id follows from both, so that it is the same on
// every member, and by a hash for which nobody finds keys that give the same seed: 100,000 places that a session leaves
// at once would each look at the ids of all before.
func (b *batch) grantLingering(kv *mvccpb.KeyValue, ttl int64) statemachine.LeaseID {
	h := sha256.Sum256(append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(kv.Key)), uint64(kv.Lease)),
		kv.Key...))
	// nobody's: no client has to do with it
	l := b.m.leases.GrantLingering(binary.BigEndian.Uint64(h[:]), ttl, b.index, "")
	b.storeLease(l)
	return l.ID
}

// endLingering drops the lease of a place that is kept no longer: its one key was deleted, or put on another lease.
func (b *batch) endLingering(id statemachine.LeaseID) {
	if !statemachine.Lingers(id) {
		return
	}
	b.m.leases.Remove(id)
	b.kv.Rows().Delete(mvcc.IDKey(mvcc.SpaceLeases, uint64(id)))
}

// leaseRenew makes leases pending. Those that had an effect are stored as one row, which a tick turns into deadlines.
func (b *batch) leaseRenew(r *raftv1.LeaseRenew) statemachine.Result {
	ttls := make([]int64, len(r.Ids))
	renewed := make([]statemachine.LeaseID, 0, len(r.Ids))
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
	return statemachine.Result{Response: statemachine.LeasesRenewed{TTLs: ttls, Revision: b.kv.Revision()}}
}

// tick lets log time pass, if it is the next one. Then it settles the deadlines that its proposer had seen, and expires
// what is due: earliest deadline first, each lease in a revision of its own.
func (b *batch) tick(r *raftv1.Tick) statemachine.Result {
	seen := min(r.Seen, b.index) // nobody has seen more
	settled, ok := b.m.leases.Tick(r.Number, r.DeltaMs, seen)
	_, last := b.m.leases.Clock()
	if !ok {
		return statemachine.Result{Response: statemachine.Ticked{Number: last}}
	}
	for _, l := range settled.Leases {
		b.storeLease(l)
	}
	for _, s := range settled.Streams {
		b.storeStream(s)
	}
	b.dropRenewals(seen)
	b.storeClock()
	b.expire()
	b.applied.Ticks = append(b.applied.Ticks, statemachine.Tick{
		Number: r.Number, Nonce: r.Nonce, Index: b.index, DeltaMS: r.DeltaMs,
	})
	return statemachine.Result{Response: statemachine.Ticked{Applied: true, Number: last}}
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
	b.looks = 0
	for i, id := range b.m.leases.Due(maxExpiredLeases) {
		b.at.request, b.at.lease = i+1, id
		if b.refusesLease() {
			if l, there := b.m.leases.Postpone(id, postponedMS); there { // it may have gone with one before it
				b.storeLease(l)
			}
			continue
		}
		b.free(func() { keys += b.dropLease(id, true) })
		if keys >= maxExpiredKeys || b.looks >= maxExpiredLooks {
			break
		}
	}
	b.at.request, b.at.lease = 0, 0
}

// postponedMS is how much longer a lease lives whose end the operator refused, as the members ended at it: time to
// install a release that does not.
const postponedMS = 24 * 60 * 60 * 1000

func (b *batch) storeClock() {
	ms, tick := b.m.leases.Clock()
	v := binary.BigEndian.AppendUint64(nil, uint64(ms))
	b.kv.Rows().Set(metaClock, binary.BigEndian.AppendUint64(v, tick))
}
