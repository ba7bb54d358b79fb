package machine_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// forgotten stands for a version before that a compaction of the same batch has taken out of the history.
var forgotten = &mvccpb.KeyValue{}

// expanded is what a machine has just told its observer, with the events of sweeps one by one.
func expanded(t testing.TB, m *machine.Machine, a *statemachine.Applied) *statemachine.Applied {
	if !slices.ContainsFunc(a.Events, func(e statemachine.Event) bool { return e.Sweep != nil }) {
		return a
	}
	v, err := m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	told := *a
	told.Events = nil
	for _, e := range a.Events {
		if e.Sweep == nil {
			told.Events = append(told.Events, e)
			continue
		}
		for i := range e.Sweep.Len() {
			kv := &mvccpb.KeyValue{Key: e.Sweep.Key(i), ModRevision: e.Kv.ModRevision}
			told.Events = append(told.Events, statemachine.Event{Type: e.Type, Kv: kv, PrevKv: before(t, v, kv)})
		}
	}
	return &told
}

// before is what a key was before it was deleted.
func before(t testing.TB, v *machine.View, kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	prev := forgotten
	if kv.ModRevision <= v.Compacted() {
		return prev
	}
	err := v.KeyChanges(context.Background(), kv.Key, kv.ModRevision, true,
		func(_ int64, changes []statemachine.Event) bool {
			for _, c := range changes {
				if c.Type == mvccpb.Event_DELETE {
					prev = c.PrevKv
				}
			}
			return false
		})
	if err != nil {
		t.Fatal(err)
	}
	return prev
}

// remembering is want, but for what got says was forgotten.
func remembering(want, got []statemachine.Event) []statemachine.Event {
	want = append([]statemachine.Event{}, want...)
	for i := range min(len(want), len(got)) {
		if got[i].PrevKv == forgotten {
			want[i].PrevKv = forgotten
		}
	}
	return want
}

// TestSweepsAreDeletions: many keys deleted at once, by a range or with their lease, before and behind other changes of
// one batch, leave the state, the answers and the history that they leave one by one.
func TestSweepsAreDeletions(t *testing.T) {
	const keys = 600 // a parent's children are deleted by one row
	var states [2]string
	for i, from := range []int{2, 10 * keys} {
		d := newDriver(t)
		d.sweep = from
		d.reopen()
		d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 7, TtlMs: 1000}),
			command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: -1, TtlMs: 1000}))
		var puts []raftv1.Command
		for k := range keys {
			for _, name := range []string{"a/%04d", "a/b/%04d", "c%04d/x", "d/%04d"} {
				r := &pb.PutRequest{Key: fmt.Appendf(nil, name, k), Value: []byte{1}}
				if k%3 == 0 {
					r.Lease = []int64{7, -1}[k%2]
				}
				puts = append(puts, command(raftv1.KindPut, r))
			}
		}
		d.do(puts...)
		several := &pb.TxnRequest{Success: []*pb.RequestOp{
			putting("a/0007"), putting("a/new"), deleting("a/", "b"), putting("a/0001"), putting("a/b/0001"),
			deleting("a/b", "a/c"),
		}}
		all := &pb.RequestOp{
			Request: &pb.RequestOp_RequestRange{
				RequestRange: &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("e")},
			},
		}
		results := d.do(put("a/younger", ""), put("c0001/x", "new"),
			command(raftv1.KindTxn, several),
			put("a/0002", "again"), command(raftv1.KindPut, &pb.PutRequest{Key: []byte("d/behind"), Lease: 7}),
			command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 7}),
			command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{
				Key: []byte("c"), RangeEnd: []byte("d/0100"), PrevKv: true,
			}),
			put("d/0001", "last"),
			command(raftv1.KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{all, putting("e")}}),
			command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: -1}))
		for n, r := range results {
			if r.Err != nil {
				t.Errorf("command %d: %v", n, r.Err)
			}
		}
		states[i] = fmt.Sprint(results, show(d.last.Events), d.all())
		d.do(put("a/0003", "")) // what the apply reads is what was committed
		states[i] += d.all()
		d.reopen()
		states[i] += d.all()
	}
	if states[0] != states[1] {
		t.Errorf("swept\n%.3000s\none by one\n%.3000s", states[0], states[1])
	}
}

// all is the state, the history, and the children of some keys.
func (d *driver) all() string {
	v, err := d.m.View()
	if err != nil {
		d.t.Fatal(err)
	}
	defer v.Close()
	out := fmt.Sprintln(d.hash())
	err = v.Changes(context.Background(), 0, true, func(revision int64, events []statemachine.Event) bool {
		out += fmt.Sprintln(revision, show(events))
		return true
	})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, parent := range []string{"a", "a/b", "c0001", "d"} {
		err := v.Children(context.Background(), []byte(parent), func(kv *mvccpb.KeyValue) bool {
			out += fmt.Sprintln(kv)
			return true
		})
		if err != nil {
			d.t.Fatal(err)
		}
	}
	return out
}
