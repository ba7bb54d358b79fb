package machine_test

import (
	"errors"
	"fmt"
	"testing"

	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/model"
)

// searching goes through all keys when one of its own is deleted, and then cannot do what it wants.
type searching struct{}

func (searching) Prefix() []byte            { return []byte("q/") }
func (searching) QueueOf(key []byte) string { return string(key) }
func (searching) Deleted(s statemachine.Step, queue string, _ []*mvccpb.KeyValue) error {
	if queue == "q/1" {
		s.Children([]byte("k"), func(*mvccpb.KeyValue) bool { return true })
	} else {
		s.Scan([]byte("k/"), []byte("k0"), func(*mvccpb.KeyValue) bool { return true })
	}
	return errors.New("it cannot")
}

// A tick ends when what follows from the deletions has looked at many keys, whether it succeeds or not; the next one
// goes on. The model counts alike.
func TestExpiryCountsWhatReactionsLookAt(t *testing.T) {
	const keys, leases = 12_000, 5
	d := newDriver(t)
	d.reactor = searching{}
	d.reopen()
	reference := model.New(statemachine.Program{Reactor: searching{}})
	apply := func(commands ...raftv1.Command) {
		t.Helper()
		e := d.entry(commands...)
		reference.Apply(e.Index, e.Cmd)
		if _, err := d.m.Update([]sm.Entry{e}); err != nil {
			t.Fatal(err)
		}
		if d.last.Leases != reference.LeaseFacts() {
			t.Fatalf("index %d: leases %+v, of the model %+v", e.Index, d.last.Leases, reference.LeaseFacts())
		}
	}
	var commands []raftv1.Command
	for i := range keys {
		commands = append(commands, command(raftv1.KindPut, &pb.PutRequest{Key: fmt.Appendf(nil, "k/%d", i)}))
	}
	for id := range int64(leases) {
		commands = append(commands, command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: id + 1, TtlMs: 1000}),
			command(raftv1.KindPut, &pb.PutRequest{Key: fmt.Appendf(nil, "q/%d", id+1), Lease: id + 1}))
	}
	apply(commands...)
	tick := func(number uint64, delta int64) int {
		apply(command(raftv1.KindTick, &raftv1.Tick{Number: number, DeltaMs: delta, Seen: d.index}))
		return d.last.Leases.Count
	}
	tick(1, 0)
	for i, want := range []int{3, 1, 0} { // two each
		if left := tick(uint64(i+2), 1000); left != want {
			t.Fatalf("%d leases are left after %d ticks, not %d", left, i+1, want)
		}
	}
}
