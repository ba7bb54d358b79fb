package keyspace

import (
	"context"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/coord-dev/coord/coord/internal/api"
	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/coord/internal/stream"
	"github.com/coord-dev/coord/coord/internal/transit"
	"github.com/coord-dev/coord/proto/instances"
)

// ServerOptions are what all keyspaces of a member are served with. Registry and Logger are required; most of the rest
// are api.Options'.
type ServerOptions struct {
	MemberID        uint64
	ElectionTimeout time.Duration
	MaxRequestBytes int
	MaxTxnOps       int
	// ProgressInterval is the time between progress notifications of watches; 0: the default.
	ProgressInterval time.Duration
	// Streams bound native streams.
	Streams stream.Limits
	// CheckProbe says why members may not probe the target of an instance; nil: they may probe all.
	CheckProbe func(*instances.Probe) error
	// GRPC are further options of the gRPC server.
	GRPC     []grpc.ServerOption
	Memory   *limit.Member
	Registry *prometheus.Registry
	Logger   *zap.Logger
}

// Server is what a member's clients connect to: one gRPC server for all of its keyspaces.
type Server struct {
	API           *api.Server
	opts          ServerOptions
	conns         transit.Conns
	keyspaces     []*Services
	startDraining context.CancelFunc
}

// NewServer makes the server. The caller adds keyspaces, then serves API.GRPC and API.HTTP, runs API.Run, and closes it
// in the end.
func NewServer(opts ServerOptions) (*Server, error) {
	draining, startDraining := context.WithCancel(context.Background())
	s := &Server{opts: opts, startDraining: startDraining}
	var err error
	s.API, err = api.New(api.Options{
		GRPC: append(opts.GRPC, grpc.ChainStreamInterceptor(endOnDrain(draining)),
			grpc.ForceServerCodecV2(stream.Codec(opts.Logger))),
		MemberID: opts.MemberID, ElectionTimeout: opts.ElectionTimeout,
		MaxRequestBytes: opts.MaxRequestBytes, MaxTxnOps: opts.MaxTxnOps, Memory: opts.Memory,
		Registry: opts.Registry, Logger: opts.Logger.Named("api"),
	})
	if err != nil {
		startDraining()
		return nil, err
	}
	return s, nil
}

// Serve adds the services of a keyspace, whose machine is open, before clients are let in. The first one is for calls
// that name none.
func (s *Server) Serve(opts ServicesOptions) error {
	services, err := newServices(s, opts)
	if err == nil {
		s.keyspaces = append(s.keyspaces, services)
	}
	return err
}

// Listen returns a listener of the gRPC server, whose clients are followed as far as what they have not read.
func (s *Server) Listen(l net.Listener) net.Listener { return s.conns.Listen(l) }

// Drain ends the streams, each with a status that says why, and lets the other requests finish until ctx ends. The
// caller has stopped accepting clients.
func (s *Server) Drain(ctx context.Context) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.API.GRPC().GracefulStop()
	}()
	s.startDraining()
	for _, k := range s.keyspaces {
		k.drain()
	}
	select {
	case <-stopped:
	case <-ctx.Done():
		s.API.GRPC().Stop()
		<-stopped
	}
}

// Close ends what goes on in the background. It can be called twice, and after Drain.
func (s *Server) Close() {
	s.startDraining()
	for _, k := range s.keyspaces {
		k.close()
	}
}
