package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// router hands each call to the services of the keyspace that its metadata name (coordv1.MetadataShard), or of the first
// one. Keyspaces have the same services. What is wrong with the metadata is said by the gate, which every call passes.
type router struct {
	grpc *grpc.Server

	mu     sync.RWMutex
	first  *route
	routes map[uint64]*route
}

// route is one keyspace, as what comes before its services sees it.
type route struct {
	shard   uint64
	backend Backend
	history *statemachine.History
	impls   map[string]any // its services, by name
}

// add makes the route of a keyspace. Its services are registered with registrar.
func (r *router) add(k Keyspace) (*route, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.routes[k.Shard] != nil {
		return nil, fmt.Errorf("shard %d is served already", k.Shard)
	}
	added := &route{shard: k.Shard, backend: k.Backend, history: k.History, impls: map[string]any{}}
	if r.routes == nil {
		r.routes = map[uint64]*route{}
	}
	if r.first == nil {
		r.first = added
	}
	r.routes[k.Shard] = added
	return added, nil
}

// of is the route of a call, and an error where the call names a shard that is not served.
func (r *router) of(ctx context.Context) (*route, error) {
	values := metadata.ValueFromIncomingContext(ctx, coordv1.MetadataShard)
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(values) == 0 {
		return r.first, nil
	}
	shard, err := strconv.ParseUint(values[0], 10, 64)
	if err == nil && r.routes[shard] != nil {
		return r.routes[shard], nil
	}
	return r.first, status.Errorf(codes.NotFound, "etcdserver: this member has no replica of shard %.30q, which the metadata %q "+
		"name; it serves the shards %v", values[0], coordv1.MetadataShard, slices.Sorted(maps.Keys(r.routes)))
}

// impl is the service of a call.
func (r *router) impl(ctx context.Context, service string) any {
	route, _ := r.of(ctx)
	return route.impls[service]
}

// registrar registers the services of one keyspace.
type registrar struct {
	*router
	route *route
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	r.mu.Lock()
	known := r.first.impls[desc.ServiceName] != nil
	r.route.impls[desc.ServiceName] = impl
	r.mu.Unlock()
	if !known {
		r.grpc.RegisterService(r.routed(desc), r.router)
	}
}

// routed is desc with handlers that find the service of each call.
func (r *router) routed(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	out := *desc
	out.HandlerType = (*any)(nil)
	out.Methods, out.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i, m := range desc.Methods {
		out.Methods[i].Handler = func(_ any, ctx context.Context, decode func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
			return m.Handler(r.impl(ctx, desc.ServiceName), ctx, decode, in)
		}
	}
	for i, m := range desc.Streams {
		out.Streams[i].Handler = func(_ any, stream grpc.ServerStream) error {
			return m.Handler(r.impl(stream.Context(), desc.ServiceName), stream)
		}
	}
	return &out
}
