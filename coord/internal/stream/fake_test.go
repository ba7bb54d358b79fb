package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/api"
	"github.com/coord-dev/coord/coord/internal/propose"
	"github.com/coord-dev/coord/coord/internal/transit"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// fakeMember is a Backend whose commands are answered by the test.
type fakeMember struct {
	mu        sync.Mutex
	submitted []*submitted
	elsewhere map[int64]bool // sessions that are not attached
	early     coordv1.Kind   // of requests that the cluster's version does not have
}

type submitted struct {
	kind      raftv1.Kind
	body      []byte
	done      func(statemachine.Result)
	cancelled bool
}

func (m *fakeMember) Weigh(coordv1.Kind, []byte, []string) int64 { return 0 }

func (m *fakeMember) Submit(
	_ context.Context, kind raftv1.Kind, body []byte, _ int64, _ bool, done func(statemachine.Result),
) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &submitted{kind: kind, body: body, done: done}
	m.submitted = append(m.submitted, s)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		s.cancelled = true
	}
}

// next takes the oldest command that nobody took.
func (m *fakeMember) next(t *testing.T, kind raftv1.Kind) *submitted {
	t.Helper()
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.submitted) == 0 || m.submitted[0].kind != kind {
		t.Fatalf("no command of kind %d is next: %v", kind, m.submitted)
	}
	s := m.submitted[0]
	m.submitted = m.submitted[1:]
	return s
}

func (m *fakeMember) ReadIndex(context.Context) error        { return errors.New("no quorum") }
func (m *fakeMember) View(context.Context) (api.View, error) { return nil, statemachine.ErrClosed }
func (m *fakeMember) Session(id int64) (statemachine.SessionInfo, bool) {
	return statemachine.SessionInfo{Created: 1}, m.elsewhere[id]
}
func (m *fakeMember) Version() raftv1.Version { return raftv1.MaxVersion }

func (m *fakeMember) CheckRequest(kind coordv1.Kind) error {
	if m.early != 0 && kind == m.early {
		return fmt.Errorf("%w: %v needs version 9", raftv1.ErrEarly, kind)
	}
	return nil
}

func (m *fakeMember) Attached(_ uint64, id int64, _ uint64) bool { return !m.elsewhere[id] }

// fakeClient is the other end of a stream: a grpc.ServerStream.
type fakeClient struct {
	grpc.ServerStream
	ctx   context.Context
	in    chan *coordv1.ClientFrame
	out   chan *coordv1.ServerFrame
	ended chan error
}

func (c *fakeClient) Context() context.Context { return c.ctx }

func (c *fakeClient) RecvMsg(m any) error {
	select {
	case f, ok := <-c.in:
		if !ok {
			return io.EOF
		}
		m.(*received).buffer = mem.SliceBuffer(encode(f))
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

func (c *fakeClient) SendMsg(m any) error {
	f := &coordv1.ServerFrame{}
	if err := proto.Unmarshal(bytes.Join(m.(*transit.Message).Parts(), nil), f); err != nil {
		return err
	}
	c.out <- f
	return nil
}

// frame is the next frame from the server.
func (c *fakeClient) frame(t *testing.T) *coordv1.ServerFrame {
	t.Helper()
	synctest.Wait()
	select {
	case f := <-c.out:
		return f
	default:
		t.Fatal("no frame")
		return nil
	}
}

func (c *fakeClient) silent(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case f := <-c.out:
		t.Fatalf("a frame: %v", f)
	default:
	}
}

type fakeServer struct {
	*Server
	member  *fakeMember
	streams *Streams
	metrics *prometheus.Registry
}

// withServer runs a test in a bubble of its own time.
func withServer(t *testing.T, test func(t *testing.T, s *fakeServer)) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeServer{
			member: &fakeMember{elsewhere: map[int64]bool{}}, streams: &Streams{}, metrics: prometheus.NewRegistry(),
		}
		var err error
		s.Server, err = New(Options{
			Backend: s.member, Etcd: api.NewServices(
				api.Options{MaxRequestBytes: 1 << 20, MaxTxnOps: 128}, api.Keyspace{QuotaBytes: -1}),
			Features: map[string]uint32{"old": 1, "new": uint32(raftv1.MaxVersion) + 1},
			History:  statemachine.NewHistory(1), Streams: s.streams, Metrics: s.metrics,
		})
		if err != nil {
			t.Fatal(err)
		}
		test(t, s)
	})
}

// connect opens a stream, which the end of the test ends.
func (s *fakeServer) connect(t *testing.T) *fakeClient {
	ctx, cancel := context.WithCancel(t.Context())
	c := &fakeClient{
		ctx: ctx, in: make(chan *coordv1.ClientFrame, 100), out: make(chan *coordv1.ServerFrame, 100),
		ended: make(chan error, 1),
	}
	go func() {
		c.ended <- s.Open(&grpc.GenericServerStream[coordv1.ClientFrame, coordv1.ServerFrame]{ServerStream: c})
	}()
	t.Cleanup(cancel)
	c.in <- &coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1}}
	if c.frame(t).Welcome == nil {
		t.Fatal("no welcome")
	}
	return c
}

// open opens a session.
func (c *fakeClient) open(t *testing.T, s *fakeServer, id int64) {
	t.Helper()
	c.in <- lone(1, coordv1.Kind_KIND_SESSION_OPEN, &coordv1.SessionOpen{TtlMs: 1000})
	s.member.next(t, raftv1.KindSessionOpen).done(statemachine.Result{
		Response: statemachine.SessionOpened{ID: id, Created: 1, Epoch: 1},
	})
	if f := c.frame(t); len(f.Responses) != 1 || f.Responses[0].Outcome.Response == nil {
		t.Fatalf("open: %v", f)
	}
}

func lone(sequence uint64, kind coordv1.Kind, body proto.Message) *coordv1.ClientFrame {
	return ofSession(0, sequence, kind, body)
}

func ofSession(id int64, sequence uint64, kind coordv1.Kind, body proto.Message) *coordv1.ClientFrame {
	return &coordv1.ClientFrame{
		Batches: []*coordv1.Batch{{
			Session: id, Requests: []*coordv1.Request{{Sequence: sequence, Kind: kind, Body: encode(body)}},
		}},
	}
}

var aPut = &pb.PutRequest{Key: []byte("k")}

func done(outcomes ...[]byte) statemachine.Result {
	return statemachine.Result{Response: statemachine.RequestsDone{Outcomes: outcomes}}
}

// Heartbeats that come while a command is under way share the next one, and those that find the queue full come again.
func TestHeartbeatsOfAMemberShareACommand(t *testing.T) {
	withServer(t, func(t *testing.T, s *fakeServer) {
		a, b := s.connect(t), s.connect(t)
		a.in <- &coordv1.ClientFrame{Heartbeat: 1}
		first := s.member.next(t, raftv1.KindStreamRenew)
		for number := range uint64(5) {
			a.in <- &coordv1.ClientFrame{Heartbeat: number + 2}
			b.in <- &coordv1.ClientFrame{Heartbeat: number + 12}
		}
		synctest.Wait()
		if len(s.member.submitted) > 0 {
			t.Fatal("a second command beside the first")
		}
		first.done(statemachine.Result{Response: statemachine.StreamsRenewed{}})
		if f := a.frame(t); f.Heartbeat != 1 {
			t.Errorf("first answer: %v", f)
		}
		b.silent(t)
		second := s.member.next(t, raftv1.KindStreamRenew)
		renew := &raftv1.StreamRenew{}
		if err := proto.Unmarshal(second.body, renew); err != nil || len(renew.Streams) != 2 {
			t.Fatalf("second command: %v, %v", renew, err)
		}
		second.done(statemachine.Result{Err: propose.ErrTooManyRequests})
		a.silent(t)
		time.Sleep(2 * busyPause)
		s.member.next(t, raftv1.KindStreamRenew).done(statemachine.Result{Response: statemachine.StreamsRenewed{}})
		if f := a.frame(t); f.Heartbeat != 6 {
			t.Errorf("second answer: %v", f)
		}
		if f := b.frame(t); f.Heartbeat != 16 {
			t.Errorf("second answer of the other: %v", f)
		}
		// One whose outcome is unknown is not answered; the next one is.
		a.in <- &coordv1.ClientFrame{Heartbeat: 7}
		s.member.next(t, raftv1.KindStreamRenew).done(statemachine.Result{Err: propose.ErrTimeout})
		a.silent(t)
		a.in <- &coordv1.ClientFrame{Heartbeat: 8}
		s.member.next(t, raftv1.KindStreamRenew).done(statemachine.Result{Response: statemachine.StreamsRenewed{}})
		if f := a.frame(t); f.Heartbeat != 8 {
			t.Errorf("third answer: %v", f)
		}
	})
}

// A snapshot does not say which sessions were lost: all are looked at, and the client is told before anything else.
func TestSessionsAreLookedAtAfterASnapshot(t *testing.T) {
	withServer(t, func(t *testing.T, s *fakeServer) {
		c := s.connect(t)
		c.open(t, s, 5)
		c.open(t, s, 6)
		c.in <- &coordv1.ClientFrame{Heartbeat: 1}
		renew := s.member.next(t, raftv1.KindStreamRenew)
		s.member.elsewhere[6] = true
		s.streams.Recovered(&statemachine.Applied{}, nil)
		renew.done(statemachine.Result{Response: statemachine.StreamsRenewed{}})
		f := c.frame(t)
		if len(f.Pushes) == 0 { // two frames, but in this order
			t.Fatalf("the heartbeat was answered first: %v", f)
		}
		if p := f.Pushes[0]; p.Session != 6 || p.GetSessionLost().GetCause() != coordv1.SessionLost_MOVED ||
			len(f.Pushes) > 1 {
			t.Errorf("pushes: %v", f.Pushes)
		}
	})
}

// Nothing of a session follows the news that it is lost, though requests were under way.
func TestNothingFollowsTheLossOfASession(t *testing.T) {
	withServer(t, func(t *testing.T, s *fakeServer) {
		c := s.connect(t)
		c.open(t, s, 5)
		c.in <- ofSession(5, 1, coordv1.Kind_KIND_PUT, aPut)
		put := s.member.next(t, raftv1.KindRequests)
		s.streams.Applied(&statemachine.Applied{
			Sessions: []statemachine.SessionChange{{ID: 5, Created: 1, Stream: s.only().id, Ended: true}},
		})
		if p := c.frame(t).Pushes[0]; p.GetSessionLost().GetCause() != coordv1.SessionLost_ENDED {
			t.Errorf("push: %v", p)
		}
		put.done(done(raftv1.EncodeOutcome(raftv1.OutcomeResponse, nil)))
		c.silent(t)
		if !s.only().flow.idle() {
			t.Error("the request still counts as under way")
		}
	})
}

// A session that is lost in the very batch that attached it is told of as well.
func TestASessionLostWhileItIsAttached(t *testing.T) {
	withServer(t, func(t *testing.T, s *fakeServer) {
		c := s.connect(t)
		c.in <- lone(1, coordv1.Kind_KIND_SESSION_ATTACH, &coordv1.SessionAttach{Session: 5, Created: 1, Epoch: 3})
		attach := s.member.next(t, raftv1.KindSessionAttach)
		s.member.elsewhere[5] = true
		s.streams.Applied(&statemachine.Applied{
			Sessions: []statemachine.SessionChange{{ID: 5, Created: 1, Stream: s.only().id}},
		})
		attach.done(statemachine.Result{
			Response: statemachine.SessionsAttached{
				Outcomes: []statemachine.AttachOutcome{statemachine.Attached}, TTLs: []int64{1000},
			},
		})
		var responses []*coordv1.Response
		var pushes []*coordv1.Push
		for len(pushes) == 0 {
			f := c.frame(t)
			responses, pushes = append(responses, f.Responses...), append(pushes, f.Pushes...)
		}
		if len(responses) != 1 || pushes[0].GetSessionLost().GetCause() != coordv1.SessionLost_MOVED {
			t.Errorf("%v, then %v", responses, pushes)
		}
	})
}

// What the log does not answer is answered by name: the client can send it again.
func TestErrorsOfTheProposer(t *testing.T) {
	withServer(t, func(t *testing.T, s *fakeServer) {
		c := s.connect(t)
		c.open(t, s, 5)
		for i, test := range []struct {
			err    error
			reason coordv1.Error_Reason
			code   codes.Code
		}{
			{propose.ErrTimeout, coordv1.Error_REASON_OUTCOME_UNKNOWN, codes.Unavailable},
			{propose.ErrStopped, coordv1.Error_REASON_OUTCOME_UNKNOWN, codes.Unavailable},
			{propose.ErrTooManyRequests, coordv1.Error_REASON_TOO_MANY_REQUESTS, codes.ResourceExhausted},
			{statemachine.ErrSessionElsewhere, coordv1.Error_REASON_SESSION_ELSEWHERE, codes.FailedPrecondition},
		} {
			c.in <- ofSession(5, uint64(i+1), coordv1.Kind_KIND_PUT, aPut)
			s.member.next(t, raftv1.KindRequests).done(statemachine.Result{Err: test.err})
			if r := c.frame(t).Responses[0].Outcome.Refusal; r.GetReason() != test.reason ||
				r.GetCode() != uint32(test.code) {
				t.Errorf("%v: %v", test.err, r)
			}
		}
	})
}

// The end of a stream gives up what the log has not taken, and writes nothing.
func TestTheEndOfAStreamGivesUpItsCommands(t *testing.T) {
	withServer(t, func(t *testing.T, s *fakeServer) {
		c := s.connect(t)
		c.open(t, s, 5)
		c.in <- ofSession(5, 1, coordv1.Kind_KIND_PUT, aPut)
		c.in <- &coordv1.ClientFrame{Heartbeat: 1}
		put, renew := s.member.next(t, raftv1.KindRequests), s.member.next(t, raftv1.KindStreamRenew)
		c.in <- &coordv1.ClientFrame{Heartbeat: 2}
		synctest.Wait()
		if streams, sessions := s.metric(t, "coord_stream_streams"),
			s.metric(t, "coord_stream_sessions"); streams != 1 || sessions != 1 {
			t.Errorf("%v streams, %v sessions", streams, sessions)
		}
		c.in <- &coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1}} // a second hello
		if err := <-c.ended; err == nil {
			t.Error("the stream ended without an error")
		}
		if !put.cancelled {
			t.Error("its command was not given up")
		}
		renew.done(statemachine.Result{Response: statemachine.StreamsRenewed{}})
		put.done(done(raftv1.EncodeOutcome(raftv1.OutcomeResponse, nil)))
		synctest.Wait()
		if len(s.member.submitted) > 0 {
			t.Errorf("something was submitted for it: %v", s.member.submitted)
		}
		if streams, sessions := s.metric(t, "coord_stream_streams"),
			s.metric(t, "coord_stream_sessions"); streams != 0 || sessions != 0 {
			t.Errorf("after the end %v streams, %v sessions", streams, sessions)
		}
	})
}

// only is the only stream.
func (s *fakeServer) only() *stream {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	for _, st := range s.streams.streams {
		return st
	}
	return nil
}

// metric is the value of a gauge.
func (s *fakeServer) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
