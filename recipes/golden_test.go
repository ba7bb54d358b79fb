package recipes_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/golden"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/model"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// The golden files are a log with something of everything, the rows that it makes, and a snapshot of them. Replicas of
// two releases apply the same log, and one opens what the other wrote: whatever these tests refuse would split them. A
// release that must write, or decide, something else does so from a version of the cluster on, and gets files of its
// own; these stay.

// newGolden is a machine whose operator has refused a command.
func newGolden(t *testing.T) *testMachine {
	m := &testMachine{
		T: t, sessions: map[int64]statemachine.SessionOpened{},
		refused: []statemachine.Refused{{Index: 1000, Command: 2, Request: 3}},
	}
	m.start(vfs.NewCrashableMem())
	return m
}

// writeGoldenLog applies something of everything.
func (m *testMachine) writeGoldenLog() {
	m.do(raftv1.KindMemberPut, &raftv1.MemberPut{Add: true, Member: &raftv1.Member{
		Id: 9, Name: "m9", PeerUrls: []string{"http://127.0.0.1:2380"}, ClientUrls: []string{"http://127.0.0.1:2379",
			"http://[::1]:2379"},
	}})
	m.do(raftv1.KindMemberPut, &raftv1.MemberPut{Member: &raftv1.Member{Id: 10, Name: "gone"}})
	m.do(raftv1.KindMemberRemove, &raftv1.MemberRemove{Id: 10})
	m.writeGoldenKeys()
	m.writeGoldenSessions()
	m.writeGoldenObjects()
	m.do(raftv1.KindStateHash, &raftv1.StateHash{})
	m.noSpace(pb.AlarmRequest_ACTIVATE)
	m.do(raftv1.KindLeaseRenew, &raftv1.LeaseRenew{Ids: []int64{-5, 404}}) // pending: no tick comes behind it
	m.do(raftv1.KindStreamRenew, &raftv1.StreamRenew{Streams: []uint64{1}})
}

func (m *testMachine) writeGoldenKeys() {
	m.do(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: -5, TtlMs: 5_000_000})
	m.do(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 6, TtlMs: 2000})
	m.do(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 7, TtlMs: 1000})
	for i, key := range []string{"a", "a/b", "a/b/c", "a\x00b/\xff", "with lease", "expires/1", "expires/2",
		"revoked"} {
		m.do(raftv1.KindPut, &pb.PutRequest{
			Key: []byte(key), Value: bytes.Repeat([]byte(key), i), Lease: map[string]int64{
				"with lease": -5, "expires/1": 6, "expires/2": 6, "revoked": 7,
			}[key],
		})
	}
	m.do(raftv1.KindCompact, &pb.CompactionRequest{Revision: 3})
	<-m.CompactionDone(3)
	m.do(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), Value: []byte("again")})
	m.do(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("a/b"), RangeEnd: []byte("a/b0"), PrevKv: true})
	m.do(raftv1.KindTxn, &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: []byte("a"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("again")},
		}},
		Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: []byte("t"), Value: []byte("1")},
			}}, deletion("a"),
			{Request: &pb.RequestOp_RequestRange{
				RequestRange: &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b")},
			}},
		},
	})
	m.do(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 7})
	m.tick(0)
	m.tick(2500)
}

// writeGoldenSessions has holders, waiters and places that linger in queues of all kinds, one of them broken.
func (m *testMachine) writeGoldenSessions() {
	for id := int64(1); id <= 4; id++ {
		m.open(id)
	}
	m.do(raftv1.KindSessionAttach, &raftv1.SessionAttach{
		Stream: 2, Items: []*raftv1.SessionAttach_Item{{Id: 2, Created: m.sessions[2].Created, Epoch: 5}},
	})
	second := m.sessions[2]
	second.Epoch = 5
	m.sessions[2] = second
	m.do(raftv1.KindPut, &pb.PutRequest{Key: []byte("lock/foreign")})
	sequence := map[int64]uint64{}
	ask := func(session int64, kind coordv1.Kind, msg proto.Message) {
		sequence[session]++
		m.request(session, sequence[session], kind, encoded(m.T, msg), 1234567)
	}
	for id := int64(1); id <= 3; id++ {
		ask(id, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{
			Names: []string{"lock", "other"}, Owner: "o", Labels: map[string]string{"z": "1", "a": "2"}, OwnerId: "id",
		})
		ask(id, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "election", Value: []byte("v"), LingerMs: 5000})
		ask(id, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "election", Value: []byte("v"), Priority: id})
		ask(id, coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "rw", Write: id == 3, Owner: "o"})
		ask(id, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, &coordv1.SemaphoreAcquire{
			Name: "permits", Permits: id, Limit: 3, Owner: "o",
		})
		ask(id, coordv1.Kind_KIND_BARRIER_ENTER, &coordv1.BarrierEnter{Name: "barrier", Parties: 4})
	}
	ask(3, coordv1.Kind_KIND_ASK_RELEASE, &coordv1.AskRelease{Name: "election", From: "f", Reason: "r"})
	ask(3, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "other", To: layout.EntryKey("other", 3, "id")})
	ask(3, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "election", To: layout.EntryKey("election", 3, "")})
	ask(2, coordv1.Kind_KIND_SEMAPHORE_RESIZE, &coordv1.SemaphoreResize{Name: "permits", Limit: 5, Drain: true})
	ask(1, coordv1.Kind_KIND_RELEASE, &coordv1.Release{
		Entries: []*coordv1.Guard{{Name: "lock", Key: layout.EntryKey("lock", 1, "id"), Token: 1}},
	})
	ask(2, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("by session"), Value: []byte("v"), PrevKv: true})
	queue := "_coord/elections/\xff" // whose leader cannot be written
	for id := int64(2); id <= 4; id++ {
		m.put(&pb.PutRequest{
			Key: []byte(layout.EntryKey(queue, id, "")), Value: encoded(m.T, &recipesv1.Candidate{Priority: id}),
			Lease: id,
		})
	}
	m.expire(1)
	m.do(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: 4, Created: m.sessions[4].Created})
}

// writeGoldenObjects has what is no queue.
func (m *testMachine) writeGoldenObjects() {
	call := func(procedure string, msg proto.Message) {
		m.do(raftv1.KindCall, &raftv1.Call{Procedure: procedure, Request: encoded(m.T, msg), UnixMs: 1234567})
	}
	call(recipes.CounterAdd, &coordv1.CounterAdd{Name: "n", Delta: 7})
	call(recipes.SequenceNext, &coordv1.SequenceNext{Name: "n", Count: 10})
	call(recipes.LatchSet, &coordv1.LatchSet{Name: "n", Count: 3})
	call(recipes.LatchCountDown, &coordv1.LatchCountDown{Name: "n", Count: 1})
	call(recipes.GateClose, &coordv1.GateClose{Name: "n"})
}

// results are what the commands of a log came to, a line for each.
func results(log []sm.Entry, m *testMachine) (lines []string) {
	for _, e := range log {
		_, err := m.Update([]sm.Entry{e})
		must(m.T, err)
		r := m.last.Entries[0].Results[0]
		switch got := r.Response.(type) {
		case nil:
			lines = append(lines, fmt.Sprintf("%d: refused: %v", e.Index, r.Err))
		case statemachine.RequestsDone:
			lines = append(lines, fmt.Sprintf("%d: at %d: %x", e.Index, got.Revision, got.Outcomes))
		case proto.Message:
			data, err := proto.MarshalOptions{Deterministic: true}.Marshal(got)
			must(m.T, err)
			lines = append(lines, fmt.Sprintf("%d: %x", e.Index, data))
		case statemachine.Hashed:
			lines = append(lines, fmt.Sprintf("%d: hashed at %d", e.Index, got.Revision))
		case statemachine.MemberChanged:
			lines = append(lines, fmt.Sprintf("%d: %d members", e.Index, len(got.Members)))
		default:
			lines = append(lines, fmt.Sprintf("%d: %+v", e.Index, got))
		}
		<-m.CompactionDone(m.last.Compacted)
	}
	return lines
}

// snapshot is a snapshot of the state, its rows, a line for each, and how many there are of each space.
func (m *testMachine) snapshot() (stream []byte, rows []string, spaces map[byte]int) {
	var out bytes.Buffer
	must(m.T, m.WriteBackup(context.Background(), &out))
	spaces = map[byte]int{}
	for key, value := range model.RowsOf(out.Bytes()) {
		spaces[key[0]]++
		rows = append(rows, fmt.Sprintf("%x = %x", key, value))
	}
	return out.Bytes(), rows, spaces
}

func readGoldenLog(t *testing.T) (log []sm.Entry) {
	for i, line := range strings.Fields(string(golden.Get(t, "log"))) {
		cmd, err := hex.DecodeString(line)
		must(t, err)
		log = append(log, sm.Entry{Index: uint64(i) + 1, Cmd: cmd})
	}
	return log
}

// TestGoldenLog: the log is written as it was, every command of it comes to what it came to, and leaves the rows that
// it left.
func TestGoldenLog(t *testing.T) {
	m := newGolden(t)
	m.writeGoldenLog()
	var log strings.Builder
	for _, e := range m.log {
		fmt.Fprintf(&log, "%x\n", e.Cmd)
	}
	must(t, m.Close())
	golden.Assert(t, log.String(), "log")

	m = newGolden(t)
	golden.Assert(t, strings.Join(results(readGoldenLog(t), m), "\n")+"\n", "results")
	stream, rows, spaces := m.snapshot()
	must(t, m.Close())
	golden.Assert(t, strings.Join(rows, "\n")+"\n", "rows")
	golden.Assert(t, hex.EncodeToString(stream)+"\n", "snapshot")
	for space := mvcc.SpaceLive; space <= mvcc.SpaceChildren; space++ {
		known := space != 0x07 && (space <= mvcc.SpaceRefused || space == mvcc.SpaceChildren)
		if known != (spaces[space] > 0) {
			t.Errorf("space %x has %d rows", space, spaces[space])
		}
	}

	m = newGolden(t)
	written, err := hex.DecodeString(strings.TrimSpace(string(golden.Get(t, "snapshot"))))
	must(t, err)
	must(t, m.RecoverFromSnapshot(bytes.NewReader(written), nil))
	if again, _, _ := m.snapshot(); !bytes.Equal(again, written) {
		t.Error("a replica that takes the snapshot has other rows than it")
	}
	must(t, m.Close())
}
