package api

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/coord/internal/netlimit"
	"github.com/coord-dev/coord/statemachine"
)

const (
	// receiveOverhead is what a message may be larger than MaxRequestBytes before gRPC refuses it, so that the service
	// can answer with etcd's error.
	receiveOverhead = 512 << 10
	// keepaliveMinTime is etcd's --grpc-keepalive-min-time; a client that pings more often is disconnected.
	keepaliveMinTime = 5 * time.Second
	// etcd's --grpc-keepalive-interval and -timeout.
	keepaliveInterval, keepaliveTimeout = 2 * time.Hour, 20 * time.Second
	// streamWorkers handle requests without growing a stack for each. A long-lived stream keeps one to itself, beyond
	// their number a request gets a goroutine of its own.
	streamWorkers = 128

	// maxStreams of one connection: more than any client has, and a bound for one that opens and resets them for ever,
	// whose handlers gRPC counts too. etcd has none unless told so.
	maxStreams = 100_000
	// maxHeaders bounds the metadata of a request, in bytes. gRPC's default is 16 MiB.
	maxHeaders = 64 << 10

	defaultQuota = 2 << 30
	defaultSlow  = 300 * time.Millisecond
)

// Keyspace is what the services of one keyspace work on. Register, QuotaBytes and SpoolDir are optional.
type Keyspace struct {
	// Shard is its number, by which calls name it.
	Shard   uint64
	Backend Backend
	// The identity of History goes into each header, as the id of the cluster. What asks about the keyspace waits until
	// it has begun.
	History *statemachine.History
	// Watch is etcd's Watch service.
	Watch pb.WatchServer
	// Register adds further services, which may use etcd's.
	Register func(grpc.ServiceRegistrar, *Services)
	// QuotaBytes is the size of the store from which on writes are refused. 0 is etcd's default of 2 GiB; negative:
	// none.
	QuotaBytes int64
	// SpoolDir is where a snapshot for a client is written first; empty: the system's directory for temporary files.
	SpoolDir string
}

// Options say how a Server serves, whatever the keyspace. Registry and Logger are required.
type Options struct {
	// GRPC are further options of the gRPC server, such as credentials.
	GRPC []grpc.ServerOption

	// MemberID goes into each header.
	MemberID uint64
	// ElectionTimeout sets the time requests may take, 5 s and twice it, and the smallest TTL of a lease.
	ElectionTimeout time.Duration
	// MaxRequestBytes bounds a request, MaxTxnOps each list of operations of a transaction.
	MaxRequestBytes, MaxTxnOps int
	// Memory bounds the calls that are under way; nil: they are not bounded.
	Memory *limit.Member
	// SlowRequest is how long a request may take before it is logged; 0: 300 ms.
	SlowRequest time.Duration

	// Registry gets the metrics and is what /metrics shows.
	Registry *prometheus.Registry
	Logger   *zap.Logger
}

func (o *Options) ensureDefaults() {
	if o.Memory == nil {
		o.Memory = &limit.Member{}
	}
	if o.SlowRequest == 0 {
		o.SlowRequest = defaultSlow
	}
}

// Server is etcd's API on one member: one gRPC server and the HTTP pages, for all of its keyspaces. The health of the
// member, and the pages, are about the first one.
type Server struct {
	opts    Options
	router  router
	system  *service // of the first keyspace
	metrics *metrics
	streams *leaderStreams
	health  *health.Server
	locals  []*clientv3.Client // of the lock and election services, by keyspace
	quotas  []*quota           // by keyspace
	grpc    *grpc.Server
	http    http.Handler
}

// New registers the metrics. Keyspaces are added by Serve, one at least, before the caller serves GRPC and HTTP and
// calls Run.
func New(opts Options) (*Server, error) {
	opts.ensureDefaults()
	m, err := newMetrics(opts.Registry)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts:    opts,
		metrics: m,
		streams: &leaderStreams{},
		health:  health.NewServer(),
	}
	s.grpc = NewGRPCServer(s.serverOptions()...)
	s.router.grpc = s.grpc
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	return s, nil
}

// Serve adds the services of a keyspace. The first one is for all calls that name none.
func (s *Server) Serve(k Keyspace) error {
	if k.QuotaBytes == 0 {
		k.QuotaBytes = defaultQuota
	}
	service := newService(&s.opts, &k)
	err := s.router.add(k, func(r grpc.ServiceRegistrar) { s.register(r, service, &k) })
	if err != nil {
		return err
	}
	if s.system == nil {
		s.system = service
		s.http = s.newHandler()
		s.setServing()
		s.metrics.rpc.init(s.grpc)
	}
	return nil
}

// GRPC is the server with all services; the caller serves and stops it.
func (s *Server) GRPC() *grpc.Server { return s.grpc }

// HTTP serves /version, /health, /livez, /readyz and /metrics.
func (s *Server) HTTP() http.Handler { return s.http }

// Run keeps the health service up to date, and ends the streams of clients that require a leader when there has been
// none for three election timeouts. It returns when ctx ends, with the health service at NOT_SERVING, the lock and
// election services closed, and no alarm being raised.
func (s *Server) Run(ctx context.Context) error {
	defer func() {
		for _, local := range s.locals {
			local.Close()
		}
		for _, q := range s.quotas {
			q.close()
		}
	}()
	defer s.health.Shutdown()
	tick := time.NewTicker(s.opts.ElectionTimeout / ticksPerTimeout)
	defer tick.Stop()
	for lost := 0; ; {
		s.setServing()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if lost++; s.system.backend.Status().Leader != 0 {
			lost = 0
		}
		if lost >= leaderLosses*ticksPerTimeout {
			s.streams.endAll()
		}
	}
}

// setServing sets the health of the whole server: a member without a leader can serve next to nothing.
func (s *Server) setServing() {
	now := grpc_health_v1.HealthCheckResponse_SERVING
	if s.system.backend.Status().Leader == 0 {
		now = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	s.health.SetServingStatus("", now)
}

func (s *Server) register(r grpc.ServiceRegistrar, service *service, k *Keyspace) {
	etcd := newServices(service, &s.opts, k)
	s.quotas = append(s.quotas, etcd.kv.quota)
	pb.RegisterKVServer(r, etcd.kv)
	pb.RegisterWatchServer(r, k.Watch)
	pb.RegisterLeaseServer(r, etcd.lease)
	pb.RegisterClusterServer(r, &clusterServer{service: service})
	pb.RegisterAuthServer(r, &authServer{service: service})
	pb.RegisterMaintenanceServer(r, &maintenanceServer{
		service: service, log: s.opts.Logger, quotaBytes: k.QuotaBytes, spoolDir: k.SpoolDir,
		backups: make(chan struct{}, maxBackups),
	})
	local := newLocalClient(etcd.kv, etcd.lease, k.Watch, s.opts.Logger)
	s.locals = append(s.locals, local)
	registerRecipes(r, local)
	if k.Register != nil {
		k.Register(r, etcd)
	}
}

// serverOptions are the limits of etcd's server and our chain of interceptors, the first outermost: the log and the
// metrics see what the gate refuses and what became of a panic, and may panic themselves.
func (s *Server) serverOptions() []grpc.ServerOption {
	g := &gate{
		router: &s.router, metrics: s.metrics, streams: s.streams, calls: newCalls(s.opts.Memory.Calls),
		timeout: timeout(&s.opts),
	}
	o := &observer{log: s.opts.Logger, slow: s.opts.SlowRequest}
	option := recovery.WithRecoveryHandlerContext(o.recovered)
	unary, stream := recovery.UnaryServerInterceptor(option), recovery.StreamServerInterceptor(option)
	return append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(s.opts.MaxRequestBytes + receiveOverhead),
		grpc.ChainUnaryInterceptor(unary, o.unary, s.metrics.rpc.unary, unary, g.unary),
		grpc.ChainStreamInterceptor(stream, o.stream, s.metrics.rpc.stream, stream, g.stream),
	}, s.opts.GRPC...)
}

// NewGRPCServer returns a server with the settings that any server of etcd clients needs; opts come last and win.
func NewGRPCServer(opts ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(netlimit.HandshakeTimeout),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
	}, opts...)...)
}
