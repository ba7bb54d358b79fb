package recipes_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/recipestest"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// machine drives a real state machine, one command an entry.
type testMachine struct {
	*testing.T
	*machine.Machine
	index, ticks uint64
	sessions     map[int64]statemachine.SessionOpened
	last         *statemachine.Applied
	fs           *vfs.MemFS
	log          []sm.Entry // all that was applied
	refused      []statemachine.Refused
}

func (m *testMachine) Applied(a *statemachine.Applied) { m.last = a }

func (m *testMachine) Recovered(a *statemachine.Applied, _ func(uint64) bool) { m.last = a }

func newMachine(t *testing.T) *testMachine {
	m := &testMachine{T: t, sessions: map[int64]statemachine.SessionOpened{}}
	m.start(vfs.NewCrashableMem())
	return m
}

// start opens the machine on a file system, and applies what is missing there of the log.
func (m *testMachine) start(fs *vfs.MemFS) {
	m.fs = fs
	program := recipes.Program()
	program.Procedures = append(program.Procedures, byHand{}, byHand{frees: true})
	m.Machine = machine.New(machine.Options{
		Dir: "db", FS: fs, Shard: 1, Member: 1, Boot: 1, Observer: m, Refused: m.refused, Program: program,
	})
	index, err := m.Open(nil)
	must(m.T, err)
	if missing := m.log[index:]; len(missing) > 0 {
		_, err = m.Update(missing)
		must(m.T, err)
	}
}

// byHand is a procedure that writes any key, for what clients cannot: its request is a transaction of puts and
// deletions. frees says that it only deletes.
type byHand struct{ frees bool }

func (p byHand) Name() string { return fmt.Sprintf("test.by-hand.frees-%t.v1", p.frees) }

func (byHand) Kind() coordv1.Kind { return 0 }

func (byHand) Request() proto.Message { return &pb.TxnRequest{} }

func (p byHand) Frees() bool { return p.frees }

func (byHand) Run(step statemachine.Step, request []byte) ([]byte, error) {
	txn := &pb.TxnRequest{}
	err := proto.Unmarshal(request, txn)
	for _, op := range txn.Success {
		if put := op.GetRequestPut(); put != nil && err == nil {
			_, err = step.Put(put.Key, put.Value, put.Lease)
		} else if err == nil {
			_, err = step.Delete(op.GetRequestDeleteRange().GetKey())
		}
	}
	return nil, err
}

// byHand writes keys, whatever they are.
func (m *testMachine) byHand(p byHand, ops ...*pb.RequestOp) statemachine.Result {
	request, err := proto.Marshal(&pb.TxnRequest{Success: ops})
	must(m.T, err)
	return m.do(raftv1.KindCall, &raftv1.Call{Procedure: p.Name(), Request: request})
}

// put and delete write one key by hand.
func (m *testMachine) put(r *pb.PutRequest) {
	m.byHand(byHand{}, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}})
}

func (m *testMachine) delete(key string) statemachine.Result {
	return m.byHand(byHand{frees: true}, deletion(key))
}

func deletion(key string) *pb.RequestOp {
	return &pb.RequestOp{
		Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}},
	}
}

// crash loses what was not synced.
func (m *testMachine) crash() {
	survivor := m.fs.CrashClone(vfs.CrashCloneCfg{})
	must(m.T, m.Close())
	m.start(survivor)
}

// restore goes on with a machine that received a snapshot and has none of the log.
func (m *testMachine) restore() {
	prepared, err := m.PrepareSnapshot()
	must(m.T, err)
	var stream bytes.Buffer
	must(m.T, m.SaveSnapshot(prepared, &stream, nil))
	must(m.T, m.Close())
	log := m.log
	m.log = nil
	m.start(vfs.NewCrashableMem())
	must(m.T, m.RecoverFromSnapshot(&stream, nil))
	m.log = log
}

func (m *testMachine) do(kind raftv1.Kind, msg proto.Message) statemachine.Result {
	m.Helper()
	body, err := proto.Marshal(msg)
	must(m.T, err)
	m.index++
	e := &raftv1.Entry{
		Member: 1, Boot: 1, Number: m.index, Settled: m.index - 1, Commands: []raftv1.Command{{Kind: kind, Body: body}},
	}
	m.log = append(m.log, sm.Entry{Index: m.index, Cmd: raftv1.AppendEntry(nil, e)})
	_, err = m.Update(m.log[m.index-1:])
	must(m.T, err)
	return m.last.Entries[0].Results[0]
}

const sessionTTL = 1000 // milliseconds

func (m *testMachine) open(id int64) {
	m.sessions[id] = m.do(raftv1.KindSessionOpen,
		&raftv1.SessionOpen{Id: id, TtlMs: sessionTTL, Stream: 1}).Response.(statemachine.SessionOpened)
	m.tick(0)
}

func (m *testMachine) tick(ms int64) {
	m.ticks++
	m.do(raftv1.KindTick, &raftv1.Tick{Number: m.ticks, DeltaMs: ms, Seen: m.index})
}

// expire lets time pass for one session.
func (m *testMachine) expire(id int64) {
	for range 2 {
		others := slices.DeleteFunc(slices.Sorted(maps.Keys(m.sessions)), func(o int64) bool { return o == id })
		m.do(raftv1.KindLeaseRenew, &raftv1.LeaseRenew{Ids: others})
		m.tick(sessionTTL * 6 / 10)
	}
	delete(m.sessions, id)
}

func (m *testMachine) request(
	session int64, sequence uint64, kind coordv1.Kind, body []byte, unixMS int64,
) ([]byte, string) {
	req, err := proto.Marshal(&coordv1.Request{Sequence: sequence, Kind: kind, Body: body})
	must(m.T, err)
	s := m.sessions[session]
	result := m.do(raftv1.KindRequests, &raftv1.Requests{
		Session: session, Created: s.Created, Epoch: s.Epoch, Acknowledged: sequence - 1, Requests: [][]byte{req},
		UnixMs: unixMS,
	})
	must(m.T, result.Err)
	outcome := &coordv1.Outcome{}
	must(m.T, proto.Unmarshal(result.Response.(statemachine.RequestsDone).Outcomes[0], outcome))
	return outcome.Response, outcome.Refusal.GetMessage()
}

func (m *testMachine) keys() []*mvccpb.KeyValue {
	view, err := m.View()
	must(m.T, err)
	defer view.Close()
	resp, err := view.Range(context.Background(), &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	must(m.T, err)
	return resp.Kvs
}

// TestMachineAndMemstoreAgree: what the tests of recipes rest on does what the state machine does: same outcomes, keys
// and revisions, through expiries with and without lingering places, reactions and plain deletes.
func TestMachineAndMemstoreAgree(t *testing.T) {
	for seed := range seeds(30) {
		rng := rand.New(rand.NewPCG(seed, 4))
		m, s := newMachine(t), newStage(t)
		s.UnixMS = 12345
		lingering := map[string]int64{} // lease of a lingering place in the machine, by its key
		for range 120 {
			id := 1 + rng.Int64N(5)
			if _, ok := m.sessions[id]; !ok {
				m.open(id)
				s.Leases[id], s.Sessions[id] = true, true
			}
			switch rng.IntN(12) {
			case 0:
				m.do(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: id})
				delete(m.sessions, id)
				s.Revoke(id)
			case 1:
				m.expire(id)
				s.Expire(id)
			case 2:
				for key, lease := range lingering {
					r := m.do(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: lease})
					if !errors.Is(r.Err, statemachine.ErrLeaseNotFound) {
						t.Fatalf("seed %d: the place %q was revoked: %v", seed, key, r.Err)
					}
					m.delete(key)
					s.Delete(key)
					break
				}
			case 3:
				keys := m.keys()
				if len(keys) > 0 {
					key := keys[rng.IntN(len(keys))].Key
					m.delete(string(key))
					s.Delete(string(key))
				}
			default:
				kind, req := randomRequest(rng, m.keys(), s)
				body, err := proto.Marshal(req)
				must(t, err)
				s.sequence++
				want, wantErr := s.RequestBytes(id, s.sequence, kind, body)
				got, text := m.request(id, s.sequence, kind, body, s.UnixMS)
				if wantErr != nil && statemachine.RefusalOf(wantErr).Message != text || wantErr == nil && (text != "" ||
					!bytes.Equal(got, want)) {
					t.Fatalf("seed %d: %v %v: %q, %q; in memory %q, %v", seed, kind, req, got, text, want, wantErr)
				}
			}
			clear(lingering)
			compareStores(t, seed, m, s.Store, lingering)
		}
		must(t, m.Close())
	}
}

func compareStores(t *testing.T, seed uint64, m *testMachine, s *recipestest.Store, lingering map[string]int64) {
	t.Helper()
	keys := m.keys()
	if m.last.Revision != s.Rev || len(keys) != s.Len() {
		t.Fatalf("seed %d: revision %d with %d keys, in memory %d with %d", seed, m.last.Revision, len(keys), s.Rev,
			s.Len())
	}
	for _, kv := range keys {
		other := s.Get([]byte(string(kv.Key)))
		if statemachine.Lingers(kv.Lease) && statemachine.Lingers(other.GetLease()) {
			lingering[string(kv.Key)] = kv.Lease
			kv.Lease = other.Lease
		}
		if fmt.Sprint(kv) != fmt.Sprint(other) {
			t.Fatalf("seed %d: %v, in memory %v", seed, kv, other)
		}
	}
}

// randomRequest makes a request about what is there, mostly.
func randomRequest(rng *rand.Rand, keys []*mvccpb.KeyValue, s *stage) (coordv1.Kind, proto.Message) {
	name := []string{"a", "b", "a/b"}[rng.IntN(3)]
	priority := rng.Int64N(3)
	entries := recipes.Queue(s, layout.ElectionQueue(name, priority))
	some := &coordv1.Guard{Name: name, Key: name + "/1", Token: 1 + rng.Int64N(s.Rev)}
	if len(entries) > 0 {
		e := entries[rng.IntN(len(entries))]
		some.Key, some.Token = e.Key, e.Token
	}
	if holder, ok := recipes.Read(s, layout.ElectionQueue(name, priority)).Holder(); ok && rng.IntN(2) == 0 {
		some.Key, some.Token = holder.Key, holder.Token
	}
	switch rng.IntN(14) {
	case 9:
		return coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{
			Name: "b", Write: rng.IntN(2) == 0, LingerMs: 3_000_000 * rng.Int64N(2),
		}
	case 10:
		writer := &coordv1.Guard{
			Name: "b", Key: layout.EntryKey(layout.QueueOf(coordv1.QueueKind_QUEUE_RWLOCK, "b"), 1+rng.Int64N(5), ""),
		}
		writer.Token = s.Get([]byte(writer.Key)).GetCreateRevision()
		return coordv1.Kind_KIND_RW_DOWNGRADE, &coordv1.RWDowngrade{Entry: writer}
	case 11:
		return coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, &coordv1.SemaphoreAcquire{
			Name: "b", Permits: 1 + rng.Int64N(3), Limit: 3, Try: rng.IntN(4) == 0, LingerMs: 3_000_000 * rng.Int64N(2),
		}
	case 12:
		return coordv1.Kind_KIND_SEMAPHORE_RESIZE, &coordv1.SemaphoreResize{
			Name: "b", Limit: 1 + rng.Int64N(5), Drain: rng.IntN(2) == 0,
		}
	case 13:
		return coordv1.Kind_KIND_BARRIER_ENTER, &coordv1.BarrierEnter{Name: "b", Parties: 2}
	case 0, 1:
		names := [][]string{{"c"}, {"d"}, {"c", "d"}}[rng.IntN(3)]
		return coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{
			Names: names, Owner: "me", Try: rng.IntN(4) == 0, LingerMs: 3_000_000 * rng.Int64N(2),
		}
	case 2, 3, 4:
		return coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{
			Name: name, Priority: priority, Value: []byte("v"), LingerMs: 3_000_000 * rng.Int64N(2),
		}
	case 5:
		return coordv1.Kind_KIND_RELEASE, &coordv1.Release{Entries: []*coordv1.Guard{some}}
	case 6:
		return coordv1.Kind_KIND_PROCLAIM, &coordv1.Proclaim{Entry: some, Value: []byte("w")}
	case 7:
		return coordv1.Kind_KIND_ASK_RELEASE, &coordv1.AskRelease{Name: name, Priority: priority, From: "f"}
	}
	return coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: name, Priority: priority, To: some.Key}
}
