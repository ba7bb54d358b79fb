package transit

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type codec struct{ encoding.CodecV2 }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	if m, ok := v.(*Message); ok {
		return m.Buffers(), nil
	}
	return c.CodecV2.Marshal(v)
}

// server sends, on each watch stream, messages of a megabyte: as many as the watch's id says. Its handler returns when
// end is closed.
type server struct {
	pb.UnimplementedWatchServer
	t       *testing.T
	conns   Conns
	written atomic.Int64
	told    chan struct{} // has a token when something was written
	streams chan *Stream
	sent    chan error // of each message
	end     chan struct{}
	address string

	returned chan struct{} // has a token for each handler that has returned
}

// cost is what a message is said to cost, for the test.
const cost = 7

func serve(t *testing.T, listen func(*server, net.Listener) net.Listener) *server {
	s := &server{
		t: t, told: make(chan struct{}, 1), streams: make(chan *Stream, 10), sent: make(chan error, 10),
		end:      make(chan struct{}),
		returned: make(chan struct{}, 10),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	g := grpc.NewServer(grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)}))
	pb.RegisterWatchServer(g, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(listen(s, l))
	}()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return s
}

func followed(s *server, l net.Listener) net.Listener { return s.conns.Listen(l) }

func (s *server) Watch(w pb.Watch_WatchServer) error {
	request, err := w.Recv()
	if err != nil {
		return err
	}
	stream := s.conns.NewStream(w.Context(), pb.Watch_Watch_FullMethodName, s.note)
	if inside := s.conns.NewStream(w.Context(), pb.Lease_LeaseKeepAlive_FullMethodName, nil); inside.Follows() {
		s.t.Error("a stream is followed that a handler has made inside the process")
	}
	defer func() { s.returned <- struct{}{} }()
	defer stream.End()
	go func() {
		_, err := w.Recv()
		stream.Received(err)
	}()
	s.streams <- stream
	for range request.GetCreateRequest().WatchId {
		m := stream.Message(cost, []byte{1<<3 | 2, 0}, large)
		err := w.SendMsg(m)
		m.Handed(err)
		s.sent <- err
	}
	select {
	case <-s.end:
	case <-w.Context().Done():
	}
	return nil
}

// large is a field that nobody knows, of a megabyte.
var large = append([]byte{15<<3 | 2, 0x80, 0x80, 0x40}, make([]byte, 1<<20)...)

func (s *server) watch(
	t *testing.T, ctx context.Context, messages int64,
) (*grpc.ClientConn, pb.Watch_WatchClient, *Stream) {
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{encoding.GetCodecV2(proto.Name)})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	create := &pb.WatchCreateRequest{WatchId: messages}
	if err := w.Send(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create},
	}); err != nil {
		t.Fatal(err)
	}
	return conn, w, <-s.streams
}

func (s *server) note(n int64) {
	s.written.Add(n)
	select {
	case s.told <- struct{}{}:
	default:
	}
}

// eventually waits until so much is said to be written.
func (s *server) eventually(t *testing.T, what string, written int64) {
	t.Helper()
	for deadline := time.After(30 * time.Second); s.written.Load() != written; {
		select {
		case <-s.told:
		case <-deadline:
			t.Fatalf("%s: %d are written, not %d", what, s.written.Load(), written)
		}
	}
}

// What a client does not read counts after SendMsg has returned, and after the handler has, until the client reads it.
func TestCountsUntilTheClientReads(t *testing.T) {
	s := serve(t, followed)
	_, w, stream := s.watch(t, t.Context(), 1)
	if err := <-s.sent; err != nil {
		t.Fatal(err)
	}
	close(s.end)
	time.Sleep(50 * time.Millisecond) // what would be told too early would be told now
	if s.written.Load() != 0 || stream.Held() != cost {
		t.Fatalf("nobody has read, and %d are written, %d held", s.written.Load(), stream.Held())
	}
	if _, err := w.Recv(); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "read", cost)
	if stream.Held() != 0 {
		t.Errorf("%d are held", stream.Held())
	}
}

// It counts no longer when the client resets the stream or is gone, whether the handler has returned or not; nor does a
// message that gRPC did not take.
func TestCountsNoLongerThanTheClientIsThere(t *testing.T) {
	for name, leave := range map[string]func(conn *grpc.ClientConn, cancel func()){
		"reset": func(_ *grpc.ClientConn, cancel func()) { cancel() },
		"gone":  func(conn *grpc.ClientConn, _ func()) { conn.Close() },
	} {
		s := serve(t, followed)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		conn, _, _ := s.watch(t, ctx, 2) // the second has to wait for the first
		if err := <-s.sent; err != nil {
			t.Fatal(err)
		}
		leave(conn, cancel)
		if err := <-s.sent; err == nil {
			t.Errorf("%s: the second was taken", name)
		}
		s.eventually(t, name, 2*cost)

		s = serve(t, followed)
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		conn, _, stream := s.watch(t, ctx, 1)
		<-s.sent
		close(s.end)
		<-s.returned
		leave(conn, cancel)
		s.eventually(t, name+" after the handler has returned", cost)
		if held := stream.Held(); held != 0 {
			t.Errorf("%s: %d are held", name, held)
		}
	}
}

// gRPC drops a message that comes when it has heard already that the client is gone, and frees nothing.
func TestWhatIsDroppedCountsUntilTheEnd(t *testing.T) {
	s := serve(t, followed)
	conn, _, stream := s.watch(t, t.Context(), 0)
	conn.Close()
	<-s.returned
	s.written.Store(0)
	dropped := stream.Message(cost)
	if stream.End(); s.written.Load() != cost {
		t.Errorf("%d of what was dropped are given back", s.written.Load())
	}
	if dropped.Written(); s.written.Load() != cost {
		t.Errorf("%d are given back twice", s.written.Load())
	}
}

// The call ends also where gRPC itself tells the client, of a message that does not parse: it holds what the client has
// not read, which counts until it is.
func TestCountsBehindAStatusOfGRPC(t *testing.T) {
	s := serve(t, followed)
	_, w, stream := s.watch(t, t.Context(), 1)
	<-s.sent
	if err := w.SendMsg([]byte{0xff}); err != nil {
		t.Fatal(err)
	}
	<-s.returned
	time.Sleep(50 * time.Millisecond) // what would be told too early would be told now
	if s.written.Load() != 0 || stream.Held() != cost {
		t.Errorf("nobody has read, and %d are written, %d held", s.written.Load(), stream.Held())
	}
	if _, err := w.Recv(); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "read", cost)
	stream.forgotten(t)
}

// A message that a sender makes when the handler has returned already does not count: the stream may be forgotten by
// then, and gRPC frees nothing of what it drops.
func TestWhatComesBehindTheEndDoesNotCount(t *testing.T) {
	s := serve(t, followed)
	_, _, stream := s.watch(t, t.Context(), 0)
	close(s.end)
	<-s.returned
	late := stream.Message(cost)
	if s.written.Load() != cost || stream.Held() != 0 {
		t.Errorf("%d are given back, %d held", s.written.Load(), stream.Held())
	}
	late.Handed(nil)
	if late.Written(); s.written.Load() != cost {
		t.Errorf("%d are given back", s.written.Load())
	}
}

// The connection of a client that does not read is closed where it has not read after a while, and else not.
func TestCloseUnlessWritten(t *testing.T) {
	s := serve(t, followed)
	_, w, stream := s.watch(t, t.Context(), 1)
	<-s.sent
	closed := make(chan struct{})
	stream.CloseUnlessWritten(time.Millisecond, func() { close(closed) })
	<-closed
	s.eventually(t, "closed", cost)
	for err := error(nil); err == nil; {
		_, err = w.Recv()
	}
	_, w, stream = s.watch(t, t.Context(), 1)
	<-s.sent
	if _, err := w.Recv(); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "read", 2*cost)
	stream.CloseUnlessWritten(time.Millisecond, func() { t.Error("closed though everything was read") })
	time.Sleep(20 * time.Millisecond) // what would be done wrongly would be done now
}

// Where the connection is not known a message counts until it is handed over.
func TestUnknownConnections(t *testing.T) {
	s := serve(t, func(_ *server, l net.Listener) net.Listener { return l })
	_, _, stream := s.watch(t, t.Context(), 1)
	<-s.sent
	if stream.Follows() || s.written.Load() != cost {
		t.Errorf("%d are written", s.written.Load())
	}
	close(s.end)
}

// A connection is forgotten with its end, and a stream with its last message.
func TestForgets(t *testing.T) {
	s := serve(t, followed)
	conn, w, stream := s.watch(t, t.Context(), 1)
	close(s.end)
	if _, err := w.Recv(); err != nil {
		t.Fatal(err)
	}
	s.eventually(t, "read", cost)
	_, read, early := s.watch(t, t.Context(), 1)
	if _, err := read.Recv(); err != nil {
		t.Fatal(err)
	}
	for _, each := range []*Stream{stream, early} {
		each.forgotten(t)
	}
	conn.Close()
	for began := time.Now(); ; time.Sleep(time.Millisecond) { // gRPC tells nobody when it has closed a connection
		s.conns.mu.Lock()
		n := len(s.conns.byAddr)
		s.conns.mu.Unlock()
		if n == 1 {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d connections are known", n)
		}
	}
}

func (s *Stream) forgotten(t *testing.T) {
	t.Helper()
	for known, began := s.conn, time.Now(); ; time.Sleep(time.Millisecond) { // nor when it has forgotten a stream
		known.mu.Lock()
		n := len(known.streams)
		known.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d streams are known", n)
		}
	}
}
