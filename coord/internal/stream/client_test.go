package stream_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
	"github.com/coord-dev/coord/coord/internal/stream"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// patience is the time after which a test gives up on what must happen. It is generous: tests share machines.
const patience = 30 * time.Second

func dial(t testing.TB, endpoint string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// raw is a client that sends the frames it is told to, and keeps what comes.
type raw struct {
	t      testing.TB
	stream grpc.BidiStreamingClient[coordv1.ClientFrame, coordv1.ServerFrame]
	cancel context.CancelFunc
	last   uint64 // number of the last request without a session
	// what came and was not asked for yet
	responses []*coordv1.Response
	pushes    []*coordv1.Push
	channels  []*coordv1.ChannelFrame
	heartbeat uint64
	frames    int
}

// silent opens a stream without a hello.
func silent(t testing.TB, endpoint string, opts ...grpc.CallOption) *raw {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	t.Cleanup(cancel)
	s, err := coordv1.NewStreamClient(dial(t, endpoint)).Open(ctx, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return &raw{t: t, stream: s, cancel: cancel}
}

func connect(t testing.TB, endpoint string) *raw {
	t.Helper()
	c := silent(t, endpoint)
	c.send(&coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1, Client: "test"}})
	f, err := c.stream.Recv()
	if err != nil || f.Welcome == nil || f.Welcome.ClusterId == 0 || f.Welcome.MemberId == 0 ||
		f.Welcome.MaxRequestBytes == 0 {
		t.Fatalf("no welcome: %v, %v", f, err)
	}
	return c
}

func (c *raw) send(f *coordv1.ClientFrame) {
	c.t.Helper()
	if err := c.stream.Send(f); err != nil {
		_, err := c.stream.Recv()
		c.t.Fatalf("send: %v", err)
	}
}

// recv takes a frame and keeps its parts.
func (c *raw) recv() error {
	f, err := c.stream.Recv()
	if err != nil {
		return err
	}
	c.frames++
	c.responses = append(c.responses, f.Responses...)
	c.pushes = append(c.pushes, f.Pushes...)
	c.channels = append(c.channels, f.Channels...)
	c.heartbeat = max(c.heartbeat, f.Heartbeat)
	return nil
}

// until receives until done says so.
func (c *raw) until(what string, done func() bool) {
	c.t.Helper()
	for !done() {
		if err := c.recv(); err != nil {
			c.t.Fatalf("%s: %v", what, err)
		}
	}
}

// response waits for the response to a request and removes it.
func (c *raw) response(session int64, sequence uint64) *coordv1.Outcome {
	c.t.Helper()
	var found *coordv1.Outcome
	c.until("response", func() bool {
		for i, r := range c.responses {
			if r.Session == session && r.Sequence == sequence {
				found = r.Outcome
				c.responses = append(c.responses[:i:i], c.responses[i+1:]...)
				return true
			}
		}
		return false
	})
	return found
}

// push waits for the next push of a session and removes it.
func (c *raw) push(session int64) *coordv1.Push {
	c.t.Helper()
	var found *coordv1.Push
	c.until("push", func() bool {
		for i, p := range c.pushes {
			if p.Session == session {
				found = p
				c.pushes = append(c.pushes[:i:i], c.pushes[i+1:]...)
				return true
			}
		}
		return false
	})
	return found
}

func request(sequence uint64, kind coordv1.Kind, body proto.Message, guards ...*coordv1.Guard) *coordv1.Request {
	b, err := proto.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &coordv1.Request{Sequence: sequence, Kind: kind, Body: b, Guards: guards}
}

func batch(session int64, requests ...*coordv1.Request) *coordv1.ClientFrame {
	return &coordv1.ClientFrame{Batches: []*coordv1.Batch{{Session: session, Requests: requests}}}
}

// ask sends one request without a session and decodes the response, or returns the refusal.
func (c *raw) ask(kind coordv1.Kind, body, response proto.Message) *coordv1.Refusal {
	c.t.Helper()
	c.last++
	c.send(batch(0, request(c.last, kind, body)))
	return decode(c.t, c.response(0, c.last), response)
}

func decode(t testing.TB, o *coordv1.Outcome, response proto.Message) *coordv1.Refusal {
	t.Helper()
	if (o.Response == nil) == (o.Refusal == nil) {
		t.Fatalf("outcome %v has not one of both", o)
	}
	if o.Refusal != nil {
		return o.Refusal
	}
	if err := proto.Unmarshal(o.Response, response); err != nil {
		t.Fatal(err)
	}
	return nil
}

// session is a session of a raw client.
type session struct {
	*raw
	*coordv1.SessionOpened
	sequence uint64
}

func (c *raw) open(ttl time.Duration) *session {
	c.t.Helper()
	s := &session{raw: c, SessionOpened: &coordv1.SessionOpened{}}
	if r := c.ask(coordv1.Kind_KIND_SESSION_OPEN, &coordv1.SessionOpen{TtlMs: ttl.Milliseconds()},
		s.SessionOpened); r != nil {
		c.t.Fatalf("open a session: %v", r)
	}
	return s
}

// do sends one request of the session.
func (s *session) do(kind coordv1.Kind, body, response proto.Message) *coordv1.Refusal {
	s.t.Helper()
	s.sequence++
	s.send(batch(s.Id, request(s.sequence, kind, body)))
	return decode(s.t, s.response(s.Id, s.sequence), response)
}

func (s *session) put(key, value string) int64 {
	s.t.Helper()
	resp := &pb.PutResponse{}
	if r := s.do(coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte(key), Value: []byte(value)}, resp); r != nil {
		s.t.Fatalf("put %s: %v", key, r)
	}
	return resp.Header.Revision
}

func (c *raw) get(key string) *pb.RangeResponse {
	c.t.Helper()
	resp := &pb.RangeResponse{}
	if r := c.ask(coordv1.Kind_KIND_RANGE, &pb.RangeRequest{Key: []byte(key)}, resp); r != nil {
		c.t.Fatalf("get %s: %v", key, r)
	}
	return resp
}

// fate waits for the end of the stream and returns its status and the reason in it.
func (c *raw) fate() (*status.Status, coordv1.Error_Reason) {
	c.t.Helper()
	for {
		if err := c.recv(); err != nil {
			st := status.Convert(err)
			for _, d := range st.Details() {
				if e, ok := d.(*coordv1.Error); ok {
					return st, e.Reason
				}
			}
			return st, coordv1.Error_REASON_UNSPECIFIED
		}
	}
}

func start(t testing.TB, opts coordtest.Options) *coordtest.Cluster {
	t.Helper()
	return coordtest.Start(t, opts)
}

// applied is the index of the last log entry that the first member has applied.
func applied(t testing.TB, c *coordtest.Cluster) uint64 {
	t.Helper()
	r, err := pb.NewMaintenanceClient(dial(t, c.Endpoints()[0])).Status(context.Background(), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return r.RaftAppliedIndex
}

type limits = stream.Limits

// limit changes the limits of streams.
func limit(change func(*limits)) func(int, *coord.Config) {
	return func(_ int, c *coord.Config) { change(&c.StreamLimits) }
}

func wantRefusal(t testing.TB, what string, r *coordv1.Refusal, reason coordv1.Error_Reason, text string) {
	t.Helper()
	if r.GetReason() != reason || !strings.Contains(r.GetMessage(), text) || r.GetCode() == 0 {
		t.Errorf("%s: refused by %v, want %v with %q in its message", what, r, reason, text)
	}
}
