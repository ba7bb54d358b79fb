package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/transit"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// protocol is the version of the protocol that a Hello must name.
const protocol = 1

// stream is one call of Open. It is handed to callbacks that may come after its end; then they find it closed.
type stream struct {
	server *Server
	grpc   grpc.ServerStream
	id     uint64
	ctx    context.Context // of everything that works for the stream
	cancel context.CancelFunc

	out      *outbox
	transit  *transit.Stream
	flow     *flow
	reads    readQueue
	channels channels
	entries  entries

	underway    underway
	working     sync.WaitGroup // what the handler waits for
	compactions chan struct{}  // has a token for each under way

	// mu guards the sessions, and that nothing of a session is queued after the news that it is lost. It is taken
	// before the outbox's.
	mu struct {
		sync.Mutex
		sessions map[int64]*session
		opening  int // sessions being opened and attached
		closed   bool
	}

	ended struct {
		sync.Once
		c   chan struct{}
		err error // set before c is closed
	}
}

func newStream(s *Server, grpc grpc.ServerStream) *stream {
	st := &stream{server: s, grpc: grpc}
	st.ctx, st.cancel = context.WithCancel(grpc.Context())
	st.ended.c = make(chan struct{})
	l := &s.opts.Limits
	memory := s.opts.Memory
	st.out = newOutbox(l.OutBytes, memory.Responses.Holder(), l.Patience, func() { st.end(errSlowConsumer) })
	st.transit = s.opts.Conns.NewStream(grpc.Context(), coordv1.Stream_Open_FullMethodName, func(cost int64) {
		st.out.written(int(cost))
	})
	st.flow = newFlow(l.Requests, l.RequestBytes, memory.Requests.Holder())
	st.channels.holder = memory.Channels.Holder()
	st.reads.wake = make(chan struct{}, 1)
	st.channels.st, st.entries.st = st, st
	st.compactions = make(chan struct{}, maxCompactions)
	st.mu.sessions = map[int64]*session{}
	return st
}

// end ends the stream with the status err; the first reason counts.
func (st *stream) end(err error) {
	st.ended.Do(func() {
		st.ended.err = err
		close(st.ended.c)
	})
}

// serve runs the stream until it ends. The receiver, and a sender whose client does not read, return only after the
// handler has: nobody waits for them.
func (st *stream) serve() error {
	go func() {
		defer st.recovered()
		st.receive()
	}()
	go func() {
		defer st.recovered()
		st.send()
	}()
	st.spawn(st.read)
	err := st.wait()
	st.close()
	st.working.Wait()
	st.transit.End()
	st.transit.CloseUnlessWritten(st.unread(err), func() {
		st.server.opts.Logger.Info("closing the connection of a client that does not read its native stream")
	})
	return err
}

// closePatience is how long a client whose stream has ended because it does not read may leave it so before its
// connection is closed: what gRPC holds for it ends in no other way.
const closePatience = time.Second

// unread is how long a client may leave unread what gRPC holds of its stream, which has ended with err, whoever ended
// it.
func (st *stream) unread(err error) time.Duration {
	if err == errSlowConsumer || st.out.holder.Over() {
		return closePatience
	}
	return st.server.opts.Limits.Patience
}

// spawn runs work that the handler waits for.
func (st *stream) spawn(work func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.mu.closed {
		st.working.Go(func() {
			defer st.recovered()
			work()
		})
	}
}

// recovered ends the stream of a client whose request makes a goroutine of ours panic: the member must go on.
func (st *stream) recovered() {
	if cause := recover(); cause != nil {
		guard.Note(st.server.opts.Logger, "stream", cause)
		st.end(guard.Status(cause))
	}
}

// wait waits for the end of the stream and returns its status.
func (st *stream) wait() error {
	drain := st.server.drain
	select {
	case <-st.ended.c:
	case <-st.grpc.Context().Done():
		return st.grpc.Context().Err() // where it has a reason of its own, no leader, it tells it
	case <-drain.Done():
	}
	if drain.Err() != nil {
		st.quiesce()
		return rpctypes.ErrGRPCStopped
	}
	if st.ended.err == nil { // the client has closed its side
		st.quiesce()
	}
	return st.ended.err
}

// quiesceTime is how long a stream that ends waits for what is under way. Outcomes that come later the client learns by
// sending the requests again.
const quiesceTime = time.Second

// quiesce waits until everything was answered and sent.
func (st *stream) quiesce() {
	deadline := time.Now().Add(quiesceTime)
	for time.Now().Before(deadline) && st.grpc.Context().Err() == nil {
		if st.flow.idle() && st.out.empty() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// close stops what works for the stream. Nothing is written to the log: sessions live on for their TTL.
func (st *stream) close() {
	st.end(nil)
	st.cancel()
	st.out.close()
	st.flow.close()
	st.underway.close()
	st.mu.Lock()
	st.mu.closed = true
	n := len(st.mu.sessions)
	st.mu.sessions = nil
	st.mu.Unlock()
	st.server.sessions.Add(-int64(n))
	st.entries.closeAll()
}

// send sends what gathers until the stream ends.
func (st *stream) send() {
	for {
		select {
		case <-st.out.wake:
		case <-st.ctx.Done():
			return
		}
		for f := st.out.take(); f != nil; f = st.out.take() {
			m := st.transit.Message(int64(f.cost()), f.encoded()...)
			err := st.grpc.SendMsg(m)
			m.Handed(err)
			if err != nil {
				st.end(err)
				return
			}
			st.server.metrics.framesOut.Inc()
		}
	}
}

// receive takes frames until the stream ends. When there is no room for their requests, or the client does not read
// what it is sent, it reads no further.
func (st *stream) receive() {
	var in received
	var f frame
	greeted := false
	var failed error
	defer func() { st.transit.Received(failed) }()
	for {
		if err := st.grpc.RecvMsg(&in); err != nil {
			failed = err
			st.end(receiveError(err))
			return
		}
		err := st.handle(&f, in.bytes(), &greeted)
		in.free()
		if err != nil {
			st.end(err)
			return
		}
		if st.server.drain.Err() != nil {
			return // the client sends the rest to another member
		}
	}
}

// receiveError is the status of a stream of which nothing more can be read; nil where the client has closed its side.
// That of a frame that is too large comes from gRPC, which has sent it already.
func receiveError(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// handle takes one frame. An error ends the stream.
func (st *stream) handle(f *frame, data []byte, greeted *bool) error {
	if err := f.parse(data); err != nil {
		return broken("%v", err)
	}
	if err := st.greet(f, greeted); err != nil {
		return err
	}
	st.server.metrics.frame(len(f.requests))
	if len(f.requests) > 0 && !(st.out.wait() && st.flow.acquire(len(f.requests), size(f.requests))) {
		return nil // the stream has ended
	}
	if err := st.take(f); err != nil {
		return err
	}
	if f.heartbeat != 0 {
		st.server.renewer.beat(st, f.heartbeat)
	}
	for _, c := range f.channels {
		if err := st.channels.take(c); err != nil {
			return err
		}
	}
	return nil
}

// greet answers the first frame's hello.
func (st *stream) greet(f *frame, greeted *bool) error {
	switch {
	case *greeted && f.hello != nil:
		return broken("a second hello")
	case *greeted:
		return nil
	case f.hello == nil:
		return broken("the first frame has no hello")
	}
	*greeted = true
	hello := &coordv1.Hello{}
	if err := proto.Unmarshal(f.hello, hello); err != nil {
		return broken("hello: %v", err)
	}
	if hello.Protocol != protocol {
		return broken("version %d of the protocol is not known here, only %d is", hello.Protocol, protocol)
	}
	o := &st.server.opts
	if hello.Shard != 0 && hello.Shard != o.Shard {
		return ending(codes.NotFound, coordv1.Error_REASON_UNSPECIFIED, fmt.Sprintf(
			"this stream serves shard %d, not %d, which its hello names", o.Shard, hello.Shard))
	}
	if err := raftv1.CheckFeatures(hello.Features, o.Features, o.Backend.Version()); err != nil {
		return ending(codes.FailedPrecondition, coordv1.Error_REASON_CLUSTER_VERSION, err.Error())
	}
	st.out.welcome(&coordv1.Welcome{
		ClusterId: o.History.ID(), MemberId: o.MemberID, MaxRequestBytes: int64(o.MaxRequestBytes),
	})
	return nil
}

func size(requests []request) int {
	n := 0
	for i := range requests {
		n += len(requests[i].Raw)
	}
	return n
}
