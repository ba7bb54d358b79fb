package machine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

const (
	self = 7
	boot = 1
)

// driver applies commands to a machine, one entry each, and returns their results.
type driver struct {
	t       testing.TB
	fs      vfs.FS
	m       *machine.Machine
	index   uint64
	number  uint64
	applied []*statemachine.Applied
	last    *statemachine.Applied
	guard   func(statemachine.Step, *coordv1.Guard) bool
	reactor statemachine.Reactor
	with    []statemachine.Procedure
	budget  statemachine.Budget
	sweep   int                       // SweepFrom
	since   map[string]raftv1.Version // nil: that of the release
	ended   string                    // why the machine ended
	room    statemachine.Room
}

func (d *driver) Applied(a *statemachine.Applied) {
	a = expanded(d.t, d.m, a)
	d.applied, d.last = append(d.applied, a), a
}

func (d *driver) Recovered(a *statemachine.Applied, _ func(uint64) bool) { d.last = a }

func newDriver(t testing.TB, procedures ...statemachine.Procedure) *driver {
	d := &driver{t: t, fs: vfs.NewCrashableMem(), with: procedures}
	d.open()
	t.Cleanup(func() { d.m.Close() })
	return d
}

func (d *driver) open() uint64 {
	d.m = machine.New(machine.Options{
		Dir: "db", FS: d.fs, Shard: 1, Member: self, Boot: boot, Observer: d, SweepFrom: d.sweep,
		End: func(line string) { d.ended = line },
		Program: statemachine.Program{
			Procedures: d.with, Guard: d.guard, Reactor: d.reactor, Budget: d.budget, Room: d.room, Since: d.since,
		},
	})
	index, err := d.m.Open(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return index
}

func (d *driver) entry(commands ...raftv1.Command) sm.Entry {
	d.index++
	d.number++
	e := &raftv1.Entry{Member: self, Boot: boot, Number: d.number, Settled: d.number - 1, Commands: commands}
	return sm.Entry{Index: d.index, Cmd: raftv1.AppendEntry(nil, e)}
}

func command(kind raftv1.Kind, msg proto.Message) raftv1.Command {
	body, err := proto.Marshal(msg)
	if err != nil {
		panic(err)
	}
	return raftv1.Command{Kind: kind, Body: body}
}

func (d *driver) do(commands ...raftv1.Command) []statemachine.Result {
	d.t.Helper()
	if _, err := d.m.Update([]sm.Entry{d.entry(commands...)}); err != nil {
		d.t.Fatal(err)
	}
	return d.last.Entries[len(d.last.Entries)-1].Results
}

func put(key, value string) raftv1.Command {
	return command(raftv1.KindPut, &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func (d *driver) view() *machine.View {
	d.t.Helper()
	v, err := d.m.View()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(v.Close)
	return v
}

func (d *driver) value(key string, rev int64) string {
	d.t.Helper()
	v, err := d.m.View()
	if err != nil {
		d.t.Fatal(err)
	}
	defer v.Close()
	r, err := v.Range(context.Background(), &pb.RangeRequest{Key: []byte(key), Revision: rev})
	if err != nil {
		return err.Error()
	}
	if len(r.Kvs) == 0 {
		return "-"
	}
	return string(r.Kvs[0].Value)
}

func TestCommandsOfOneEntrySeeEachOther(t *testing.T) {
	d := newDriver(t)
	results := d.do(put("a", "1"), put("a", "2"),
		command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{
			Key: []byte("a"), RangeEnd: []byte("b"), PrevKv: true,
		}), put("a", "3"))
	for i, want := range []int64{2, 3, 4, 5} {
		type headed interface{ GetHeader() *pb.ResponseHeader }
		if got := results[i].Response.(headed).GetHeader().Revision; got != want {
			t.Errorf("command %d has revision %d, want %d", i, got, want)
		}
	}
	deleted := results[2].Response.(*pb.DeleteRangeResponse)
	if deleted.Deleted != 1 || string(deleted.PrevKvs[0].Value) != "2" || deleted.PrevKvs[0].Version != 2 {
		t.Errorf("deleted %v", deleted)
	}
	for rev, want := range []string{
		0: "3", 1: "-", 2: "1", 3: "2", 4: "-", 5: "3", 6: statemachine.ErrFutureRev.Error(),
	} {
		if got := d.value("a", int64(rev)); got != want {
			t.Errorf("a at revision %d is %q, want %q", rev, got, want)
		}
	}
}

// TestUpdateIsCutByBytes: however many entries come at once, what is committed in one batch is a few megabytes and one
// entry.
func TestUpdateIsCutByBytes(t *testing.T) {
	d := newDriver(t)
	var entries []sm.Entry
	for i := range 20 {
		entries = append(entries, d.entry(put(fmt.Sprint(i), strings.Repeat("x", 1<<20))))
	}
	if _, err := d.m.Update(entries); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, a := range d.applied {
		total += len(a.Entries)
		if len(a.Entries) > 5 {
			t.Errorf("%d entries of a megabyte in one batch", len(a.Entries))
		}
	}
	if total != 20 || d.last.Index != d.index {
		t.Errorf("%d entries were applied, up to %d", total, d.last.Index)
	}
}

func TestEntryRunsOnce(t *testing.T) {
	d := newDriver(t)
	e := d.entry(put("a", "1"))
	again := e
	again.Index = 2
	d.index = 2
	if _, err := d.m.Update([]sm.Entry{e, again}); err != nil {
		t.Fatal(err)
	}
	if d.last.Revision != 2 || !d.last.Entries[1].Duplicate {
		t.Fatalf("the copy ran: revision %d, %+v", d.last.Revision, d.last.Entries[1])
	}
	// A copy of an earlier boot, and one that its proposer gave up, do not run either.
	for i, e := range []*raftv1.Entry{
		{Member: self, Boot: boot - 1, Number: 100, Commands: []raftv1.Command{put("a", "x")}},
		{Member: self, Boot: boot, Number: 9, Settled: 8, Commands: []raftv1.Command{put("b", "ok")}},
		{Member: self, Boot: boot, Number: 8, Settled: 0, Commands: []raftv1.Command{put("a", "x")}},
	} {
		d.index++
		if _, err := d.m.Update([]sm.Entry{{Index: d.index, Cmd: raftv1.AppendEntry(nil, e)}}); err != nil {
			t.Fatal(err)
		}
		if got := d.last.Entries[0]; got.Duplicate != (i == 2) || got.Displaced != (i == 0) {
			t.Errorf("entry %d: %+v", i, got)
		}
	}
	if got := d.value("a", 0); got != "1" {
		t.Errorf("a is %q", got)
	}
}

// TestCopyDoesNotPassForItsOriginal: of two starts of one data directory with the same boot the one that the log has
// first counts, across a restart of the machine, and its numbers are its own. A higher boot ends both.
func TestCopyDoesNotPassForItsOriginal(t *testing.T) {
	d := newDriver(t)
	put2 := func(value string) []raftv1.Command { return []raftv1.Command{put("a", value)} }
	for i, tc := range []struct {
		entry     raftv1.Entry
		displaced bool
		want      string
	}{
		{raftv1.Entry{Member: 9, Boot: 5, Start: 50, Number: 1, Commands: put2("original 1")}, false, "original 1"},
		{raftv1.Entry{Member: 9, Boot: 5, Start: 51, Number: 1, Commands: put2("copy 1")}, true, "original 1"},
		{raftv1.Entry{
			Member: 9, Boot: 5, Start: 51, Number: 2, Settled: 1, Commands: put2("copy 2"),
		}, true, "original 1"},
		{raftv1.Entry{
			Member: 9, Boot: 5, Start: 50, Number: 2, Settled: 1, Commands: put2("original 2"),
		}, false, "original 2"},
		{raftv1.Entry{Member: 9, Boot: 4, Start: 40, Number: 3, Commands: put2("older copy")}, true, "original 2"},
		{raftv1.Entry{Member: 9, Boot: 6, Start: 60, Number: 1, Commands: put2("restart 1")}, false, "restart 1"},
		{raftv1.Entry{Member: 9, Boot: 5, Start: 50, Number: 3, Commands: put2("original 3")}, true, "restart 1"},
		{raftv1.Entry{Member: 9, Boot: 6, Start: 60, Number: 2, Commands: put2("restart 2")}, false, "restart 2"},
	} {
		d.index++
		if _, err := d.m.Update([]sm.Entry{{Index: d.index, Cmd: raftv1.AppendEntry(nil, &tc.entry)}}); err != nil {
			t.Fatal(err)
		}
		if got := d.last.Entries[0]; got.Displaced != tc.displaced || got.Duplicate || got.Start != tc.entry.Start {
			t.Errorf("entry %d: %+v", i, got)
		}
		if got := d.value("a", 0); got != tc.want {
			t.Errorf("after entry %d a is %q, want %q", i, got, tc.want)
		}
		d.reopen()
	}
}

func TestRestartKeepsWhatWasSynced(t *testing.T) {
	d := newDriver(t)
	d.do(put("a", "1"), command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5, TtlMs: 1000}))
	if err := d.m.Sync(); err != nil {
		t.Fatal(err)
	}
	before, err := d.view().StateHash(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	crashed := d.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
	d.fs = crashed
	if index := d.open(); index != 1 {
		t.Fatalf("open says index %d, want 1: what Sync reported must survive a crash", index)
	}
	t.Cleanup(func() { d.m.Close() })
	after, err := d.view().StateHash(context.Background())
	if err != nil || after != before {
		t.Fatalf("hash %x after the crash, %x before (%v)", after, before, err)
	}
	if info, _, ok := d.m.Lease(5); !ok || !info.Pending {
		t.Fatalf("lease is %+v %v", info, ok)
	}
}

func TestSnapshotMovesTheWholeState(t *testing.T) {
	d := newDriver(t)
	for i := range 100 {
		d.do(put(fmt.Sprintf("k%d", i%10), fmt.Sprint(i)))
	}
	d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5, TtlMs: 1000}),
		command(raftv1.KindPut, &pb.PutRequest{Key: []byte("leased"), Lease: 5}),
		command(raftv1.KindCompact, &pb.CompactionRequest{Revision: 50}),
		command(raftv1.KindMemberPut, &raftv1.MemberPut{Member: &raftv1.Member{Id: 3, Name: "c"}}),
		command(raftv1.KindAlarm, &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE, MemberID: 3,
		}))
	want, err := d.view().StateHash(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	prepared, err := d.m.PrepareSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := d.m.SaveSnapshot(prepared, &stream, nil); err != nil {
		t.Fatal(err)
	}
	to := newDriver(t)
	to.do(put("old", "state"))
	held := to.view()
	if err := to.m.RecoverFromSnapshot(bytes.NewReader(stream.Bytes()), nil); err != nil {
		t.Fatal(err)
	}
	if kv, err := held.Get([]byte("old")); err != nil || kv == nil {
		t.Errorf("a reader lost its view: %v %v", kv, err)
	}
	// Durable at once: a crash right after keeps it.
	to.fs = to.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
	if index := to.open(); index != d.index {
		t.Fatalf("open after recovery says index %d, want %d", index, d.index)
	}
	t.Cleanup(func() { to.m.Close() })
	if got, err := to.view().StateHash(context.Background()); err != nil || got != want {
		t.Fatalf("hash %x, want %x (%v)", got, want, err)
	}
	to.index, to.number = d.index, d.number
	if got := to.do(put("x", "y")); !errors.Is(got[0].Err, statemachine.ErrNoSpace) {
		t.Errorf("the alarm got lost: %+v", got[0])
	}
	for cut := 0; cut < stream.Len(); cut += 97 {
		err := to.m.RecoverFromSnapshot(bytes.NewReader(stream.Bytes()[:cut]), nil)
		if !errors.Is(err, machine.ErrSnapshot) {
			t.Fatalf("a stream cut at %d: %v", cut, err)
		}
	}
}

func FuzzRecoverFromSnapshot(f *testing.F) {
	d := newDriver(f)
	d.do(put("a", "1"))
	var stream bytes.Buffer
	if err := d.m.WriteBackup(context.Background(), &stream); err != nil {
		f.Fatal(err)
	}
	f.Add(stream.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		to := newDriver(t)
		if err := to.m.RecoverFromSnapshot(bytes.NewReader(data), nil); err != nil && to.value("a", 0) != "-" {
			t.Fatal("a refused snapshot left a trace")
		}
	})
}

func TestLeaseExpiresWithItsKeysInOneRevision(t *testing.T) {
	d := newDriver(t)
	d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5, TtlMs: 1000}),
		command(raftv1.KindPut, &pb.PutRequest{Key: []byte("b"), Lease: 5}),
		command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), Lease: 5}))
	tick := func(number uint64, delta int64, seen uint64) bool {
		results := d.do(command(raftv1.KindTick, &raftv1.Tick{Number: number, DeltaMs: delta, Seen: seen}))
		return results[0].Response.(statemachine.Ticked).Applied
	}
	if !tick(1, 5000, 0) || d.value("a", 0) != "" {
		t.Fatal("a pending lease expired")
	}
	tick(2, 10, 1) // sets the deadline to 6010
	if tick(2, 5000, 1) {
		t.Fatal("a tick was applied twice")
	}
	tick(3, 999, 3)
	renewed := d.do(command(raftv1.KindLeaseRenew, &raftv1.LeaseRenew{Ids: []int64{5, 6}}))[0].Response
	if got := renewed.(statemachine.LeasesRenewed); got.TTLs[0] != 1000 || got.TTLs[1] != 0 {
		t.Fatalf("renewed %v", got)
	}
	renewedAt := d.index
	tick(4, 1000, renewedAt-1)
	if d.value("a", 0) != "" {
		t.Fatal("a renewed lease expired")
	}
	tick(5, 0, renewedAt)
	tick(6, 999, renewedAt)
	if l, _, _ := d.m.Lease(5); d.value("a", 0) != "" || l.DeadlineMS != d.last.Leases.ClockMS+1 {
		t.Fatalf("expired early: %+v", d.last.Leases)
	}
	before := d.last.Revision
	tick(7, 1, renewedAt)
	if d.last.Revision != before+1 || len(d.last.Events) != 2 || string(d.last.Events[0].Kv.Key) != "a" ||
		d.last.Leases.Count != 0 {
		t.Fatalf("expiry: %+v", d.last)
	}
}

// A key that one transaction deletes, creates and writes again was created by it: no event after the deletion has a
// previous version, neither when it happens nor in the history.
func TestCreatedAndWrittenInOneTransactionHasNoPrevious(t *testing.T) {
	d := newDriver(t)
	d.do(put("k", "0"))
	nested := func(op *pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{
			Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{op}}},
		}
	}
	write := func(value string) *pb.RequestOp {
		return &pb.RequestOp{
			Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), Value: []byte(value)}},
		}
	}
	remove := &pb.RequestOp{
		Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}},
	}
	d.do(command(raftv1.KindTxn, &pb.TxnRequest{
		Success: []*pb.RequestOp{nested(remove), nested(write("1")), nested(write("2"))},
	}))
	check := func(what string, events []statemachine.Event) {
		var got string
		for _, e := range events {
			got += fmt.Sprintf(" %s %s (%s)", e.Type, e.Kv.Value, e.PrevKv.GetValue())
		}
		if want := " DELETE  (0) PUT 1 () PUT 2 ()"; got != want {
			t.Errorf("%s:%s, want%s", what, got, want)
		}
	}
	check("applied", d.last.Events)
	err := d.view().Changes(context.Background(), 3, true,
		func(_ statemachine.Revision, events []statemachine.Event) bool {
			check("history", events)
			return true
		})
	if err != nil {
		t.Fatal(err)
	}
}
