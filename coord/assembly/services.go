package assembly

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/coord-dev/coord/coord/api"
	"github.com/coord-dev/coord/coord/watch"
	"github.com/coord-dev/coord/recipes/service"
	"github.com/coord-dev/coord/statemachine"
)

// ServicesOptions say what is served. Backend, Replica, Registry and Logger are required; the rest are api.Options'.
type ServicesOptions struct {
	Backend             api.Backend
	Replica             *Replica
	ClusterID, MemberID uint64
	ElectionTimeout     time.Duration
	MaxRequestBytes     int
	MaxTxnOps           int
	QuotaBytes          int64
	SpoolDir            string
	// ProgressInterval is the time between progress notifications of watches; 0: the default.
	ProgressInterval time.Duration
	// GRPC are further options of the gRPC server.
	GRPC     []grpc.ServerOption
	Registry *prometheus.Registry
	Logger   *zap.Logger
}

// Services is everything that clients see of a member.
type Services struct {
	API     *api.Server
	recipes *service.Service
	hub     *watch.Hub

	startDraining context.CancelFunc
}

// NewServices makes the services. The caller serves API.GRPC and API.HTTP, runs API.Run, and closes them in the end.
func NewServices(opts ServicesOptions) (*Services, error) {
	draining, startDraining := context.WithCancel(context.Background())
	s := &Services{
		recipes: service.New(opts.recipes()), hub: opts.Replica.Hub, startDraining: startDraining,
	}
	var err error
	s.API, err = api.New(api.Options{
		Backend: opts.Backend, ClusterID: opts.ClusterID, MemberID: opts.MemberID,
		Watch: watch.NewServer(s.hub, watch.ServerOptions{
			Header: opts.fillHeader, ProgressInterval: opts.ProgressInterval,
			FragmentBytes: opts.MaxRequestBytes + 512<<10, Logger: opts.Logger.Named("watch"),
		}),
		Register:        s.register,
		GRPC:            append(opts.GRPC, grpc.ChainStreamInterceptor(endOnDrain(draining))),
		ElectionTimeout: opts.ElectionTimeout,
		MaxRequestBytes: opts.MaxRequestBytes, MaxTxnOps: opts.MaxTxnOps,
		QuotaBytes: opts.QuotaBytes, SpoolDir: opts.SpoolDir,
		Registry: opts.Registry, Logger: opts.Logger.Named("api"),
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// register adds coord's own services to etcd's.
func (s *Services) register(r grpc.ServiceRegistrar, _ *api.Services) { s.recipes.Register(r) }

// Drain ends the streams, each with a status that says why, and lets the other requests finish until ctx ends. The caller
// has stopped accepting clients.
func (s *Services) Drain(ctx context.Context) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.API.GRPC().GracefulStop()
	}()
	s.startDraining()
	s.hub.Close()
	s.recipes.Close()
	select {
	case <-stopped:
	case <-ctx.Done():
		s.API.GRPC().Stop()
		<-stopped
	}
}

// Close ends what goes on in the background. It can be called twice, and after Drain.
func (s *Services) Close() {
	s.startDraining()
	s.recipes.Close()
}

func (o *ServicesOptions) fillHeader(h *pb.ResponseHeader) {
	h.ClusterId, h.MemberId, h.RaftTerm = o.ClusterID, o.MemberID, o.Backend.Status().Term
}

// recipes is the member as the recipes' services see it.
func (o *ServicesOptions) recipes() service.Backend {
	return service.Backend{
		Propose:   o.Backend.Propose,
		ReadIndex: o.Backend.ReadIndex,
		View: func() (service.View, error) {
			v, err := o.Replica.Machine.View()
			if err != nil {
				return nil, err
			}
			return v, nil
		},
		LeaseAlive: o.Replica.LeaseAlive,
		Subscribe: func(key, end []byte, fn func(service.Delivery)) (statemachine.Revision, func(), error) {
			return o.Replica.Hub.Subscribe(key, end, func(d watch.Delivery) { fn(service.Delivery(d)) })
		},
		Logger: o.Logger.Named("recipes"),
	}
}
