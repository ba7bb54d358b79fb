package machine_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
	"github.com/coord-dev/coord/statemachine/model"
)

// replica is one machine of a world, and how it is driven.
type replica struct {
	w            *world
	gen          *generator // for reads, and for chance
	name         string
	member, boot uint64

	fs      *vfs.MemFS
	m       *machine.Machine
	index   uint64 // applied
	durable uint64 // what a crash must not undo
	applied []*statemachine.Applied
	views   []*machine.View
	hashed  chan statemachine.Hashed
}

func newReplica(w *world, name string, member uint64, rng *rand.Rand) *replica {
	r := &replica{w: w, gen: newGenerator(rng), name: name, member: member, boot: 1, fs: vfs.NewCrashableMem()}
	r.hashed = make(chan statemachine.Hashed, 1000)
	r.open()
	return r
}

// Applied and Recovered implement statemachine.Observer.
func (r *replica) Applied(a *statemachine.Applied) {
	r.applied = append(r.applied, expanded(r.w.t, r.m, a))
}

func (r *replica) Recovered(a *statemachine.Applied, executed func(uint64) bool) {
	state := r.w.states[a.Index]
	for number := range uint64(100) {
		if ran, known := state.Executed(r.member, r.boot, startOf(r.boot), number); known && number > 0 &&
			ran != executed(number) {
			r.w.t.Fatalf("%s: snapshot at %d says of entry %d that it ran: %v", r.name, a.Index, number, !ran)
		}
	}
	if a.Leases != state.LeaseFacts() || a.Revision != state.Revision() || a.Compacted != state.Compacted() {
		r.w.t.Fatalf("%s: recovered at %d: %+v", r.name, a.Index, a)
	}
}

func (r *replica) open() {
	o := randomOptions()
	o.Dir, o.FS, o.Member, o.Boot, o.Start, o.Observer = "db", r.fs, r.member, r.boot, startOf(r.boot), r
	o.SweepFrom = 1 + r.gen.IntN(4) // of the few keys that there are
	o.OnHash = func(h statemachine.Hashed) { r.hashed <- h }
	if r.name != "even" {
		o.Caches = r.w.caches
	}
	r.m = machine.New(o)
	index, err := r.m.Open(nil)
	if err != nil {
		r.w.t.Fatalf("%s: %v", r.name, err)
	}
	if index < r.durable || index > r.index {
		r.w.t.Fatalf("%s: opened at index %d, applied were %d, of them durable %d", r.name, index, r.index, r.durable)
	}
	r.index, r.durable = index, index
	r.check()
}

func (r *replica) close() {
	r.releaseViews(0)
	if err := r.m.Close(); err != nil {
		r.w.t.Errorf("%s: close: %v", r.name, err)
	}
	for len(r.hashed) > 0 { // each was taken at its own index, whatever was applied meanwhile
		h := <-r.hashed
		r.w.sameHash(r.name+" in the background", h.Index, h.Hash)
	}
}

// apply applies up to n entries in one batch. Sometimes the batch begins with entries that were applied before.
func (r *replica) apply(n int) {
	from := r.index
	to := min(from+uint64(n), uint64(len(r.w.log)))
	if from == to {
		return
	}
	begin := from
	if r.gen.chance(10) {
		begin -= min(begin, 2)
	}
	if _, err := r.m.Update(r.w.log[begin:to]); err != nil {
		r.w.t.Fatalf("%s: %v", r.name, err)
	}
	r.index = to
	r.w.checkApplied(r, from, to)
}

// wildStep lets something happen to the machine, or lets it apply what it lags behind.
func (r *replica) wildStep() {
	g := r.gen
	switch n := g.IntN(100); {
	case n < 40: // it falls behind
	case n < 75:
		r.apply(1 + g.IntN(20))
		r.check()
	case n < 80:
		r.close()
		r.durable = r.index
		r.boot += g.Uint64N(2)
		r.open()
	case n < 85:
		r.crash()
	case n < 90:
		if err := r.m.Sync(); err != nil {
			r.w.t.Fatal(err)
		}
		r.durable = r.index
	case n < 94:
		r.receive(r.w.replicas[g.IntN(len(r.w.replicas))])
	case n < 96:
		r.awaitCompaction()
		r.check()
	default:
		r.holdView()
	}
}

// crash loses what was not synced, or all but some of it, and goes on from there.
func (r *replica) crash() {
	survivor := r.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: r.gen.IntN(2) * r.gen.IntN(101), RNG: r.gen.Rand,
	})
	r.close()
	r.fs = survivor
	r.open()
}

// receive replaces the state by a snapshot of another machine that is ahead; that one goes on while it is streamed.
func (r *replica) receive(from *replica) {
	if from.index <= r.index {
		return
	}
	prepared, err := from.m.PrepareSnapshot()
	if err != nil {
		r.w.t.Fatal(err)
	}
	at := from.index
	from.apply(r.gen.IntN(5))
	var stream bytes.Buffer
	if err := from.m.SaveSnapshot(prepared, &stream, nil); err != nil {
		r.w.t.Fatal(err)
	}
	if r.gen.chance(30) { // first one that breaks off
		cut := bytes.NewReader(stream.Bytes()[:r.gen.IntN(stream.Len())])
		if err := r.m.RecoverFromSnapshot(cut, nil); err == nil {
			r.w.t.Fatalf("%s: took a snapshot that was cut off", r.name)
		}
		r.check()
	}
	if err := r.m.RecoverFromSnapshot(&stream, nil); err != nil {
		r.w.t.Fatalf("%s: %v", r.name, err)
	}
	r.index, r.durable = at, at
	r.check()
	if r.gen.chance(50) {
		r.crash()
	}
}

func (r *replica) awaitCompaction() {
	done := r.m.CompactionDone(r.w.states[r.index].Compacted())
	select {
	case <-done:
	case <-time.After(time.Minute):
		r.w.t.Fatalf("%s: compaction takes more than a minute", r.name)
	}
}

// holdView keeps a view, to read it again when the machine has gone on.
func (r *replica) holdView() {
	v, err := r.m.View()
	if err != nil {
		r.w.t.Fatal(err)
	}
	r.views = append(r.views, v)
	if len(r.views) > 3 {
		r.releaseViews(2)
	}
}

// releaseViews reads and closes the oldest views, so that n are left.
func (r *replica) releaseViews(n int) {
	for len(r.views) > n {
		r.checkView(r.views[0])
		r.views[0].Close()
		r.views = r.views[1:]
	}
}

// check compares all that can be read from the machine with the model.
func (r *replica) check() {
	v, err := r.m.View()
	if err != nil {
		r.w.t.Fatal(err)
	}
	defer v.Close()
	if v.AppliedIndex() != r.index {
		r.w.t.Fatalf("%s: view at index %d, applied were %d", r.name, v.AppliedIndex(), r.index)
	}
	r.checkView(v)
	state := r.w.states[r.index]
	leases := r.m.Leases()
	for i := range leases {
		if leases[i].Pending {
			leases[i].DeadlineMS = 0
		}
	}
	r.w.same(r, r.index, "leases", leases, state.Leases())
	r.checkSessions(state)
	for _, id := range modelLeases {
		_, keys, _ := r.m.Lease(id)
		r.w.same(r, r.index, fmt.Sprint("keys of lease ", id), keys, state.LeaseKeys(id))
	}
}

func (r *replica) checkView(v *machine.View) {
	ctx := context.Background()
	index := v.AppliedIndex()
	state := r.w.states[index]
	r.gen.now = state
	if v.Revision() != state.Revision() || v.Compacted() != state.Compacted() {
		r.w.t.Fatalf("%s: view at index %d has revision %d, compacted %d; the model has %d, %d", r.name, index,
			v.Revision(), v.Compacted(), state.Revision(), state.Compacted())
	}
	r.w.same(r, index, "members", v.Members(), state.Members())
	r.w.same(r, index, "alarms", v.Alarms(), state.Alarms())
	r.w.same(r, index, "broken queues", v.BrokenQueues(), state.BrokenQueues())
	for range 4 {
		q := r.gen.rangeRequest()
		got, err := v.Range(ctx, q)
		want, refused := state.Range(q)
		r.w.same(r, index, fmt.Sprint("range ", q), answer{got, err}, answer{want, refused})
	}
	txn := r.gen.readOnlyTxn()
	got, err := v.Txn(ctx, txn)
	want, refused := state.Txn(txn)
	r.w.same(r, index, fmt.Sprint("read ", txn), answer{got, err}, answer{want, refused})
	r.checkAttached(v, state)
	r.checkChildren(v, state)
	r.checkChanges(v, state)
	hash, err := v.StateHash(ctx)
	if err != nil {
		r.w.t.Fatal(err)
	}
	r.w.sameHash(r.name, index, hash)
	r.checkHashKV(v, state)
}

// checkChildren reads all children of all parents, which the model finds by looking at every key.
func (r *replica) checkChildren(v *machine.View, state *model.Model) {
	all, err := state.Range(&pb.RangeRequest{
		Key: []byte{0}, RangeEnd: []byte{0}, SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_ASCEND,
	})
	if err != nil {
		return // the alarm
	}
	for _, parent := range modelParents {
		var got, want []*mvccpb.KeyValue
		err := v.Children(context.Background(), []byte(parent), func(kv *mvccpb.KeyValue) bool {
			got = append(got, kv)
			return true
		})
		for _, kv := range all.Kvs {
			if i := bytes.LastIndexByte(kv.Key, '/'); i >= 0 && string(kv.Key[:i]) == parent {
				want = append(want, kv)
			}
		}
		slices.SortStableFunc(want, func(a, b *mvccpb.KeyValue) int {
			return cmp.Or(cmp.Compare(a.CreateRevision, b.CreateRevision), bytes.Compare(a.Key, b.Key))
		})
		r.w.same(r, v.AppliedIndex(), fmt.Sprintf("children of %q", parent), answer{got, err}, answer{want, nil})
	}
}

type answer struct {
	Response any
	Err      error
}

func (r *replica) checkHashKV(v *machine.View, state *model.Model) {
	rev := r.gen.revision()
	hash, hashed, compacted, err := v.HashKV(context.Background(), rev)
	var want error
	switch {
	case rev > state.Revision():
		want = statemachine.ErrFutureRev
	case rev <= 0:
		rev = state.Revision()
	case rev < state.Compacted():
		want = statemachine.ErrCompacted
	}
	if err != want || err == nil && (hashed != rev || compacted != state.Compacted()) {
		r.w.t.Fatalf("%s: hash of revision %d: %d %d %v", r.name, rev, hashed, compacted, err)
	}
	if err == nil {
		r.w.sameKVHash(r.name, rev, compacted, hash)
	}
}

// checkChanges reads the history from some revision, of all keys and of one, to the end or until it has enough.
func (r *replica) checkChanges(v *machine.View, state *model.Model) {
	from, prev, most := r.gen.revision(), r.gen.chance(70), 1+r.gen.IntN(100)
	key := []byte(pick(r.gen, modelKeys))
	gather := func(read func(func(statemachine.Revision, []statemachine.Event) bool) error) ([]model.Change, error) {
		var got []model.Change
		err := read(func(rev statemachine.Revision, events []statemachine.Event) bool {
			got = append(got, model.Change{Revision: rev, Events: events})
			return len(got) < most
		})
		return got, err
	}
	check := func(what string, key []byte, got []model.Change, err error) {
		want, refused := state.Changes(key, from, prev)
		want = want[:min(most, len(want))]
		what = fmt.Sprintf("%s %q from %d to %d, compacted %d", what, key, from, v.Revision(), v.Compacted())
		r.w.same(r, v.AppliedIndex(), what, answer{got, err}, answer{want, refused})
	}
	ctx := context.Background()
	all, err := gather(func(fn func(statemachine.Revision, []statemachine.Event) bool) error {
		return v.Changes(ctx, from, prev, fn)
	})
	check("changes", nil, all, err)
	one, err := gather(func(fn func(statemachine.Revision, []statemachine.Event) bool) error {
		return v.KeyChanges(ctx, key, from, prev, fn)
	})
	check("changes of", key, one, err)
}
