package machine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
	"github.com/coord-dev/coord/statemachine/model"
)

// TestMassExpiry lets very many leases die at once, half of them sessions of one stream, some with very many keys, and
// settles some of them twice at one deadline. Each tick deletes a bounded part; a machine that restarts between the
// ticks, and the model, delete the same.
func TestMassExpiry(t *testing.T) {
	const leases, keys = 1500, 4500
	d, restarted, reference := newDriver(t), newDriver(t), model.New(statemachine.Program{})
	apply := func(commands ...raftv1.Command) (statemachine.Result, *model.Outcome) {
		t.Helper()
		e := d.entry(commands...)
		for _, m := range []*machine.Machine{d.m, restarted.m} {
			if _, err := m.Update([]sm.Entry{e}); err != nil {
				t.Fatal(err)
			}
		}
		if a, b := d.hash(), restarted.hash(); a != b {
			t.Fatalf("index %d: hash %x, of the restarted machine %x", e.Index, a, b)
		}
		results := d.last.Entries[0].Results
		return results[len(results)-1], reference.Apply(e.Index, e.Cmd)
	}
	number := uint64(0)
	tick := func(delta int64) *model.Outcome {
		t.Helper()
		number++
		got, want := apply(command(raftv1.KindTick, &raftv1.Tick{Number: number, DeltaMs: delta, Seen: d.index}))
		if !got.Response.(statemachine.Ticked).Applied || len(d.last.Events) != len(want.Events) ||
			d.last.Leases != reference.LeaseFacts() {
			t.Fatalf("tick %d: %+v, %d events, leases %+v; want %d, %+v", number, got, len(d.last.Events),
				d.last.Leases,
				len(want.Events), reference.LeaseFacts())
		}
		return want
	}
	var grants, all []raftv1.Command
	ids := make([]int64, leases)
	for i := range leases {
		ids[i] = int64(i + 1)
		if i%2 == 0 {
			grants = append(grants, command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: ids[i], TtlMs: 1000}))
		} else {
			grants = append(grants, command(raftv1.KindSessionOpen,
				&raftv1.SessionOpen{Id: ids[i], TtlMs: 1000, Stream: 1}))
		}
	}
	apply(grants...)
	for i := range keys { // on the first two leases, more than a tick deletes
		all = append(all, command(raftv1.KindPut, &pb.PutRequest{Key: fmt.Appendf(nil, "k%05d", i), Lease: ids[i%2]}))
	}
	apply(all...)
	tick(0)
	apply(command(raftv1.KindLeaseRenew, &raftv1.LeaseRenew{Ids: ids[1:]}), // the first keeps the rest in the heap
		command(raftv1.KindStreamRenew, &raftv1.StreamRenew{Streams: []uint64{1}}))
	tick(0)
	reopen := func() {
		if err := restarted.m.Close(); err != nil {
			t.Fatal(err)
		}
		restarted.open()
	}
	reopen()
	if out := tick(1000); len(out.Events) == 0 || !d.last.Leases.Overdue || d.last.Leases.Count == 0 {
		t.Fatalf("one tick deleted it all: %+v", d.last.Leases)
	}
	dead := ids[leases-1]
	if got,
		_ := apply(command(raftv1.KindLeaseRenew,
		&raftv1.LeaseRenew{Ids: []int64{dead}})); got.Response.(statemachine.LeasesRenewed).TTLs[0] != 0 {
		t.Error("a lease that is overdue was renewed")
	}
	if got,
		_ := apply(command(raftv1.KindPut,
		&pb.PutRequest{Key: []byte("x"), Lease: dead})); got.Err != statemachine.ErrLeaseNotFound {
		t.Errorf("a put on a lease that is overdue: %+v", got)
	}
	for reopen(); d.last.Leases.Count > 0; reopen() {
		apply(command(raftv1.KindStreamRenew, &raftv1.StreamRenew{Streams: []uint64{1}})) // all of it is overdue
		tick(0)
	}
}

func (d *driver) hash() uint64 {
	d.t.Helper()
	v, err := d.m.View()
	if err != nil {
		d.t.Fatal(err)
	}
	defer v.Close()
	h, err := v.StateHash(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

// TestSameLogSameRows is the determinism contract: machines that apply one log as different members, in different
// batches and on different numbers of processors hold the same rows.
func TestSameLogSameRows(t *testing.T) {
	const entries = 400
	seed := uint64(20)
	w := &world{t: t, gen: newGenerator(rand.New(rand.NewPCG(seed, 0))), states: []*model.Model{randomModel()}}
	for range entries {
		w.grow()
	}
	w.add(nil) // its batch publishes what the last removal left
	var want map[string]string
	for i, batch := range []int{1, 7, 64, entries} {
		rows := appliedRows(t, w.log, batch, uint64(7+i), 1+3*(i%2))
		if want == nil {
			want = rows
		}
		if diff := rowsDiffer(stateRows(want), stateRows(rows)); diff != "" {
			t.Errorf("seed %d: batches of 1 and of %d give different rows: %s", seed, batch, diff)
		}
	}
}

// appliedRows are the rows of a machine that applied the log but for its last entry in batches, then, when all
// compacted history was removed, the last one.
func appliedRows(t *testing.T, log []sm.Entry, batch int, member uint64, procs int) map[string]string {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	o := randomOptions()
	o.Dir, o.FS, o.Member = "db", vfs.NewMem(), member
	m := machine.New(o)
	if _, err := m.Open(nil); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for begin := 0; begin < len(log)-1; begin += batch {
		if _, err := m.Update(log[begin:min(begin+batch, len(log)-1)]); err != nil {
			t.Fatal(err)
		}
	}
	v, err := m.View()
	if err != nil {
		t.Fatal(err)
	}
	compacted := v.Compacted()
	v.Close()
	<-m.CompactionDone(compacted)
	if _, err := m.Update(log[len(log)-1:]); err != nil {
		t.Fatal(err)
	}
	return backupRows(t, m)
}
