package keyspace

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/coord-dev/coord/coord/internal/api"
	"github.com/coord-dev/coord/coord/internal/configsvc"
	"github.com/coord-dev/coord/coord/internal/introspect"
	"github.com/coord-dev/coord/coord/internal/mirror"
	"github.com/coord-dev/coord/coord/internal/propose"
	"github.com/coord-dev/coord/coord/internal/recipesvc"
	"github.com/coord-dev/coord/coord/internal/stream"
	"github.com/coord-dev/coord/coord/internal/transit"
	"github.com/coord-dev/coord/coord/internal/watch"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/instances"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// ServicesOptions say what is served. Backend, Keyspace, Registry and Logger are required; the rest are api.Options'.
type ServicesOptions struct {
	Backend         api.Backend
	Keyspace        *Keyspace
	MemberID        uint64
	ElectionTimeout time.Duration
	MaxRequestBytes int
	MaxTxnOps       int
	QuotaBytes      int64
	SpoolDir        string
	// ProgressInterval is the time between progress notifications of watches; 0: the default.
	ProgressInterval time.Duration
	// Streams bound native streams.
	Streams stream.Limits
	// CheckProbe says why members may not probe the target of an instance; nil: they may probe all.
	CheckProbe func(*instances.Probe) error
	// GRPC are further options of the gRPC server.
	GRPC     []grpc.ServerOption
	Registry *prometheus.Registry
	Logger   *zap.Logger
}

// Services is everything that clients see of a member.
type Services struct {
	API     *api.Server
	opts    ServicesOptions
	mirrors *mirror.Mirrors
	recipes *recipesvc.Service
	current *recipesvc.Service // answers from what is applied
	streams *stream.Server
	watch   *watch.Server
	hub     *watch.Hub
	conns   *transit.Conns

	startDraining context.CancelFunc
}

// NewServices makes the services, once the machine is open. The caller serves API.GRPC and API.HTTP, runs API.Run, and closes them in the end.
func NewServices(opts ServicesOptions) (*Services, error) {
	mirrors, err := mirror.New(opts.mirrors())
	if err != nil {
		return nil, err
	}
	draining, startDraining := context.WithCancel(context.Background())
	conns := &transit.Conns{}
	s := &Services{
		opts: opts, mirrors: mirrors, current: recipesvc.New(opts.current(mirrors)), conns: conns,
		watch: watch.NewServer(opts.Keyspace.Hub, watch.ServerOptions{
			Permit: func(ctx context.Context, _ *pb.WatchCreateRequest) error { return admit(ctx) },
			Header: opts.fillHeader, ProgressInterval: opts.ProgressInterval,
			FragmentBytes: opts.MaxRequestBytes + 512<<10, Conns: conns, Logger: opts.Logger.Named("watch"),
		}),
		hub: opts.Keyspace.Hub, startDraining: startDraining,
	}
	var streamErr error
	s.API, err = api.New(api.Options{
		Backend: opts.Backend, History: opts.Keyspace.Machine.History(), MemberID: opts.MemberID,
		Watch:           s.watch,
		Register:        func(r grpc.ServiceRegistrar, etcd *api.Services) { streamErr = s.register(r, etcd) },
		GRPC:            append(opts.GRPC, grpc.ChainStreamInterceptor(endOnDrain(draining)), grpc.ForceServerCodecV2(stream.Codec(opts.Logger))),
		ElectionTimeout: opts.ElectionTimeout,
		MaxRequestBytes: opts.MaxRequestBytes, MaxTxnOps: opts.MaxTxnOps,
		QuotaBytes: opts.QuotaBytes, SpoolDir: opts.SpoolDir, Memory: opts.Keyspace.Memory,
		Registry: opts.Registry, Logger: opts.Logger.Named("api"),
	})
	if err = errors.Join(err, streamErr); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Listen returns a listener of the gRPC server, whose clients are followed as far as what they have not read.
func (s *Services) Listen(l net.Listener) net.Listener { return s.conns.Listen(l) }

// register adds coord's own services to etcd's.
func (s *Services) register(r grpc.ServiceRegistrar, etcd *api.Services) (err error) {
	s.recipes = recipesvc.New(s.opts.recipes(s.mirrors, func(bytes int) bool { return etcd.CheckNew(bytes) == nil }))
	s.recipes.Register(r)
	introspect.New(s.opts.introspection()).Register(r)
	s.streams, err = stream.New(stream.Options{
		Backend: streamBackend{s.opts.Keyspace, s.opts.Backend}, Etcd: etcd, Watch: s.watch,
		Election: s.recipes.Election(), CurrentLock: s.current.Lock(), CurrentElection: s.current.Election(),
		Procedures: recipes.Procedures(), History: s.opts.Keyspace.Machine.History(), MemberID: s.opts.MemberID, MaxRequestBytes: s.opts.MaxRequestBytes,
		Mirrors: s.mirrors, Limits: s.opts.Streams, Memory: s.opts.Keyspace.Memory, Conns: s.conns, Streams: s.opts.Keyspace.Streams, Metrics: s.opts.Registry, Logger: s.opts.Logger.Named("stream"),
	})
	s.streams.Register(r)
	configsvc.New(etcd, s.opts.Backend.Propose).Register(r)
	return err
}

// streamBackend is the member as the native streams see it.
type streamBackend struct {
	*Keyspace
	log api.Log
}

func (b streamBackend) Submit(ctx context.Context, kind raftv1.Kind, body []byte, weight int64, frees bool, done func(statemachine.Result)) (cancel func()) {
	if kind == raftv1.KindSessionOpen {
		return b.Opens.Submit(ctx, kind, body, propose.Opening(len(body)), false, done)
	}
	return b.Lane.Submit(ctx, kind, body, weight+b.weightOf(kind, body), frees, done)
}

func (b streamBackend) ReadIndex(ctx context.Context) error { return b.log.ReadIndex(ctx) }

func (b streamBackend) Session(id statemachine.LeaseID) (statemachine.SessionInfo, bool) {
	return b.Machine.Session(id)
}

func (b streamBackend) Attached(stream uint64, id statemachine.LeaseID, created uint64) bool {
	return b.Machine.Attached(stream, id, created)
}

func (b streamBackend) Version() raftv1.Version { return b.Machine.Version() }

func (b streamBackend) CheckRequest(kind coordv1.Kind) error { return b.Machine.CheckRequest(kind) }

// Drain ends the streams, each with a status that says why, and lets the other requests finish until ctx ends. The caller
// has stopped accepting clients.
func (s *Services) Drain(ctx context.Context) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.API.GRPC().GracefulStop()
	}()
	s.startDraining()
	s.streams.Close()
	s.hub.Close()
	s.recipes.Close()
	s.current.Close()
	s.mirrors.Close()
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
	if s.recipes != nil {
		s.recipes.Close()
	}
	s.current.Close()
	if s.streams != nil {
		s.streams.Close()
	}
	s.mirrors.Close()
}

func (o *ServicesOptions) fillHeader(h *pb.ResponseHeader) {
	h.ClusterId, h.MemberId, h.RaftTerm = o.Keyspace.Machine.History().ID(), o.MemberID, o.Backend.Status().Term
}

// current is recipes for who has waited for ReadIndex already.
func (o *ServicesOptions) current(mirrors *mirror.Mirrors) recipesvc.Backend {
	b := o.recipes(mirrors, func(int) bool { return true }) // it only reads
	b.ReadIndex = admit
	return b
}

// recipes is the member as the recipes' services see it. fits says whether there is space for something new.
func (o *ServicesOptions) recipes(mirrors *mirror.Mirrors, fits func(bytes int) bool) recipesvc.Backend {
	return recipesvc.Backend{
		Propose:    o.Backend.Propose,
		ReadIndex:  o.readIndex,
		View:       o.mirrorView,
		Subscribe:  o.subscribe,
		LeaseAlive: o.Keyspace.LeaseAlive,
		Fits:       fits,
		CheckProbe: o.checkProbe,
		Mirrors:    mirrors,
		Logger:     o.Logger.Named("recipes"),
	}
}

// readIndex is the admission of who then reads from a copy that many share.
func (o *ServicesOptions) readIndex(ctx context.Context) error {
	if err := admit(ctx); err != nil {
		return err
	}
	return o.Backend.ReadIndex(ctx)
}

func (o *ServicesOptions) checkProbe(p *instances.Probe) error {
	if o.CheckProbe == nil {
		return nil
	}
	return o.CheckProbe(p)
}

// mirrors is the member as the mirrors see it.
func (o *ServicesOptions) mirrors() mirror.Source {
	return mirror.Source{
		View:      o.mirrorView,
		Subscribe: o.subscribe,
		Logger:    o.Logger.Named("recipes"),
	}
}

func (o *ServicesOptions) subscribe(ctx context.Context, key, end []byte, fn func(mirror.Delivery)) (statemachine.Revision, func(), error) {
	return o.Keyspace.Subscribe(ctx, key, end, func(d watch.Delivery) { fn(mirror.Delivery(d)) })
}

func (o *ServicesOptions) mirrorView(ctx context.Context) (mirror.View, error) {
	v, err := o.Keyspace.Read(ctx)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// introspection is the member as introspection sees it.
func (o *ServicesOptions) introspection() introspect.Backend {
	return introspect.Backend{
		Propose:   o.Backend.Propose,
		ReadIndex: o.Backend.ReadIndex,
		View: func(ctx context.Context) (introspect.View, error) {
			v, err := o.Keyspace.Read(ctx)
			if err != nil {
				return nil, err
			}
			return v, nil
		},
		Remaining: func(id statemachine.LeaseID) int64 {
			l, _, ok := o.Keyspace.Machine.Lease(id)
			if !ok {
				return 0
			}
			return o.Keyspace.LeaseRemaining(l)
		},
		Logger: o.Logger.Named("introspect"),
	}
}
