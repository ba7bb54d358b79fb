package machine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/model"
)

// smallBudget is one that a test can reach.
var smallBudget = statemachine.Budget{Ops: 40, Reads: 2, Work: 20}

// budgeted is a machine with a small budget, and its model.
type budgeted struct {
	*driver
	reference *model.Model
}

func newBudgeted(t testing.TB) *budgeted {
	d := &driver{t: t, fs: vfs.NewCrashableMem(), budget: smallBudget}
	d.open()
	t.Cleanup(func() { d.m.Close() })
	return &budgeted{d, model.New(statemachine.Program{Budget: smallBudget})}
}

// results applies an entry to both, and returns what came of it, which must be alike.
func (b *budgeted) results(commands ...raftv1.Command) []statemachine.Result {
	b.t.Helper()
	e := b.entry(commands...)
	if _, err := b.m.Update([]sm.Entry{e}); err != nil {
		b.t.Fatal(err)
	}
	got, want := b.last.Entries[0].Results, b.reference.Apply(e.Index, e.Cmd).Entry.Results
	for i := range got {
		if !errors.Is(got[i].Err, want[i].Err) || b.last.Revision != b.reference.Revision() {
			b.t.Fatalf("command %d: %v at revision %d, and the model says %v at %d", i, got[i].Err, b.last.Revision,
				want[i].Err, b.reference.Revision())
		}
	}
	return got
}

func (b *budgeted) txn(r *pb.TxnRequest) error {
	b.t.Helper()
	return b.results(command(raftv1.KindTxn, r))[0].Err
}

func existing(key, end string) *pb.Compare {
	return &pb.Compare{
		Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: 0},
		Key: []byte(key), RangeEnd: []byte(end),
	}
}

func ranging(key, end string) *pb.RequestOp {
	return &pb.RequestOp{
		Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}},
	}
}

func rangingAt(key, end string, rev int64) *pb.RequestOp {
	op := ranging(key, end)
	op.GetRequestRange().Revision = rev
	return op
}

func deleting(key, end string) *pb.RequestOp {
	return &pb.RequestOp{
		Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)},
		},
	}
}

func putting(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
}

func nesting(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func times[T any](n int, of T) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = of
	}
	return all
}

func puttings(n int) (ops []*pb.RequestOp) {
	for i := range n {
		ops = append(ops, putting(fmt.Sprint("put", i)))
	}
	return ops
}

// TestBudget: a transaction at the bound passes, and one more is refused and leaves no trace. a0…a9 exist, b0…b4 with 2
// KiB.
func TestBudget(t *testing.T) {
	past := []*pb.RequestOp{rangingAt("a", "b", 11), rangingAt("a", "b", 11)}
	for _, c := range []struct {
		what          string
		within, above *pb.TxnRequest
	}{
		{"operations", &pb.TxnRequest{Success: puttings(40)}, &pb.TxnRequest{Success: puttings(41)}},
		{"operations of the branch not taken", &pb.TxnRequest{Failure: puttings(40)},
			&pb.TxnRequest{Failure: puttings(40), Success: puttings(1)}},
		{"nested operations, which count for each level",
			&pb.TxnRequest{
				Success: []*pb.RequestOp{nesting(&pb.TxnRequest{
					Success: []*pb.RequestOp{nesting(&pb.TxnRequest{Success: puttings(12)})},
				})},
			},
			&pb.TxnRequest{
				Success: []*pb.RequestOp{nesting(&pb.TxnRequest{
					Success: []*pb.RequestOp{nesting(&pb.TxnRequest{Success: puttings(13)})},
				})},
			}},
		{"compares of ranges, of which two are free",
			&pb.TxnRequest{Compare: times(4, existing("a", "b"))}, &pb.TxnRequest{
				Compare: append(times(4, existing("a", "b")), existing("a0", "a1")),
			}},
		{"compares of keys", &pb.TxnRequest{Compare: times(20, existing("a0", ""))},
			&pb.TxnRequest{Compare: times(21, existing("a0", ""))}},
		{"compares of values", &pb.TxnRequest{
			Compare: append(times(6, existing("b0", "")), times(2, existing("a0", ""))...),
		}, &pb.TxnRequest{Compare: times(7, existing("b0", ""))}},
		{"nested compares",
			&pb.TxnRequest{Success: times(4, nesting(&pb.TxnRequest{Compare: times(1, existing("a", "b"))}))},
			&pb.TxnRequest{Success: times(5, nesting(&pb.TxnRequest{Compare: times(1, existing("a", "b"))}))}},
		{"ranges", &pb.TxnRequest{Success: times(4, ranging("a", "b"))}, &pb.TxnRequest{
			Success: append(times(4, ranging("a", "b")), ranging("a0", "a1")),
		}},
		{"ranges of values", &pb.TxnRequest{
			Success: append(times(2, ranging("b", "c")), ranging("b0", "b5"), ranging("a0", "a5")),
		},
			&pb.TxnRequest{Success: append(times(2, ranging("b", "c")), ranging("b0", "b5"), ranging("a0", "a6"))}},
		{"ranges in the past, whose keys are dearer", &pb.TxnRequest{Success: append(past, rangingAt("a0", "a5", 11))},
			&pb.TxnRequest{Success: append(past, rangingAt("a0", "a6", 11))}},
		{"deletions, which are dearer", &pb.TxnRequest{
			Success: append(times(2, ranging("a", "b")), deleting("a0", "a3"), deleting("a3", "a5")),
		},
			&pb.TxnRequest{Success: []*pb.RequestOp{ranging("a", "c"), ranging("a", "c"), deleting("a0", "a6")}}},
		{"one range deleted many times", &pb.TxnRequest{Success: times(3, deleting("a0", "a5"))},
			&pb.TxnRequest{Success: times(4, deleting("a0", "a5"))}},
		{"reads of keys", &pb.TxnRequest{Success: times(2, ranging("b0", ""))},
			&pb.TxnRequest{Success: times(7, ranging("b0", ""))}},
		{"all together", &pb.TxnRequest{Compare: times(2, existing("a", "c")), Success: times(2, ranging("a", "b"))},
			&pb.TxnRequest{
				Compare: times(2, existing("a", "c")), Success: append(times(2, ranging("a", "b")), ranging("a", "a1")),
			}},
		{"that which is linear", &pb.TxnRequest{
			Compare: times(1, existing("", "\x00")), Success: times(1, deleting("a", "\x00")),
		}, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := newBudgeted(t)
			b.fill()
			before := b.last.Revision
			if c.above != nil {
				if err := b.txn(c.above); err != statemachine.ErrTooManyOps {
					t.Errorf("above the budget: %v", err)
				}
				if len(b.last.Events) > 0 || b.last.Revision != before {
					t.Errorf("above the budget: revision %d after %d, %d events", b.last.Revision, before,
						len(b.last.Events))
				}
			}
			if err := b.txn(c.within); err != nil {
				t.Errorf("within the budget: %v", err)
			}
		})
	}
}

func (b *budgeted) fill() {
	for i := range 10 {
		b.results(put(fmt.Sprint("a", i), "v"))
	}
	for i := range 5 {
		b.results(put(fmt.Sprint("b", i), strings.Repeat("v", 2<<10)))
	}
}

// TestBudgetOfPlainCommands: what is linear is not refused, however much it is, and what frees never is.
func TestBudgetOfPlainCommands(t *testing.T) {
	b := newBudgeted(t)
	var all []raftv1.Command
	all = append(all, command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 7, TtlMs: 1000}))
	for i := range 100 {
		all = append(all, command(raftv1.KindPut, &pb.PutRequest{Key: fmt.Append(nil, "k", i), Lease: 7}),
			put(fmt.Sprint("p", i), ""))
	}
	all = append(all, command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("p"), RangeEnd: []byte("q")}),
		command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 7}))
	for i, r := range b.results(all...) {
		if r.Err != nil {
			t.Errorf("command %d: %v", i, r.Err)
		}
	}
	if n := len(b.last.Events); n != 400 {
		t.Errorf("%d events, want 200 puts and 200 deletions", n)
	}
}

// TestBudgetOfRemovedHistory: what a compaction makes unreachable counts for nothing, whether it has been removed
// already or not: a member that has removed it, one that has not yet, one that started anew, and the model decide
// alike.
func TestBudgetOfRemovedHistory(t *testing.T) {
	removed, not := newBudgeted(t), newBudgeted(t)
	for _, b := range []*budgeted{removed, not} {
		b.fill()
		for i := range 10 { // tombstones, and long chains of versions
			b.results(put(fmt.Sprint("c", i), "v"))
			b.results(command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: fmt.Append(nil, "c", i)}))
			b.results(put("a9", fmt.Sprint("v", i)))
		}
		b.results(put("c0", "v"), put("c1", "v"))
	}
	rev := removed.last.Revision
	wide := []*pb.RequestOp{rangingAt("a", "c", rev), rangingAt("a", "c", rev)}
	txn := func(end string) raftv1.Command { // c0 and c1 are kept, nothing else of c…: 8 units; and a0, a1, a2 are 12
		return command(raftv1.KindTxn, &pb.TxnRequest{
			Success: append(wide, rangingAt("c", "d", rev), rangingAt("a", end, rev)),
		})
	}
	log := [][]raftv1.Command{
		{put("d", "v"), command(raftv1.KindCompact, &pb.CompactionRequest{Revision: rev})}, {txn("a3")}, {txn("a4")},
		{txn("a3"), txn("a4")},
	}
	check := func(results []statemachine.Result, want ...error) {
		t.Helper()
		for i, r := range results {
			if r.Err != want[i] {
				t.Errorf("transaction %d: %v, not %v", i, r.Err, want[i])
			}
		}
	}
	removed.results(log[0]...)
	<-removed.m.CompactionDone(rev)
	check(removed.results(log[1]...), nil)
	check(removed.results(log[2]...), statemachine.ErrTooManyOps)
	if err := removed.m.Close(); err != nil {
		t.Fatal(err)
	}
	removed.open()
	check(removed.results(log[3]...), nil, statemachine.ErrTooManyOps)

	var entries []sm.Entry
	for _, commands := range log {
		entries = append(entries, not.entry(commands...))
	}
	if _, err := not.m.Update(entries); err != nil { // nothing is removed before the end of the batch
		t.Fatal(err)
	}
	results := append(not.last.Entries[1].Results, not.last.Entries[2].Results...)
	check(append(results, not.last.Entries[3].Results...), nil, statemachine.ErrTooManyOps, nil,
		statemachine.ErrTooManyOps)
	if a, b := removed.hash(), not.hash(); a != b {
		t.Errorf("the states differ: %x, %x", a, b)
	}
}

// TestTwiceChangedKeys: the events of a transaction that puts many keys and then deletes them, which no member lets
// pass, have what the keys were before it.
func TestTwiceChangedKeys(t *testing.T) {
	d := newDriver(t)
	const keys, rounds = 20_000, 50
	var commands []raftv1.Command
	for i := range keys {
		commands = append(commands, put(fmt.Sprintf("k%05d", i), "v"))
	}
	d.do(commands...)
	var ops []*pb.RequestOp // which a member lets nobody send
	for i := range keys / rounds {
		ops = append(ops, putting(fmt.Sprintf("k%05d", i*rounds)))
	}
	ops = append(ops, deleting("k", "l"), ops[0])
	d.do(command(raftv1.KindTxn, &pb.TxnRequest{Success: ops}))
	events := d.last.Events
	if len(events) != len(ops)-2+keys+1 {
		t.Fatalf("%d events", len(events))
	}
	for i, e := range events {
		if put := i == len(events)-1; put && e.PrevKv != nil || !put && string(e.PrevKv.GetValue()) != "v" {
			t.Fatalf("event %d: %+v", i, e)
		}
	}
}
