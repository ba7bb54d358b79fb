package introspect_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/introspect"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// member is the real state machine, to which commands are applied at once, and the service on it.
type member struct {
	*introspect.Service
	t       *testing.T
	machine *machine.Machine
	last    *statemachine.Applied
	index   uint64
	ticks   uint64
	clockMS int64
	ranges  []string // what the service read
	failing error    // of reactions
}

// reactor fails when it is told to.
type reactor struct {
	statemachine.Reactor
	m *member
}

func (r reactor) Deleted(step statemachine.Step, queue string, were []*mvccpb.KeyValue) error {
	if r.m.failing != nil {
		return r.m.failing
	}
	return r.Reactor.Deleted(step, queue, were)
}

// wall is the proposers' wall clock.
const wall = 1_796_140_800_000 // 2026-12-01T16:00:00Z

func newMember(t *testing.T) *member {
	m := &member{t: t}
	program := recipes.Program()
	program.Reactor = reactor{program.Reactor, m}
	m.machine = machine.New(machine.Options{
		Dir: "db", FS: vfs.NewMem(), Shard: 1, Member: 1, Boot: 1, Observer: m, Program: program,
	})
	if _, err := m.machine.Open(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.machine.Close() })
	m.Service = introspect.New(introspect.Backend{
		Propose: m.propose, ReadIndex: func(ctx context.Context) error { return ctx.Err() }, Logger: zap.NewNop(),
		View: func(context.Context) (introspect.View, error) {
			v, err := m.machine.View()
			return watchedView{v, m}, err
		},
		Remaining: func(id statemachine.LeaseID) int64 {
			l, _, ok := m.machine.Lease(id)
			switch {
			case !ok:
				return 0
			case l.Pending:
				return l.TTL
			}
			return l.DeadlineMS - m.clockMS
		},
	})
	return m
}

// watchedView notes the ranges that are read.
type watchedView struct {
	*machine.View
	m *member
}

func (v watchedView) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	v.m.ranges = append(v.m.ranges, string(r.Key))
	return v.View.Range(ctx, r)
}

func (m *member) Applied(a *statemachine.Applied) { m.last = a }

func (m *member) Recovered(a *statemachine.Applied, _ func(uint64) bool) { m.last = a }

func (m *member) propose(_ context.Context, kind raftv1.Kind, body []byte) (any, error) {
	m.index++
	entry := raftv1.AppendEntry(nil, &raftv1.Entry{
		Member: 1, Boot: 1, Number: m.index, Settled: m.index - 1, Commands: []raftv1.Command{{Kind: kind, Body: body}},
	})
	if _, err := m.machine.Update([]sm.Entry{{Index: m.index, Cmd: entry}}); err != nil {
		m.t.Fatal(err)
	}
	r := m.last.Entries[0].Results[0]
	return r.Response, r.Err
}

// do applies a command that is not refused.
func (m *member) do(kind raftv1.Kind, msg proto.Message) any {
	m.t.Helper()
	resp, err := m.propose(m.t.Context(), kind, encode(m.t, msg))
	if err != nil {
		m.t.Fatalf("%T: %v", msg, err)
	}
	return resp
}

func encode(t *testing.T, msg proto.Message) []byte {
	t.Helper()
	body, err := proto.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// pass lets log time pass.
func (m *member) pass(ms int64) {
	// deadlines are given, then they come due, then those of what lingers are given
	for _, delta := range []int64{0, ms, 0} {
		m.ticks++
		m.clockMS += delta
		m.do(raftv1.KindTick, &raftv1.Tick{Number: m.ticks, DeltaMs: delta, Seen: m.index})
	}
}

// session is a session under way.
type session struct {
	m        *member
	id       int64
	created  uint64
	sequence uint64
}

func (m *member) session(id int64, host string) *session {
	m.t.Helper()
	identity := &coordv1.Identity{Host: host, Process: "p", Labels: map[string]string{"team": "a"}}
	resp := m.do(raftv1.KindSessionOpen, &raftv1.SessionOpen{
		Id: id, TtlMs: 10_000, Stream: 1, Identity: encode(m.t, identity),
	})
	return &session{m: m, id: id, created: resp.(statemachine.SessionOpened).Created}
}

// request executes a request that is not refused, and decodes its response.
func (s *session) request(kind coordv1.Kind, body, resp proto.Message) {
	s.m.t.Helper()
	s.sequence++
	done := s.m.do(raftv1.KindRequests, &raftv1.Requests{
		Session: s.id, Created: s.created, Epoch: 1, UnixMs: wall,
		Requests: [][]byte{encode(s.m.t, &coordv1.Request{
			Sequence: s.sequence, Kind: kind, Body: encode(s.m.t, body),
		})},
	}).(statemachine.RequestsDone)
	outcome := &coordv1.Outcome{}
	if err := proto.Unmarshal(done.Outcomes[0], outcome); err != nil || outcome.Refusal != nil {
		s.m.t.Fatalf("%s: %v, %v", kind, outcome.Refusal, err)
	}
	if err := proto.Unmarshal(outcome.Response, resp); err != nil {
		s.m.t.Fatal(err)
	}
}

func (s *session) lock(names ...string) *coordv1.Acquired {
	return s.acquire(&coordv1.Acquire{Names: names})
}

func (s *session) acquire(req *coordv1.Acquire) *coordv1.Acquired {
	s.m.t.Helper()
	req.Owner = fmt.Sprint("owner", s.id)
	resp := &coordv1.Acquired{}
	s.request(coordv1.Kind_KIND_ACQUIRE, req, resp)
	return resp
}

func (s *session) campaign(name, value string, priority int64) *coordv1.AcquiredEntry {
	s.m.t.Helper()
	resp := &coordv1.Acquired{}
	s.request(coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: name, Value: []byte(value), Priority: priority}, resp)
	return resp.Entries[0]
}

// etcdLock does what concurrency.Mutex does.
func (m *member) etcdLock(name string, lease int64) {
	m.t.Helper()
	m.lease(lease)
	m.do(raftv1.KindPut, &pb.PutRequest{Key: []byte(layout.EntryKey(name, lease, "")), Lease: lease})
}

// lease grants a lease where there is none.
func (m *member) lease(id int64) {
	m.t.Helper()
	if _, _, ok := m.machine.Lease(id); !ok {
		m.do(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: id, TtlMs: 60_000})
	}
}

// wantReason checks the code and the reason of an error.
func wantReason(t *testing.T, err error, code codes.Code, reason coordv1.Error_Reason) {
	t.Helper()
	st := status.Convert(err)
	var got coordv1.Error_Reason
	for _, d := range st.Details() {
		if e, ok := d.(*coordv1.Error); ok {
			got = e.Reason
		}
	}
	if st.Code() != code || got != reason {
		t.Errorf("got %s with %s (%s), want %s with %s", st.Code(), got, st.Message(), code, reason)
	}
}

// must is for calls that do not fail.
func must[T any](resp T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

// entryText is an entry on one line.
func entryText(e *coordv1.Entry) string {
	if e == nil {
		return "-"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s", e.Key, e.Owner))
}
