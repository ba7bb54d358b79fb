package watch

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine/machine"
)

// newSwept is a hub on a real state machine in which all deletions of ranges are sweeps.
func newSwept(t *testing.T) (*machineStore, *fixture) {
	h := newHistory()
	s := newMachineStore(t, h)
	f := &fixture{history: h, hub: New(Options{Source: s})}
	t.Cleanup(f.hub.Close)
	s.observe(f.hub)
	f.server = NewServer(f.hub, ServerOptions{Header: func(*pb.ResponseHeader) {}})
	return s, f
}

func (s *machineStore) do(commands ...raftv1.Command) {
	s.update([]*machine.Machine{s.leader, s.follower}, commands...)
}

func deletion(key, end string) *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}
}

func deleteOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func putOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
}

// TestSweep: of a revision with a sweep each watcher is told what it watches, in order, with what was before where it
// asked for that, and the others nothing.
func TestSweep(t *testing.T) {
	s, f := newSwept(t)
	for _, key := range "abcdefg" {
		s.do(command(raftv1.KindPut, &pb.PutRequest{Key: []byte(string(key))})) // revisions 2 to 8
	}
	c := f.dial(t)
	for id, r := range []*pb.WatchCreateRequest{
		1: {Key: []byte("c")},
		2: {Key: []byte("c"), PrevKv: true},
		3: {Key: []byte("a"), RangeEnd: []byte("d"), PrevKv: true},
		4: {Key: []byte("e"), RangeEnd: []byte{0}},
		5: {
			Key: []byte("a"), RangeEnd: []byte{0},
			Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE},
		},
		6: {
			Key: []byte("a"), RangeEnd: []byte{0},
			Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT},
		},
		7: {Key: []byte("a")},
		8: {Key: []byte("b"), StartRevision: 11},
	} {
		if r != nil {
			r.WatchId = int64(id)
			c.create(t, r)
		}
	}
	deliveries := make(chan Delivery, 10)
	if _, _, err := f.hub.Subscribe([]byte("b"), []byte("e"), func(d Delivery) { deliveries <- d }); err != nil {
		t.Fatal(err)
	}
	s.do(command(raftv1.KindTxn, &pb.TxnRequest{
		Success: []*pb.RequestOp{putOp("x"), deleteOp(deletion("b", "f")), putOp("e")},
	}),
		command(raftv1.KindPut, &pb.PutRequest{Key: []byte("b")}))
	got := map[int64]string{}
	for n := 0; n < 7; n++ { // of 1, 2, 3, 4, 5, 6, 3 again and 5 again
		r := c.next(t)
		got[r.WatchId] += line(r) + ";"
		for _, e := range r.Events {
			if e.PrevKv != nil {
				got[r.WatchId] += fmt.Sprintf(" %s was @%d", e.Kv.Key, e.PrevKv.ModRevision)
			}
		}
	}
	got[5] += line(c.next(t)) + ";"
	want := map[int64]string{
		1: "1 @9 DELETE c@9;",
		2: "2 @9 DELETE c@9; c was @4",
		3: "3 @9 DELETE b@9 DELETE c@9; b was @3 c was @43 @10 PUT b@10;",
		4: "4 @9 PUT x@9 DELETE e@9 PUT e@9;",
		5: "5 @9 PUT x@9 PUT e@9;5 @10 PUT b@10;",
		6: "6 @9 DELETE b@9 DELETE c@9 DELETE d@9 DELETE e@9;",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	d := <-deliveries
	if d.Gap || d.Revision != 9 || len(d.Events) != 3 || string(d.Events[2].Kv.Key) != "d" || d.Events[2].Sweep != nil {
		t.Errorf("delivered %+v", d)
	}
	c.create(t, &pb.WatchCreateRequest{Key: []byte("d"), StartRevision: 9, WatchId: 10}) // memory does not have it
	expect(t, c, "10 @10 DELETE d@9")
}

// TestLargeSweep: a subscriber is not told of very many keys one by one, a client is.
func TestLargeSweep(t *testing.T) {
	s, f := newSwept(t)
	const keys = maxTold + 1
	ops := &pb.TxnRequest{}
	for i := range keys {
		ops.Success = append(ops.Success, putOp(fmt.Sprintf("k%05d", i)))
	}
	s.do(command(raftv1.KindTxn, ops))
	c := f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), WatchId: 1})
	c.create(t, &pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), PrevKv: true, WatchId: 2})
	deliveries := make(chan Delivery, 1)
	if _, _, err := f.hub.Subscribe([]byte("k"), []byte("l"), func(d Delivery) { deliveries <- d }); err != nil {
		t.Fatal(err)
	}
	s.do(command(raftv1.KindDeleteRange, deletion("k", "l")))
	if d := <-deliveries; !d.Gap || d.Revision != 3 || d.Events != nil {
		t.Errorf("delivered %+v", d)
	}
	for range 2 {
		r := c.next(t)
		if len(r.Events) != keys || r.Header.Revision != 3 {
			t.Fatalf("watcher %d: %d events at revision %d", r.WatchId, len(r.Events), r.Header.Revision)
		}
		for i, e := range r.Events {
			if want := fmt.Sprintf("k%05d", i); string(e.Kv.Key) != want || e.Kv.ModRevision != 3 ||
				(e.PrevKv.GetModRevision() == 2) != (r.WatchId == 2) {
				t.Fatalf("watcher %d, event %d: %v", r.WatchId, i, e)
			}
		}
	}
}

// TestSweepThenCompaction: who is told of all is told of a sweep, too, whose history is compacted before the hub comes
// to it. What the keys were is gone then.
func TestSweepThenCompaction(t *testing.T) {
	for _, keys := range []int{3, maxLooked + 1} {
		for _, compacted := range []int64{3, 4} {
			s, f := newSwept(t)
			ops := &pb.TxnRequest{}
			for i := range keys {
				ops.Success = append(ops.Success, putOp(fmt.Sprintf("k%05d", i)))
			}
			s.do(command(raftv1.KindTxn, ops))
			c := f.dial(t)
			c.create(t, &pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), PrevKv: true, WatchId: 1})
			s.do(command(raftv1.KindDeleteRange, deletion("k", "l")),
				command(raftv1.KindPut, &pb.PutRequest{Key: []byte("ka")}),
				command(raftv1.KindCompact, &pb.CompactionRequest{Revision: compacted}))
			r := c.next(t)
			if r.Canceled || len(r.Events) != keys || r.Header.Revision != 3 || r.Events[0].PrevKv != nil {
				t.Fatalf("of %d keys, compacted at %d: canceled %v (%d), %d events at revision %d", keys, compacted,
					r.Canceled, r.CompactRevision, len(r.Events), r.Header.Revision)
			}
			expect(t, c, "1 @4 PUT ka@4")
		}
	}
}
