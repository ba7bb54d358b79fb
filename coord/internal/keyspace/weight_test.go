package keyspace

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/propose"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
)

// silentLog takes entries and loses them.
type silentLog struct{}

func (silentLog) Propose([]byte) error { return nil }

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func call(t *testing.T, procedure string, request proto.Message) *raftv1.Call {
	return &raftv1.Call{Procedure: procedure, Request: encode(t, request)}
}

// TestWeights: a command weighs what its ranges look at, in whatever branch of whatever level, and nothing else does.
func TestWeights(t *testing.T) {
	r := New(Options{
		Log: silentLog{}, Dir: "db", FS: vfs.NewMem(), Member: 1, Boot: 1, Now: func() time.Duration { return 0 },
		Logger: zap.NewNop(),
	})
	if _, err := r.Machine.Open(nil); err != nil {
		t.Fatal(err)
	}
	defer r.Machine.Close()
	defer r.Close()
	commands := []raftv1.Command{{Kind: raftv1.KindLeaseGrant, Body: encode(t, &raftv1.LeaseGrant{Id: 7, TtlMs: 1000})}}
	for i := range maxWeighed + 100 {
		put := &pb.PutRequest{Key: fmt.Appendf(nil, "k%05d", i)}
		if i < 100 {
			put.Lease = 7
		}
		commands = append(commands, raftv1.Command{Kind: raftv1.KindPut, Body: encode(t, put)})
	}
	requests := &raftv1.Requests{Session: 8, Created: 1, Epoch: 1}
	for i := range 50 { // but for the leader's record, which is one key more
		campaign := encode(t, &coordv1.Campaign{Name: "e", OwnerId: fmt.Sprint(i), Priority: 1})
		requests.Requests = append(requests.Requests, encode(t, &coordv1.Request{
			Sequence: uint64(i + 1), Kind: coordv1.Kind_KIND_CAMPAIGN, Body: campaign,
		}))
	}
	commands = append(commands, raftv1.Command{
		Kind: raftv1.KindSessionOpen, Body: encode(t, &raftv1.SessionOpen{Id: 8, TtlMs: 1000, Stream: 1}),
	},
		raftv1.Command{Kind: raftv1.KindRequests, Body: encode(t, requests)})
	entry := raftv1.AppendEntry(nil, &raftv1.Entry{Member: 1, Boot: 1, Number: 1, Commands: commands})
	if _, err := r.Machine.Update([]sm.Entry{{Index: 1, Cmd: entry}}); err != nil {
		t.Fatal(err)
	}
	key, end := []byte("k00010"), []byte("k00030") // 20 keys
	compare := &pb.Compare{Key: key, RangeEnd: end, TargetUnion: &pb.Compare_Version{Version: 1}}
	read := &pb.RequestOp{
		Request: &pb.RequestOp_RequestRange{
			RequestRange: &pb.RangeRequest{Key: key, RangeEnd: end, Revision: 7, Limit: 1},
		},
	}
	del := &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: true}
	deletion := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}}
	put := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: end}}}
	tree := func(r *pb.TxnRequest) *pb.TxnRequest {
		return &pb.TxnRequest{Failure: []*pb.RequestOp{put, {Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}}}
	}
	for _, c := range []struct {
		what    string
		kind    raftv1.Kind
		session coordv1.Kind // likewise, of a session; 0: none
		body    proto.Message
		want    int64
	}{
		{"put", raftv1.KindPut, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: key, Value: []byte("\x1a\x01k")}, 0},
		{"delete of a key", raftv1.KindDeleteRange, coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: key},
			0},
		{"delete of a range", raftv1.KindDeleteRange, coordv1.Kind_KIND_DELETE_RANGE, del, 20 * perDeleted},
		{"delete of all", raftv1.KindDeleteRange, coordv1.Kind_KIND_DELETE_RANGE,
			&pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, propose.LaneWeight},
		{"txn of keys", raftv1.KindTxn, coordv1.Kind_KIND_TXN, &pb.TxnRequest{
			Compare: []*pb.Compare{{Key: key}}, Success: []*pb.RequestOp{put},
		}, 0},
		{"txn with a compare", raftv1.KindTxn, coordv1.Kind_KIND_TXN, &pb.TxnRequest{Compare: []*pb.Compare{compare}},
			20},
		{"txn with a range", raftv1.KindTxn, coordv1.Kind_KIND_TXN, &pb.TxnRequest{Success: []*pb.RequestOp{read, put}},
			20},
		{"nested", raftv1.KindTxn, coordv1.Kind_KIND_TXN, tree(tree(&pb.TxnRequest{
			Compare: []*pb.Compare{compare}, Success: []*pb.RequestOp{read, deletion},
		})), 20 * (2 + perDeleted)},
		{"revoke of no lease", raftv1.KindLeaseRevoke, coordv1.Kind_KIND_LEASE_REVOKE, &pb.LeaseRevokeRequest{ID: 6},
			0},
		{"revoke", raftv1.KindLeaseRevoke, coordv1.Kind_KIND_LEASE_REVOKE, &pb.LeaseRevokeRequest{ID: 7},
			100 * perDeleted},
		{"end of a session", raftv1.KindSessionEnd, 0, &raftv1.SessionEnd{Id: 7}, 100 * perDeleted},
		{"a lock", raftv1.KindStateHash, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"a", "b"}}, 0},
		{"many locks", raftv1.KindStateHash, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: make([]string, 64)},
			64 * perName},
		{"resize", raftv1.KindStateHash, coordv1.Kind_KIND_SEMAPHORE_RESIZE, &coordv1.SemaphoreResize{}, perResize},
		{"release of a lock", raftv1.KindStateHash, coordv1.Kind_KIND_RELEASE, &coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "e", Key: "e/1"}},
		}, 0},
		{"resignation of an election with priorities", raftv1.KindStateHash, coordv1.Kind_KIND_RELEASE,
			&coordv1.Release{Entries: []*coordv1.Guard{{Name: "e", Key: "_coord/elections/e/1"}}}, 51},
		{"campaign", raftv1.KindStateHash, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "e"}, 0},
		{"campaign by priority", raftv1.KindStateHash, coordv1.Kind_KIND_CAMPAIGN,
			&coordv1.Campaign{Name: "e", Priority: 1}, 51},
		{"withdrawal of a candidate", raftv1.KindStateHash, coordv1.Kind_KIND_WITHDRAW, &coordv1.Withdraw{Sequence: 1},
			51},
		{"end of a session of candidates", raftv1.KindSessionEnd, 0, &raftv1.SessionEnd{Id: 8}, 50*51 + 50*perDeleted},
		{"call of a resignation", raftv1.KindCall, 0, call(t, recipes.Release, &coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "e", Key: "_coord/elections/e/8.1"}},
		}), 51},
		{"call of a release", raftv1.KindCall, 0, call(t, recipes.Release, &coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "e", Key: "e/8"}},
		}), 0},
		{"call of a forced release", raftv1.KindCall, 0, call(t, recipes.ForceRelease, &coordv1.ForceReleaseRequest{
			Name: "e", Kind: coordv1.QueueKind_QUEUE_PRIORITY_ELECTION,
		}), 51},
		{"call of a resize", raftv1.KindCall, 0, call(t, recipes.Resize, &coordv1.SemaphoreResize{}), perResize},
		{"call of a transfer", raftv1.KindCall, 0, call(t, recipes.Transfer, &coordv1.Transfer{}), perTransfer},
		{"transfer", raftv1.KindStateHash, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{}, perTransfer},
	} {
		body := encode(t, c.body)
		if got := r.weightOf(c.kind, body); got != c.want && c.kind != raftv1.KindStateHash {
			t.Errorf("%s weighs %d, not %d", c.what, got, c.want)
		}
		if got := r.Weigh(c.session, body, []string{"other/8", "_coord/elections/e/8.1"}); c.session != 0 &&
			got != c.want {
			t.Errorf("%s of a session weighs %d, not %d", c.what, got, c.want)
		}
	}
	for _, broken := range [][]byte{{0xff}, {1<<3 | 2, 9}, {1<<3 | 2, 2, 0x1a, 9}, {1<<3 | 5}} {
		_ = r.weightOf(raftv1.KindTxn, broken) // what does not parse is refused by the state machine
	}
}
