package machine

import (
	"bytes"
	"cmp"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// defaultSweepFrom is how many keys a command deletes at least for them to be swept.
const defaultSweepFrom = 1 << 10

// sweepFrom is how many keys are to be deleted for a sweep to be worth it: twice as many with each sweep that is there
// already. For whatever is read in the batch goes through all of them, and as many as a client can have in one entry
// would cost their product; like this there are about as many as the number of keys has bits.
func (b *batch) sweepFrom() int {
	return cmp.Or(b.m.opts.SweepFrom, defaultSweepFrom) << min(b.kv.Rows().Sweeps(), 30)
}

// deleting deletes keys in one revision, in key order: a few one by one, and many by an mvcc.Sweep, so that of each
// nothing stays in memory but its name. The two ways differ in nothing but what the event says of the versions before.
// Those that the reactor is told of are deleted one by one, since it learns what they were. Nothing is written before
// end: the caller may have a cursor open.
type deleting struct {
	*batch
	keep  bool                   // what is deleted is wanted
	found []*mvccpb.KeyValue     // if so, all of it
	n     int                    // so many
	parts []part                 // in key order
	whole []mvcc.Range           // all keys of these are deleted
	lease statemachine.LeaseID   // all keys of this one are, if not 0
	ended []statemachine.LeaseID // lingering leases of keys that are swept
}

// part is a stretch of keys that are deleted in one way.
type part struct {
	told  bool // the reactor is
	few   []*mvccpb.KeyValue
	sweep *mvcc.Sweep // in the place of few, if not nil
}

// add takes the next key. kv is valid during the call only.
func (d *deleting) add(kv *mvccpb.KeyValue) {
	d.n++
	r := d.m.opts.Reactor
	told := r != nil && bytes.HasPrefix(kv.Key, r.Prefix())
	if len(d.parts) == 0 || d.parts[len(d.parts)-1].told != told {
		d.parts = append(d.parts, part{told: told})
	}
	p := &d.parts[len(d.parts)-1]
	var kept *mvccpb.KeyValue
	if d.keep || p.sweep == nil {
		kept = &mvccpb.KeyValue{
			Key: bytes.Clone(kv.Key), Value: bytes.Clone(kv.Value), Lease: kv.Lease,
			CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version,
		}
	}
	if d.keep {
		d.found = append(d.found, kept)
	}
	if p.sweep != nil {
		d.sweepKey(p.sweep, kv)
		return
	}
	p.few = append(p.few, kept)
	if !told && len(p.few) >= d.sweepFrom() {
		p.sweep = &mvcc.Sweep{}
		for _, kv := range p.few {
			d.sweepKey(p.sweep, kv)
		}
		p.few = nil
	}
}

func (d *deleting) sweepKey(s *mvcc.Sweep, kv *mvccpb.KeyValue) {
	s.Add(kv.Key, kv.CreateRevision, kv.Lease)
	if statemachine.Lingers(kv.Lease) {
		d.ended = append(d.ended, kv.Lease)
	}
}

// scan adds all keys of a range.
func (d *deleting) scan(r mvcc.Range) {
	d.whole = append(d.whole, r)
	d.fail(mvcc.EachLatest(d.kv.Rows(), r, func(kv *mvccpb.KeyValue) bool {
		d.add(kv)
		return true
	}))
}

// attached adds all keys that are attached to a lease.
func (d *deleting) attached(id statemachine.LeaseID, keys []statemachine.AttachedKey) {
	d.lease = id
	at := 0
	d.fail(mvcc.LatestOf(d.kv.Rows(), func() (key []byte, ok bool) {
		if at == len(keys) {
			return nil, false
		}
		at++
		return keys[at-1].Key, true
	}, d.add))
}

// end deletes what was added.
func (d *deleting) end() {
	for _, p := range d.parts {
		for _, kv := range p.few {
			d.deleteKey(kv)
		}
		if p.sweep != nil {
			d.sweepKeys(p.sweep)
		}
	}
	for _, id := range d.ended {
		d.endLingering(id)
	}
}

func (d *deleting) sweepKeys(s *mvcc.Sweep) {
	for _, r := range d.whole {
		s.Whole(r)
	}
	if d.lease != 0 {
		s.WholeLease(d.lease)
	}
	d.kv.Sweep(s)
	d.swept = s.Revision()
	d.applied.Events = append(d.applied.Events, statemachine.Event{
		Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{ModRevision: s.Revision()}, Sweep: s,
	})
}
