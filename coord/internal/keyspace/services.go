package keyspace

import (
	"context"
	"errors"

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
	"github.com/coord-dev/coord/coord/internal/watch"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/instances"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// ServicesOptions say what is served of a keyspace. Backend and Keyspace are required; the rest are api.Keyspace's.
type ServicesOptions struct {
	Backend    api.Backend
	Keyspace   *Keyspace
	QuotaBytes int64
	SpoolDir   string
}

// Services is everything that clients see of a keyspace on one member.
type Services struct {
	opts    ServicesOptions
	server  *Server
	mirrors *mirror.Mirrors
	recipes *recipesvc.Service
	streams *stream.Server
	watch   *watch.Server
}

// newServices makes the services, once the machine is open, and adds them to the server.
func newServices(server *Server, opts ServicesOptions) (*Services, error) {
	s := &Services{opts: opts, server: server}
	var err error
	if s.mirrors, err = mirror.New(s.source()); err != nil {
		return nil, err
	}
	s.watch = watch.NewServer(opts.Keyspace.Hub, watch.ServerOptions{
		Permit: func(ctx context.Context, _ *pb.WatchCreateRequest) error { return admit(ctx) },
		Header: s.fillHeader, ProgressInterval: server.opts.ProgressInterval,
		FragmentBytes: server.opts.MaxRequestBytes + 512<<10, Conns: &server.conns, Logger: s.logger("watch"),
	})
	var streamErr error
	err = server.API.Serve(api.Keyspace{
		Shard: opts.Keyspace.Shard, Backend: opts.Backend, History: opts.Keyspace.Machine.History(), Watch: s.watch,
		Register:   func(r grpc.ServiceRegistrar, etcd *api.Services) { streamErr = s.register(r, etcd) },
		QuotaBytes: opts.QuotaBytes, SpoolDir: opts.SpoolDir,
	})
	if err = errors.Join(err, streamErr); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *Services) logger(name string) *zap.Logger { return s.server.opts.Logger.Named(name) }

// register adds coord's own services to etcd's.
func (s *Services) register(r grpc.ServiceRegistrar, etcd *api.Services) (err error) {
	s.recipes = recipesvc.New(s.recipesBackend(func(bytes int) bool { return etcd.CheckNew(bytes) == nil }))
	s.recipes.Register(r)
	introspect.New(s.introspection()).Register(r)
	k, o := s.opts.Keyspace, &s.server.opts
	s.streams, err = stream.New(stream.Options{
		Backend: streamBackend{k, s.opts.Backend}, Etcd: etcd, Watch: s.watch,
		Election: s.recipes.Election(), Reads: recipesvc.Reads{LeaseAlive: k.LeaseAlive},
		Procedures: recipes.Procedures(), Shard: k.Shard, History: k.Machine.History(), MemberID: o.MemberID,
		MaxRequestBytes: o.MaxRequestBytes, Mirrors: s.mirrors, Limits: o.Streams, Memory: k.Memory,
		Conns: &s.server.conns, Streams: k.Streams, Metrics: k.Metrics(o.Registry), Logger: s.logger("stream"),
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

func (b streamBackend) Submit(
	ctx context.Context, kind raftv1.Kind, body []byte, weight int64, frees bool, done func(statemachine.Result),
) (cancel func()) {
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

// drain ends the streams, each with a status that says why.
func (s *Services) drain() {
	s.streams.Close()
	s.opts.Keyspace.Hub.Close()
	s.close()
}

// close ends what goes on in the background. It can be called twice, and after drain.
func (s *Services) close() {
	if s.recipes != nil {
		s.recipes.Close()
	}
	if s.streams != nil {
		s.streams.Close()
	}
	s.mirrors.Close()
}

func (s *Services) fillHeader(h *pb.ResponseHeader) {
	h.ClusterId, h.MemberId = s.opts.Keyspace.Machine.History().ID(), s.server.opts.MemberID
	h.RaftTerm = s.opts.Backend.Status().Term
}

// recipesBackend is the keyspace as the recipes' services see it. fits says whether there is space for something new.
func (s *Services) recipesBackend(fits func(bytes int) bool) recipesvc.Backend {
	return recipesvc.Backend{
		Propose:    s.opts.Backend.Propose,
		ReadIndex:  s.readIndex,
		View:       s.mirrorView,
		Subscribe:  s.subscribe,
		LeaseAlive: s.opts.Keyspace.LeaseAlive,
		Fits:       fits,
		CheckProbe: s.checkProbe,
		Mirrors:    s.mirrors,
		Logger:     s.logger("recipes"),
	}
}

// readIndex is the admission of who then reads from a copy that many share.
func (s *Services) readIndex(ctx context.Context) error {
	if err := admit(ctx); err != nil {
		return err
	}
	return s.opts.Backend.ReadIndex(ctx)
}

func (s *Services) checkProbe(p *instances.Probe) error {
	if s.server.opts.CheckProbe == nil {
		return nil
	}
	return s.server.opts.CheckProbe(p)
}

// source is the keyspace as the mirrors see it.
func (s *Services) source() mirror.Source {
	return mirror.Source{
		View:      s.mirrorView,
		Subscribe: s.subscribe,
		Logger:    s.logger("recipes"),
	}
}

func (s *Services) subscribe(
	ctx context.Context, key, end []byte, fn func(mirror.Delivery),
) (statemachine.Revision, func(), error) {
	return s.opts.Keyspace.Subscribe(ctx, key, end, func(d watch.Delivery) { fn(mirror.Delivery(d)) })
}

func (s *Services) mirrorView(ctx context.Context) (mirror.View, error) {
	v, err := s.opts.Keyspace.Read(ctx)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// introspection is the member as introspection sees it.
func (s *Services) introspection() introspect.Backend {
	return introspect.Backend{
		Propose:   s.opts.Backend.Propose,
		ReadIndex: s.opts.Backend.ReadIndex,
		View: func(ctx context.Context) (introspect.View, error) {
			v, err := s.opts.Keyspace.Read(ctx)
			if err != nil {
				return nil, err
			}
			return v, nil
		},
		Remaining: func(id statemachine.LeaseID) int64 {
			l, _, ok := s.opts.Keyspace.Machine.Lease(id)
			if !ok {
				return 0
			}
			return s.opts.Keyspace.LeaseRemaining(l)
		},
		Logger: s.logger("introspect"),
	}
}
