package machine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// TestLeaseIDsOfAnySign grants leases under ids at the ends of their range, attaches keys, and revokes them one by one.
func TestLeaseIDsOfAnySign(t *testing.T) {
	d := newDriver(t)
	ids := []int64{1, -1, -5, math.MaxInt64, math.MinInt64}
	for _, id := range ids {
		if r := d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: id, TtlMs: 1000})); r[0].Err != nil {
			t.Fatalf("grant %d: %v", id, r[0].Err)
		}
		d.do(command(raftv1.KindPut, &pb.PutRequest{Key: fmt.Append(nil, id), Value: []byte("v"), Lease: id}))
	}
	for i, id := range ids {
		if r := d.do(command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: id})); r[0].Err != nil {
			t.Fatalf("revoke %d: %v", id, r[0].Err)
		}
		for j, other := range ids {
			if got, want := d.value(fmt.Sprint(other), 0), map[bool]string{true: "-", false: "v"}[j <= i]; got != want {
				t.Errorf("after the revocation of %d the key of %d is %q, want %q", id, other, got, want)
			}
		}
	}
	if r := d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{TtlMs: 1000})); r[0].Err == nil {
		t.Error("id 0 was granted")
	}
}

// TestTiesSortAsEtcd compares the order of keys with equal values with that of sort.Sort, which etcd uses.
func TestTiesSortAsEtcd(t *testing.T) {
	d := newDriver(t)
	var keys, values []string
	for i := range 60 {
		keys, values = append(keys, fmt.Sprintf("%02d", i)), append(values, fmt.Sprint(i*7%5))
		d.do(put(keys[i], values[i]))
	}
	for _, order := range []pb.RangeRequest_SortOrder{pb.RangeRequest_ASCEND, pb.RangeRequest_DESCEND} {
		var sorter sort.Interface = &byValue{append([]string(nil), keys...), append([]string(nil), values...)}
		want := sorter.(*byValue)
		if order == pb.RangeRequest_DESCEND {
			sorter = sort.Reverse(sorter)
		}
		sort.Sort(sorter)
		r, err := d.view().Range(context.Background(), &pb.RangeRequest{
			Key: []byte{0}, RangeEnd: []byte{0}, SortTarget: pb.RangeRequest_VALUE, SortOrder: order,
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, kv := range r.Kvs {
			if !bytes.Equal(kv.Key, []byte(want.keys[i])) {
				t.Fatalf("%s: key %d is %s, etcd's %s", order, i, kv.Key, want.keys[i])
			}
		}
	}
}

type byValue struct{ keys, values []string }

func (s *byValue) Len() int           { return len(s.keys) }
func (s *byValue) Less(i, j int) bool { return s.values[i] < s.values[j] }
func (s *byValue) Swap(i, j int) {
	s.keys[i], s.keys[j] = s.keys[j], s.keys[i]
	s.values[i], s.values[j] = s.values[j], s.values[i]
}

// TestTwoChangesOfAKeyInOneRevision puts and deletes a key in one transaction and demands that both events name the
// version before the transaction, live and from the history, and that the history keeps them together.
func TestTwoChangesOfAKeyInOneRevision(t *testing.T) {
	d := newDriver(t)
	d.do(put("k", "old"))
	nested := func(op *pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{
			Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{op}}},
		}
	}
	r := d.do(command(raftv1.KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{
		nested(&pb.RequestOp{
			Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k"), Value: []byte("new")}},
		}),
		nested(&pb.RequestOp{
			Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}},
		}),
	}}))
	if r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	check := func(from string, events []statemachine.Event) {
		if len(events) != 2 {
			t.Fatalf("%s: %d events in the revision", from, len(events))
		}
		for i, e := range events {
			if string(e.PrevKv.GetValue()) != "old" {
				t.Errorf("%s: event %d has the previous version %v", from, i, e.PrevKv)
			}
		}
	}
	check("live", d.last.Events)
	const rev = 3
	collect := func(from string) func(statemachine.Revision, []statemachine.Event) bool {
		return func(got statemachine.Revision, events []statemachine.Event) bool {
			if got != rev {
				t.Errorf("%s: revision %d", from, got)
			}
			check(from, events)
			return true
		}
	}
	if err := d.view().Changes(context.Background(), rev, true, collect("changes")); err != nil {
		t.Error(err)
	}
	if err := d.view().KeyChanges(context.Background(), []byte("k"), rev, true, collect("key changes")); err != nil {
		t.Error(err)
	}
}

// TestNegativeRevisionsInTransactions reads at negative revisions before and after the first compaction.
func TestNegativeRevisionsInTransactions(t *testing.T) {
	d := newDriver(t)
	d.do(put("k", "v"))
	read := func(rev int64) (error, error) {
		op := &pb.RequestOp{
			Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k"), Revision: rev}},
		}
		txn := &pb.TxnRequest{Success: []*pb.RequestOp{op}}
		_, err := d.view().Txn(context.Background(), txn)
		return err, d.do(command(raftv1.KindTxn, txn))[0].Err
	}
	check := func(when string, rev int64, want error) {
		t.Helper()
		if read, applied := read(rev); !errors.Is(read, want) || !errors.Is(applied, want) {
			t.Errorf("%s: revision %d: read %v, applied %v, want %v", when, rev, read, applied, want)
		}
	}
	check("never compacted", -1, nil)
	check("never compacted", -2, statemachine.ErrCompacted)
	d.do(command(raftv1.KindCompact, &pb.CompactionRequest{Revision: 1}))
	check("compacted", -1, statemachine.ErrCompacted)
}
