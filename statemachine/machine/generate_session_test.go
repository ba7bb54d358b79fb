package machine_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
	"github.com/coord-dev/coord/statemachine/model"
)

// randomOptions are those of a machine that applies random logs.
func randomOptions() machine.Options {
	return machine.Options{Shard: 1, Boot: 1, Program: randomProgram(), Refused: someRefused()}
}

// randomModel is the model that does what a machine with randomOptions does.
func randomModel() *model.Model { return model.New(randomProgram(), someRefused()...) }

// randomProgram has a budget that is small enough for random transactions to exceed it.
func randomProgram() statemachine.Program {
	return statemachine.Program{
		Procedures: []statemachine.Procedure{scripted{}, acquiring{}}, Guard: atToken, Reactor: reacting{},
		Budget: statemachine.Budget{Ops: 30, Reads: 2, Work: 5},
		Room:   statemachine.Room{OutcomeBytes: 4000, SessionBytes: 4 * statemachine.SessionOverhead},
	}
}

// someRefused are commands, requests and leases of ticks of which there are some in every log.
func someRefused() (list []statemachine.Refused) {
	for index := uint64(3); index < 1000; index += 17 {
		list = append(list, statemachine.Refused{Index: index, Command: 1},
			statemachine.Refused{Index: index + 5, Command: 2, Request: 1},
			statemachine.Refused{Index: index + 9, Command: 1, Request: 2},
			statemachine.Refused{Index: index + 11, Command: 1, Request: 1},
			statemachine.Refused{Index: index + 12, Command: 2, Request: 1})
	}
	return list
}

// atToken holds if the key's create revision is the token.
func atToken(s statemachine.Step, g *coordv1.Guard) bool {
	kv := s.Get([]byte(g.Key))
	return kv != nil && kv.CreateRevision == g.Token
}

// acquiring is a procedure that makes an entry for each name, and answers as an acquire does.
type acquiring struct{}

func (acquiring) Name() string { return "test.acquire.v1" }

func (acquiring) Kind() coordv1.Kind { return coordv1.Kind_KIND_CAMPAIGN }

func (acquiring) Request() proto.Message { return &coordv1.Acquire{} }

func (acquiring) Frees() bool { return false }

func (acquiring) Run(s statemachine.Step, request []byte) ([]byte, error) {
	r := &coordv1.Acquire{}
	if err := proto.Unmarshal(request, r); err != nil {
		return nil, statemachine.ErrInvalid
	}
	if len(r.Names) == 0 {
		return nil, statemachine.NewRefusal(coordv1.Error_REASON_NOT_HOLDER, "no names")
	}
	resp := &coordv1.Acquired{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.Names))) {
		rev, err := s.PutEntry([]byte(name), []byte("entry"), s.Session(),
			statemachine.Attachment{Kind: 7, LingerMS: r.LingerMs})
		if err != nil {
			return nil, err
		}
		resp.Entries = append(resp.Entries, &coordv1.AcquiredEntry{Key: name, Token: rev})
	}
	return encode(resp), nil
}

// reacting answers to deletions with puts, deletions and a further revision. Where a key says so, it fails at the end.
type reacting struct{}

func (reacting) Prefix() []byte { return []byte("a\x00") }

func (reacting) QueueOf(key []byte) string { return string(key) }

func (r reacting) Deleted(s statemachine.Step, queue string, were []*mvccpb.KeyValue) error {
	for _, kv := range were {
		r.deleted(s, kv.Key)
	}
	if kv := s.Get([]byte("aa")); kv != nil && kv.ModRevision%3 == 0 {
		return fmt.Errorf("%d does not please", kv.ModRevision)
	}
	return nil
}

func (reacting) deleted(s statemachine.Step, key []byte) {
	if string(key) == "a\x00" {
		s.Put([]byte("a\x00\x01"), key, 0)
		return
	}
	if had, err := s.Delete([]byte("a\x00")); !had && err == nil {
		s.NextRevision()
		s.Put([]byte("a\x00"), fmt.Append(nil, s.Revision()), 0)
	}
}

var modelSessions = []int64{11, 12, 13, 3} // 3 is a lease of others, too

// session draws one that exists, or one that does not.
func (g *generator) session() statemachine.SessionInfo {
	if all := g.now.Sessions(); len(all) > 0 && g.chance(90) {
		return pick(g, all)
	}
	s := statemachine.SessionInfo{Created: g.Uint64N(50), Epoch: 1}
	s.ID = pick(g, modelSessions)
	return s
}

func (g *generator) sessionCommand() raftv1.Command {
	s := g.session()
	if g.chance(5) {
		s.Created++
	}
	switch n := g.IntN(100); {
	case n < 20:
		return command(raftv1.KindSessionOpen, &raftv1.SessionOpen{
			Id: pick(g, modelSessions), TtlMs: extreme(g, int64(g.IntN(40))), Stream: extreme(g, g.Uint64N(4)),
			Identity: g.value(),
		})
	case n < 30:
		return command(raftv1.KindSessionAttach, &raftv1.SessionAttach{Stream: g.Uint64N(4),
			Items: []*raftv1.SessionAttach_Item{
				{Id: s.ID, Created: s.Created, Epoch: extreme(g, s.Epoch+g.Uint64N(3))}, {
					Id: pick(g, modelSessions), Created: s.Created, Epoch: 9,
				},
			}})
	case n < 33:
		return command(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: s.ID, Created: s.Created})
	case n < 50:
		return command(raftv1.KindStreamRenew, &raftv1.StreamRenew{Streams: []uint64{g.Uint64N(4), 1 + g.Uint64N(3)}})
	case n < 51:
		return raftv1.Command{Kind: raftv1.KindRequests, Body: []byte("\xff")}
	}
	r := &raftv1.Requests{Session: s.ID, Created: s.Created, Epoch: s.Epoch, UnixMs: int64(g.IntN(1000))}
	if g.chance(5) {
		r.Epoch += g.Uint64N(3) - 1
	}
	acknowledged := g.now.Acknowledged(s.ID)
	r.Acknowledged = acknowledged - min(acknowledged, g.Uint64N(2))
	if g.chance(40) {
		r.Acknowledged += g.Uint64N(6)
	}
	r.Acknowledged, r.Epoch, r.Created = extreme(g, r.Acknowledged), extreme(g, r.Epoch), extreme(g, r.Created)
	for range g.IntN(5) {
		r.Requests = append(r.Requests, g.request(acknowledged))
	}
	return command(raftv1.KindRequests, r)
}

// request draws one whose sequence number is near the watermark: some are sent again, some are left out.
func (g *generator) request(acknowledged uint64) []byte {
	sequence := acknowledged + g.Uint64N(10)
	if g.chance(2) {
		sequence += statemachine.MaxSequenceLead - 5
	}
	sequence = extreme(g, sequence)
	if g.chance(1) {
		return []byte("\xff")
	}
	r := request(sequence, 0, &coordv1.Withdraw{Sequence: acknowledged + g.Uint64N(10)})
	switch n := g.IntN(100); {
	case n < 20:
		r = request(sequence, coordv1.Kind_KIND_PUT, g.put())
	case n < 30:
		r = request(sequence, coordv1.Kind_KIND_DELETE_RANGE, g.deleteRange())
	case n < 40:
		r = request(sequence, coordv1.Kind_KIND_TXN, g.txn(0))
	case n < 46:
		r = request(sequence, coordv1.Kind_KIND_LEASE_GRANT,
			&pb.LeaseGrantRequest{ID: g.lease(), TTL: extreme(g, int64(g.IntN(3)))})
	case n < 49:
		r = request(sequence, coordv1.Kind_KIND_LEASE_REVOKE, &pb.LeaseRevokeRequest{ID: g.lease()})
	case n < 64:
		r.Kind = coordv1.Kind_KIND_WITHDRAW
	case n < 80:
		acquire := &coordv1.Acquire{LingerMs: int64(g.IntN(20))}
		for range g.IntN(3) {
			acquire.Names = append(acquire.Names, pick(g, []string{"a", "a\x00", "a\x00\x01", "aa", "b", "c"}))
		}
		r = request(sequence, coordv1.Kind_KIND_CAMPAIGN, acquire)
	case n < 95:
		r.Kind, r.Body = scriptKind, g.script()
	case n < 97:
		r.Kind, r.Body = coordv1.Kind_KIND_PUT, []byte("\xff")
	default:
		r.Kind = pick(g, []coordv1.Kind{0, -1, coordv1.Kind_KIND_RANGE, coordv1.Kind_KIND_SESSION_OPEN})
	}
	for range g.IntN(2) * g.IntN(2) {
		r.Guards = append(r.Guards, g.guard())
	}
	return encode(r)
}

// guard draws one that holds often.
func (g *generator) guard() *coordv1.Guard {
	key := pick(g, []string{"a", "a\x00", "aa", "b", "c"})
	resp, err := g.now.Range(&pb.RangeRequest{Key: []byte(key)})
	if err != nil || len(resp.Kvs) == 0 || g.chance(20) {
		return &coordv1.Guard{Key: key, Token: 1}
	}
	return &coordv1.Guard{Key: key, Token: resp.Kvs[0].CreateRevision}
}

// checkSessions compares what can be read of sessions with the model.
func (r *replica) checkSessions(state *model.Model) {
	want := state.Sessions()
	var got []statemachine.SessionInfo
	for after := int64(-1 << 63); ; {
		page := r.m.Sessions(after, 2)
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		after = page[len(page)-1].ID
	}
	for i := range got {
		if got[i].Pending {
			got[i].DeadlineMS = 0
		}
	}
	r.w.same(r, r.index, "sessions", got, want)
	for _, s := range want {
		if !r.m.Attached(s.Stream, s.ID, s.Created) || r.m.Attached(s.Stream+1, s.ID, s.Created) ||
			r.m.Attached(s.Stream, s.ID, s.Created+1) {
			r.w.t.Fatalf("%s: session %+v at index %d: attached to its stream %v", r.name, s, r.index,
				r.m.Attached(s.Stream, s.ID, s.Created))
		}
	}
}

// checkAttached compares attachments with the model.
func (r *replica) checkAttached(v *machine.View, state *model.Model) {
	want := state.Attached()
	var got []statemachine.AttachedKey
	gather := func(k statemachine.AttachedKey) bool {
		got = append(got, k)
		return len(got) < 3
	}
	if err := v.AttachedKeys(context.Background(), 0, nil, gather); err != nil {
		r.w.t.Fatal(err)
	}
	if len(got) == 3 { // and on from there
		last := got[2]
		err := v.AttachedKeys(context.Background(), last.Lease, append(bytes.Clone(last.Key), 0),
			func(k statemachine.AttachedKey) bool {
				got = append(got, k)
				return true
			})
		if err != nil {
			r.w.t.Fatal(err)
		}
	}
	r.w.same(r, v.AppliedIndex(), "attached keys", got, want)
	for _, k := range want {
		if a, err := v.Attachment(k.Lease, k.Key); err != nil || a != k.Attachment {
			r.w.t.Fatalf("%s: attachment of %d %q is %+v %v, want %+v", r.name, k.Lease, k.Key, a, err, k.Attachment)
		}
	}
}
