// Package registry is the service registry: processes register instances of services, others find them.
//
//	services := registry.New(c, registry.Options{}) // c is a client.Client, or etcd's
//	reg, err := services.Register(ctx, registry.SessionsOf(c.Session), registry.Instance{
//		Service: "pay", Addr: "10.0.0.7:8080", Zone: "eu-1", Weight: 10, Tags: []string{"v2"},
//	})
//	defer reg.Deregister(ctx)
//
//	for update, err := range services.Watch(ctx, "pay", registry.Tag("v2"), registry.Passing()) {
//		if err != nil { ... } // ctx has ended: nothing else ends a watch
//		use(update.Instances())
//	}
//
// Package resolver makes a gRPC name resolver and a balancer of it. proto/coord/v1/registry.proto says which keys the
// records stand in, and package instances what they mean.
//
// # What is promised
//
// An instance lives as long as its session: it is gone within the session's TTL, plus what a failover takes, after its
// process died. Every instance in an update that is not marked Stale had a live lease at the update's revision. Every
// watch comes to see what is there, whatever failed in between: an error of any kind, a compaction, or a stopped member
// costs a read. What was known stays known meanwhile.
//
// A service does not vanish because of us: when most of its instances expire at once (Options.Limits), the last known
// ones are kept, marked Stale, for a bounded time. Who leaves says so, by Drain or Deregister, and is not missed.
// Whoever closes its session without Deregister, or deletes a key in etcd's layout, makes an instance look expired.
//
// # What is not
//
// An address that is given may be dead: for up to the TTL always, longer while Stale. A caller needs a timeout and a
// second try, which gRPC has. Two watchers see the same states in the same order, but not at the same time. An ID
// belongs to whoever registered it last.
package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/instances"
)

// Instance is one instance of a service. Those that an Update or List gives are shared: nobody may change them.
type Instance = instances.Instance

// Probe says how the cluster sees whether an instance answers.
type Probe = instances.Probe

// The kinds of probes: a connection is accepted, GET answers 2xx, grpc.health.v1 answers SERVING.
const (
	ProbeTCP  = instances.ProbeTCP
	ProbeHTTP = instances.ProbeHTTP
	ProbeGRPC = instances.ProbeGRPC
)

// State says whether an instance takes requests. A greater one is worse.
type State = instances.State

// The states of an instance.
const (
	StatePassing  = instances.Passing  // it takes requests
	StateStarting = instances.Starting // not yet
	StateDraining = instances.Draining // no new ones: it will leave
	StateCritical = instances.Critical // it cannot
)

// Limits say when instances that expire are kept.
type Limits = instances.Limits

// Client is what a Registry needs of a client: etcd's clientv3.Client and the SDK's client.Client are ones.
type Client interface {
	clientv3.KV
	Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan
	// ActiveConnection is for coord.v1.Registry, by which records are written; nil if the client is closed.
	ActiveConnection() *grpc.ClientConn
}

// Options of a Registry. Zero values stand for the defaults.
type Options struct {
	// Limits say when a watch keeps instances that expire.
	Limits Limits
	// Retry is the wait after a first failure. It doubles with each one that follows, up to 40 times as much. Default
	// 50 ms.
	Retry time.Duration
	// ReadTimeout bounds one attempt to read or write. Default 5 s.
	ReadTimeout time.Duration
	// Reread is how often a watch reads everything again, in case that something is broken that nobody knows of.
	// Default 5 min.
	Reread time.Duration
}

func (o *Options) ensureDefaults() {
	o.Limits.EnsureDefaults()
	if o.Retry == 0 {
		o.Retry = 50 * time.Millisecond
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = 5 * time.Second
	}
	if o.Reread == 0 {
		o.Reread = 5 * time.Minute
	}
}

// Registry is the registry of one cluster. Safe for concurrent use. It has nothing to close.
type Registry struct {
	client Client
	opts   Options
}

// New returns the registry that c leads to.
func New(c Client, opts Options) *Registry {
	opts.ensureDefaults()
	return &Registry{client: c, opts: opts}
}

// List reads the instances of a service, or of all if service is empty, as of one revision. They are sorted as those of
// an Update are. Unlike a watch it has no last known set: it fails if the cluster cannot be asked.
func (r *Registry) List(ctx context.Context, service string, opts ...ListOption) ([]*Instance, error) {
	w, err := newWatcher(r, service, opts)
	if err != nil {
		return nil, err
	}
	if err := w.read(ctx); err != nil {
		what := "all services"
		if service != "" {
			what = "service " + service
		}
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	w.diff()
	return w.instances(), nil
}

// Drain orders an instance of another process to take no more requests: its state becomes draining. by says who wants
// that, for people. The process learns of it by Registration.DrainOrdered; the order holds until Undrain or until the
// instance is registered anew by another process. ErrNotFound.
func (r *Registry) Drain(ctx context.Context, service, id, by string) error {
	order := &coordv1.ServiceOrder{
		State: coordv1.ServiceState_SERVICE_STATE_DRAINING, By: strings.ToValidUTF8(by, "?"),
		TimeUnixMs: time.Now().UnixMilli(),
	}
	return r.order(ctx, "drain", &coordv1.ServiceOrderRequest{Service: service, Id: id, Order: order})
}

// Undrain takes the order of Drain back. ErrNotFound if there is no such instance.
func (r *Registry) Undrain(ctx context.Context, service, id string) error {
	return r.order(ctx, "undrain", &coordv1.ServiceOrderRequest{Service: service, Id: id})
}

func (r *Registry) order(ctx context.Context, what string, req *coordv1.ServiceOrderRequest) error {
	err := write(ctx, r, coordv1.RegistryClient.Order, req)
	if err != nil {
		return fmt.Errorf("%s instance %s of service %s: %w", what, req.Id, req.Service, err)
	}
	return nil
}
