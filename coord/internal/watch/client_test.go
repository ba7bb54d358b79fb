package watch

import (
	"context"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// patience is how long a test waits for something that should happen at once.
const patience = 2 * time.Minute

// fakeStream is a gRPC stream in memory: what is sent passes through the wire encoding.
type fakeStream struct {
	grpc.ServerStream
	ctx       context.Context
	requests  chan *pb.WatchRequest
	responses chan *pb.WatchResponse
}

func (f *fakeStream) Context() context.Context { return f.ctx }

func (f *fakeStream) Recv() (*pb.WatchRequest, error) {
	select {
	case r, ok := <-f.requests:
		if !ok {
			return nil, io.EOF
		}
		return r, nil
	case <-f.ctx.Done():
		return nil, status.FromContextError(f.ctx.Err()).Err()
	}
}

func (f *fakeStream) Send(m *pb.WatchResponse) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	decoded := &pb.WatchResponse{}
	if err := proto.Unmarshal(b, decoded); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	select {
	case f.responses <- decoded:
		return nil
	case <-f.ctx.Done():
		return status.FromContextError(f.ctx.Err()).Err()
	}
}

// client is the client's end of a stream, together with the server's handler.
type client struct {
	*fakeStream
	cancel context.CancelFunc
	result chan error
	once   sync.Once
	err    error
}

// dial opens a stream whose responses the client reads with room for buffered ones.
func dial(server *Server, buffered int) *client {
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{
		fakeStream: &fakeStream{
			ctx: ctx, requests: make(chan *pb.WatchRequest), responses: make(chan *pb.WatchResponse, buffered),
		},
		cancel: cancel,
		result: make(chan error, 1),
	}
	go func() {
		err := server.Watch(c.fakeStream)
		cancel() // as gRPC does
		c.result <- err
	}()
	return c
}

// close goes away and returns what the handler said.
func (c *client) close() error {
	c.cancel()
	return c.wait()
}

func (c *client) wait() error {
	c.once.Do(func() { c.err = <-c.result })
	return c.err
}

// ask sends a request; false if the stream has ended.
func (c *client) ask(r *pb.WatchRequest) bool {
	select {
	case c.requests <- r:
		return true
	case <-c.ctx.Done():
		return false
	}
}

func createRequest(r *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
}

func cancelRequest(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}},
	}
}

func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}

// next returns the next response.
func (c *client) next(t testing.TB) *pb.WatchResponse {
	t.Helper()
	select {
	case r := <-c.responses:
		return r
	case <-time.After(patience):
		t.Fatal("no response")
		return nil
	}
}

// create sends a create request and returns the answer.
func (c *client) create(t testing.TB, r *pb.WatchCreateRequest) *pb.WatchResponse {
	t.Helper()
	if !c.ask(createRequest(r)) {
		t.Fatal("stream has ended")
	}
	got := c.next(t)
	if !got.Created {
		t.Fatalf("create request answered by %v", got)
	}
	return got
}

// quiet checks that nothing is under way: what the hub has done is done, and no response came of it.
func (c *client) quiet(t testing.TB, h *Hub) {
	t.Helper()
	h.settle()
	select {
	case r := <-c.responses:
		t.Fatalf("unexpected response %v", r)
	case <-time.After(20 * time.Millisecond):
	}
}

// await waits until something is so of which nobody is told: that gRPC has written a message, or that a goroutine for
// which nobody waits has come to its end.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time: " + what)
		}
	}
}

// settle returns when the hub has nothing to do but what waits for clients.
func (h *Hub) settle() {
	for {
		idle := make(chan bool, 1)
		if !h.box.post(func() { idle <- !h.scanning && len(h.order.all()) == 0 }) || <-idle {
			return
		}
		runtime.Gosched() // its scans run beside it
	}
}
