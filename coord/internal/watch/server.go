package watch

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/transit"
)

// minProgressInterval is the shortest interval of progress notifications, as in etcd.
const minProgressInterval = 100 * time.Millisecond

// ServerOptions of a Server. Header is required.
type ServerOptions struct {
	// Header fills in cluster id, member id and raft term. The revision is set already.
	Header func(*pb.ResponseHeader)
	// Permit says whether the stream's client may watch this. A gRPC status error becomes the cancel reason, any other
	// error "permission denied". Nil: everything is permitted. It is called on the stream's own goroutine.
	Permit func(context.Context, *pb.WatchCreateRequest) error
	// FragmentBytes is the size from which a response is cut for clients that asked for fragments: the server's limit
	// on a request plus 512 KiB, in etcd. Default 2 MiB.
	FragmentBytes int
	// ProgressInterval is the time between progress notifications, to which each stream adds up to a tenth. Default 10
	// minutes, at least 100 ms.
	ProgressInterval time.Duration
	// Conns are the connections of the gRPC server that serves this, which has a codec for their messages: what waits
	// for a client then counts until it is written, else until gRPC has taken it. Nil: there are none.
	Conns *transit.Conns
	// Logger, default: none.
	Logger *zap.Logger
}

// EnsureDefaults fills in what is zero.
func (o *ServerOptions) EnsureDefaults() {
	if o.FragmentBytes <= 0 {
		o.FragmentBytes = 2 << 20
	}
	if o.ProgressInterval <= 0 {
		o.ProgressInterval = 10 * time.Minute
	}
	o.ProgressInterval = max(o.ProgressInterval, minProgressInterval)
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
}

// Server is the Watch service of the etcd v3 API. Its responses hold their events already encoded, as unknown fields of
// the message: equal on the wire, but a caller inside the process that reads WatchResponse.Events sees none.
type Server struct {
	pb.UnsafeWatchServer
	hub  *Hub
	opts ServerOptions
}

// NewServer makes the service of one hub. It has nothing to close; streams end with the hub.
func NewServer(hub *Hub, opts ServerOptions) *Server {
	opts.EnsureDefaults()
	return &Server{hub: hub, opts: opts}
}

// watchCall is one call of Watch.
type watchCall struct {
	*Server
	grpc    pb.Watch_WatchServer
	stream  *stream
	transit *transit.Stream
	ended   chan struct{}
}

// Watch serves one stream. The calling goroutine waits for its end; a second one sends, a third one receives. It ends
// with ErrGRPCWatchCanceled when the client goes away, with the error of the stream's context where that has one of its
// own (no leader), with ErrGRPCStopped when the hub is closed or the store is not open, and with ResourceExhausted for
// a client that does not read while others find no room. What gRPC holds for such a client only ends with its
// connection, which is closed if it has not read after as long again.
func (s *Server) Watch(grpc pb.Watch_WatchServer) error {
	c := &watchCall{Server: s, grpc: grpc, stream: s.hub.newStream(), ended: make(chan struct{})}
	if !s.hub.open(c.stream) {
		return rpctypes.ErrGRPCStopped
	}
	defer close(c.ended)
	c.transit = s.opts.Conns.NewStream(grpc.Context(), pb.Watch_Watch_FullMethodName,
		func(bytes int64) { c.written(int(bytes)) })
	defer c.end()
	failed := make(chan error, 1)
	// Nobody waits for the receiver: Recv may block until this method has returned, and then it ends.
	go func() {
		defer guard.Recover(s.opts.Logger, "watch", func(cause any) { failed <- guard.Status(cause) })
		if err := c.receive(); err != nil {
			failed <- err
		}
	}()
	// Nobody waits for the sender of a client that does not read, either: it ends when this method has returned.
	sent := make(chan error, 1)
	go func() {
		defer guard.Recover(s.opts.Logger, "watch", func(cause any) { sent <- guard.Status(cause) })
		sent <- c.sendAndRelease(failed)
	}()
	select {
	case err := <-sent:
		return c.cause(err)
	case <-c.stream.slow:
		return errSlowConsumer
	}
}

// endPatience is how long a client may leave the rest of a stream unread that has ended, while others find room.
const endPatience = 30 * time.Second

func (c *watchCall) end() {
	patience := max(endPatience, c.hub.opts.StallTime)
	if c.stream.ended() || c.stream.pending.Over() {
		patience = c.hub.opts.StallTime
	}
	c.transit.End()
	c.transit.CloseUnlessWritten(patience, func() {
		c.opts.Logger.Info("closing the connection of a client that does not read its watch stream")
	})
}

var errSlowConsumer = status.Error(codes.ResourceExhausted, "etcdserver: too many requests: this member holds as many "+
	"events for slow clients as it may, and this one has taken none for some seconds: watch again from the last "+
	"revision that was seen")

// sendAndRelease sends until the end, and has the hub forget the stream.
func (c *watchCall) sendAndRelease(failed <-chan error) (err error) {
	unsent := 0
	defer func() { c.hub.release(c.stream, unsent) }()
	unsent, err = c.sendLoop(failed)
	return err
}

// cause is the status of a stream that ends with err.
func (c *watchCall) cause(err error) error {
	if ctxErr := c.grpc.Context().Err(); ctxErr != nil {
		err = ctxErr
	}
	if errors.Is(err, context.Canceled) {
		return rpctypes.ErrGRPCWatchCanceled
	}
	return err
}

// receive hands requests to the hub until the stream fails. A client that closes its side keeps its watchers.
func (c *watchCall) receive() (err error) {
	defer func() { c.transit.Received(err) }()
	for {
		req, err := c.grpc.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		task := c.task(req)
		if task == nil {
			continue
		}
		if !c.admitted() {
			return nil
		}
		select {
		case c.stream.slots <- struct{}{}:
		case <-c.ended:
			return nil
		}
		if !c.hub.box.post(task) {
			return nil // sendLoop tells
		}
	}
}

// admitted waits while the client leaves more unread than its share of what all may: none of its requests is answered
// before it reads. False if the stream has ended.
func (c *watchCall) admitted() bool {
	for {
		roomy := make(chan struct{})
		if !c.stream.pending.Greedy(func() { close(roomy) }) {
			return true
		}
		select {
		case <-roomy:
		case <-c.ended:
			return false
		}
	}
}

// task is what the hub has to do for a request; nil if there is nothing in it.
func (c *watchCall) task(req *pb.WatchRequest) func() {
	switch {
	case req.GetCreateRequest() != nil:
		create := req.GetCreateRequest()
		refusal := c.refusal(create)
		return func() { c.hub.create(c.stream, create, refusal) }
	case req.GetCancelRequest() != nil:
		id := req.GetCancelRequest().WatchId
		return func() { c.hub.cancelWatch(c.stream, id) }
	case req.GetProgressRequest() != nil:
		return func() { c.hub.progressAll(c.stream) }
	default:
		c.opts.Logger.Info("unknown watch request")
		return nil
	}
}

// refusal is the reason not to create a watch, empty if there is none, in etcd's words.
func (c *watchCall) refusal(req *pb.WatchCreateRequest) string {
	if req.StartRevision < 0 {
		return rpctypes.ErrCompacted.Error()
	}
	if c.opts.Permit == nil {
		return ""
	}
	err := c.opts.Permit(c.grpc.Context(), req)
	if err == nil {
		return ""
	}
	if _, ok := status.FromError(err); ok {
		return err.Error()
	}
	return rpctypes.ErrGRPCPermissionDenied.Error()
}

// sendLoop sends until the stream or the hub ends, and returns how many events it took and did not send.
func (c *watchCall) sendLoop(failed <-chan error) (unsent int, err error) {
	interval := c.opts.ProgressInterval
	// Streams that began together, after a restart say, should not report progress together.
	ticker := time.NewTicker(interval + rand.N(interval/10))
	defer ticker.Stop()
	var spare []response
	for {
		select {
		case <-c.stream.wake:
			taken := c.stream.take(spare)
			if unsent, err := c.sendAll(taken); err != nil {
				return unsent, err
			}
			clear(taken) // hold no events
			spare = taken
		case <-ticker.C:
			c.hub.box.post(func() { c.hub.tick(c.stream) })
		case err := <-failed:
			return 0, err
		case <-c.grpc.Context().Done():
			return 0, c.grpc.Context().Err()
		case <-c.stream.broken:
			return 0, rpctypes.ErrGRPCStopped
		case <-c.hub.done:
			return 0, rpctypes.ErrGRPCStopped
		}
	}
}

// sendAll sends responses in order and returns how many events it could not send.
func (c *watchCall) sendAll(list []response) (unsent int, err error) {
	backlog := len(list) >= mergeFrom
	for len(list) > 0 {
		r, n := list[0], 1
		if backlog {
			r, n = merge(list)
		}
		if err := c.send(r); err != nil {
			for _, r := range list {
				unsent += len(r.events)
			}
			return unsent, err
		}
		list = list[n:]
		c.hub.count.pending.Add(-int64(len(r.events)))
		if r.claim {
			<-c.stream.slots
		}
	}
	return 0, nil
}

// written is told when gRPC holds so many bytes less.
func (c *watchCall) written(bytes int) {
	if c.stream.written(bytes) {
		c.hub.box.post(func() { c.hub.drained(c.stream) })
	}
}
