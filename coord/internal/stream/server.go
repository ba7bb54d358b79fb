package stream

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/coord-dev/coord/coord/internal/api"
	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/coord/internal/mirror"
	"github.com/coord-dev/coord/coord/internal/recipesvc"
	"github.com/coord-dev/coord/coord/internal/transit"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Backend is the member behind the streams. All methods are safe for concurrent use.
type Backend interface {
	// Submit sends a command through the log, for whom ctx says, see propose.Lane. weight is that of the requests in
	// it, frees that they only give something back.
	Submit(ctx context.Context, kind raftv1.Kind, body []byte, weight int64, frees bool,
		done func(statemachine.Result)) (cancel func())
	// Weigh is the weight of a request of a session that removes entries of these keys.
	Weigh(kind coordv1.Kind, body []byte, removes []string) int64
	// ReadIndex returns once a View taken afterwards shows everything that was committed before the call.
	ReadIndex(ctx context.Context) error
	// View is a consistent view at the latest revision. The caller closes it.
	View(ctx context.Context) (api.View, error)
	// Session describes a session as it is applied here; false if there is none. It is cheap.
	Session(statemachine.LeaseID) (statemachine.SessionInfo, bool)
	// Attached reports whether the session is attached to the stream, as it is applied here. It is cheap.
	Attached(stream uint64, id statemachine.LeaseID, created uint64) bool
	// Version is that of the cluster. CheckRequest says whether it has requests of a kind. Both are cheap.
	Version() raftv1.Version
	CheckRequest(kind coordv1.Kind) error
}

// Limits bound what one stream may cost. Zero values mean the defaults.
type Limits struct {
	// Requests and RequestBytes are how many requests, and how many bytes of them, may be without an answer before no
	// more are read: 20,000 and 64 MiB.
	Requests, RequestBytes int
	// OutBytes is how much may wait for the client before nothing more of it is read: 64 MiB. Patience is how long the
	// client may leave it so: 30 s.
	OutBytes int
	Patience time.Duration
	// Sessions is the number of sessions, 200,000; Channels that of channels, 10,000.
	Sessions, Channels int
}

func (l *Limits) ensureDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{{&l.Requests, 20_000}, {&l.RequestBytes, 64 << 20}, {&l.OutBytes, 64 << 20}, {&l.Sessions, 200_000},
		{&l.Channels, 10_000}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if l.Patience == 0 {
		l.Patience = 30 * time.Second
	}
}

// Options of a Server. All but Features, Limits, Memory and Logger are required.
type Options struct {
	Backend Backend
	// Etcd shares the checks and answers of etcd's API, Watch is etcd's Watch service.
	Etcd  *api.Services
	Watch pb.WatchServer
	// Election is asked to observe elections, Reads answers what is asked of queues.
	Election coordv1.ElectionServer
	Reads    recipesvc.Reads
	// Procedures are what requests of a session can name by their kind.
	Procedures []statemachine.Procedure
	// Features are what a hello may name; nil: coordv1.Features.
	Features map[string]uint32
	// Shard is the number of the keyspace. 0 means 1.
	Shard uint64
	// MemberID and the identity of History, as the cluster's id, go into the Welcome, as does MaxRequestBytes.
	MemberID        uint64
	History         *statemachine.History
	MaxRequestBytes int
	Limits          Limits
	// Memory bounds what all streams hold together; nil: it is not bounded.
	Memory *limit.Member
	// Conns are the connections of the gRPC server; nil: what waits for a client counts until gRPC has taken it.
	Conns *transit.Conns
	// Mirrors tells of entries.
	Mirrors *mirror.Mirrors
	// Streams hears from the state machine, Metrics gets the metrics.
	Streams *Streams
	Metrics prometheus.Registerer
	Logger  *zap.Logger
}

// Server serves coord.v1.Stream on one member.
type Server struct {
	coordv1.UnimplementedStreamServer
	opts    Options
	recipes map[coordv1.Kind]statemachine.Procedure
	renewer renewer
	metrics *metrics

	drain   context.Context // ends when the streams have to
	drained context.CancelFunc

	sessions atomic.Int64 // of all streams
}

// New makes the service and registers its metrics. Its owner registers it with a gRPC server that has Codec, and closes
// it.
func New(opts Options) (*Server, error) {
	opts.Limits.ensureDefaults()
	if opts.Memory == nil {
		opts.Memory = &limit.Member{}
	}
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	if opts.Shard == 0 {
		opts.Shard = 1
	}
	if opts.Features == nil {
		opts.Features = coordv1.Features
	}
	s := &Server{opts: opts, recipes: map[coordv1.Kind]statemachine.Procedure{}}
	for _, p := range opts.Procedures {
		if kind := p.Kind(); kind != coordv1.Kind_KIND_UNSPECIFIED {
			s.recipes[kind] = p
		}
	}
	s.renewer.submit = func(kind raftv1.Kind, body []byte, done func(statemachine.Result)) (cancel func()) {
		return opts.Backend.Submit(principal.Member(context.Background()), kind, body, 0, false, done)
	}
	s.drain, s.drained = context.WithCancel(context.Background())
	var err error
	s.metrics, err = newMetrics(opts.Metrics, s)
	return s, err
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { coordv1.RegisterStreamServer(r, s) }

// Close ends all streams with "server stopped", after what is under way was answered if that is quick. It does not wait
// for them: the gRPC server does.
func (s *Server) Close() {
	s.drained()
	s.renewer.close()
}

// Open serves one stream: see the package doc for its goroutines.
func (s *Server) Open(grpc grpc.BidiStreamingServer[coordv1.ClientFrame, coordv1.ServerFrame]) error {
	if s.drain.Err() != nil {
		return rpctypes.ErrGRPCStopped
	}
	st := newStream(s, grpc)
	s.opts.Streams.add(st)
	defer func() {
		s.opts.Streams.remove(st)
		s.renewer.forget(st)
	}()
	return st.serve()
}
