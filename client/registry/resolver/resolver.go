// Package resolver makes gRPC find services in the registry, and balance between their instances by weight and zone.
//
//	services := registry.New(c, registry.Options{})
//	conn, err := grpc.NewClient("coord:///pay?tag=v2&near=eu-1,eu-2",
//		grpc.WithResolvers(resolver.NewBuilder(services)), grpc.WithTransportCredentials(...))
//
// A target is coord:///SERVICE, path-escaped, and any of these parameters:
//
//	tag=TAG     instances that have the tag; several times: all of them
//	zone=ZONE   instances of the zone, and no others
//	near=ZONES  choose the balancer of this package: the first of these zones, separated by commas, in which an
//	            instance can be reached takes all requests; if none can, the other zones do
//
// Instances count when they are passing; those of etcd's naming/endpoints layout are found, too. An address that stands
// in both is taken as the registry has it.
//
// # What is promised
//
// The addresses converge to what is registered, whatever fails: any error of a watch costs a read of everything, and
// any error of that another try. What was known last stays in use meanwhile, and a mass expiry is survived as package
// registry says. gRPC's wish to resolve again leads to a new read and a new watch.
//
// # The balancer
//
// Without near, the target's service config decides. The balancer can be asked for there, too:
//
//	{"loadBalancingConfig": [{"coord_weighted_zone": {"near": ["eu-1", "eu-2"]}}]}
//
// An instance with twice the weight gets twice the requests; each request is drawn by itself.
package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/coord-dev/coord/client/registry"
)

// Scheme is that of the targets.
const Scheme = "coord"

// ErrNoInstances: nothing is registered that the target means. RPCs fail with it.
var ErrNoInstances = errors.New("no instance of the service is passing")

// NewBuilder returns a builder for grpc.WithResolvers.
func NewBuilder(services *registry.Registry) resolver.Builder { return &builder{services} }

type builder struct{ services *registry.Registry }

// Scheme implements resolver.Builder.
func (b *builder) Scheme() string { return Scheme }

// Build implements resolver.Builder. The errors say what is wrong with the target.
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver,
	error) {
	t, err := parse(target.URL)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", target.URL.String(), err)
	}
	r := &watching{t: t, cc: cc, refresh: make(chan struct{}, 1)}
	if len(t.near) > 0 {
		if r.config = cc.ParseServiceConfig(serviceConfig(t.near)); r.config.Err != nil {
			return nil, fmt.Errorf("target %s: %w", target.URL.String(), r.config.Err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.running.Go(func() { r.run(ctx, b.services) })
	return r, nil
}

// target is what a target means.
type target struct {
	service    string
	tags, near []string
	zone       string
}

func parse(u url.URL) (target, error) {
	service := u.Path
	if service == "" {
		service = u.Opaque
	}
	t := target{service: strings.TrimPrefix(service, "/")}
	if t.service == "" {
		return target{}, fmt.Errorf("%w: no service", registry.ErrBadName)
	}
	for key, values := range u.Query() {
		switch key {
		case "tag":
			t.tags = values
		case "zone":
			t.zone = values[0]
		case "near":
			t.near = strings.Split(values[0], ",")
		default:
			return target{}, fmt.Errorf("unknown parameter %q: there are tag, zone and near", key)
		}
	}
	return t, nil
}

func serviceConfig(near []string) string {
	zones, _ := json.Marshal(near) // strings: it cannot fail
	return fmt.Sprintf(`{"loadBalancingConfig":[{%q:{"near":%s}}]}`, BalancerName, zones)
}

// watching is the resolver of one connection.
type watching struct {
	t       target
	cc      resolver.ClientConn
	config  *serviceconfig.ParseResult // nil: the application's
	refresh chan struct{}
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// ResolveNow implements resolver.Resolver.
func (r *watching) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.refresh <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (r *watching) Close() {
	r.cancel()
	r.running.Wait()
}

func (r *watching) run(ctx context.Context, services *registry.Registry) {
	for update, err := range services.Watch(ctx, r.t.service, registry.Endpoints(), registry.Refresh(r.refresh)) {
		switch {
		case err != nil:
			if ctx.Err() == nil { // the service's name
				r.cc.ReportError(err)
			}
		case update.Revision == 0:
			r.cc.ReportError(fmt.Errorf("resolve service %s: %w", r.t.service, update.Err))
		default:
			r.tell(update.Instances())
		}
	}
}

// tell hands on what is registered. That gRPC does not like it means nothing here: there will be more when there is.
func (r *watching) tell(all []*registry.Instance) {
	endpoints := r.t.endpoints(all)
	if len(endpoints) == 0 {
		// before the state: it tells the RPCs why
		r.cc.ReportError(fmt.Errorf("service %s: %w", r.t.service, ErrNoInstances))
	}
	_ = r.cc.UpdateState(resolver.State{Endpoints: endpoints, ServiceConfig: r.config})
}

// endpoints are the instances that the target means, one for each address, in the order of addresses.
func (t *target) endpoints(all []*registry.Instance) []resolver.Endpoint {
	byAddr := make(map[string]*registry.Instance, len(all))
	for _, in := range all {
		if have := byAddr[in.Addr]; have == nil || before(in, have) {
			byAddr[in.Addr] = in
		}
	}
	endpoints := []resolver.Endpoint{} // not nil, which would mean that there are Addresses instead
	for _, addr := range slices.Sorted(maps.Keys(byAddr)) {
		in := byAddr[addr]
		if in.State != registry.StatePassing || t.zone != "" && in.Zone != t.zone ||
			slices.ContainsFunc(t.tags, func(tag string) bool { return !in.HasTag(tag) }) {
			continue
		}
		endpoints = append(endpoints, resolver.Endpoint{
			Addresses: []resolver.Address{{Addr: addr}}, Attributes: attributes.New(instanceKey{}, instance{in}),
		})
	}
	return endpoints
}

// before says which of two instances at one address speaks for it: one that lives, then one of the registry, then the
// better one.
func before(a, b *registry.Instance) bool {
	if a.Stale != b.Stale {
		return b.Stale
	}
	if a.Foreign != b.Foreign {
		return b.Foreign
	}
	return a.State < b.State
}

// instanceKey is the key of the attribute of an endpoint.
type instanceKey struct{}

// instance is an attribute. gRPC compares attributes by Equal.
type instance struct{ *registry.Instance }

// Equal makes instances of one revision equal.
func (i instance) Equal(other any) bool {
	o, ok := other.(instance)
	return ok && o.ID == i.ID && o.Same(i.Instance)
}

// InstanceOf returns the instance that an endpoint is, with its weight, zone, tags, metadata and load; nil if this
// package's resolver did not make it. It is shared: nobody may change it.
func InstanceOf(e resolver.Endpoint) *registry.Instance {
	in, _ := e.Attributes.Value(instanceKey{}).(instance)
	return in.Instance
}
