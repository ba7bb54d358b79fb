package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// router hands each call to the services of the keyspace that its metadata name (coordv1.MetadataShard), or of the
// first one. Keyspaces have the same services. What is wrong with the metadata is said by the gate, which every call
// passes.
type router struct {
	grpc   *grpc.Server
	adding sync.Mutex // one at a time
	routes atomic.Pointer[routes]
}

// routes are the keyspaces that are served. They never change: another one makes others.
type routes struct {
	first   *route
	byShard map[uint64]*route
}

// route is one keyspace, as what comes before its services sees it.
type route struct {
	shard   uint64
	backend Backend
	history *statemachine.History
	impls   map[string]any // its services, by name
}

// add serves a keyspace, whose services register registers.
func (r *router) add(k Keyspace, register func(grpc.ServiceRegistrar)) error {
	r.adding.Lock()
	defer r.adding.Unlock()
	added := &route{shard: k.Shard, backend: k.Backend, history: k.History, impls: map[string]any{}}
	next := &routes{first: added, byShard: map[uint64]*route{k.Shard: added}}
	if before := r.routes.Load(); before != nil {
		if before.byShard[k.Shard] != nil {
			return fmt.Errorf("shard %d is served already", k.Shard)
		}
		next.first = before.first
		maps.Copy(next.byShard, before.byShard)
	}
	register(registrar{r, added})
	r.routes.Store(next)
	return nil
}

// of is the route of a call, and an error where the call names a shard that is not served, or several: who adds one to
// metadata that name another would be in the first, and the locks taken there keep out nobody in the second.
func (r *router) of(ctx context.Context) (*route, error) {
	routes := r.routes.Load()
	values := metadata.ValueFromIncomingContext(ctx, coordv1.MetadataShard)
	if len(values) == 0 {
		return routes.first, nil
	}
	if slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
		return routes.first, status.Errorf(codes.InvalidArgument,
			"etcdserver: the metadata %q name several shards: %.60q", coordv1.MetadataShard, values)
	}
	shard, err := strconv.ParseUint(values[0], 10, 64)
	if err == nil && routes.byShard[shard] != nil {
		return routes.byShard[shard], nil
	}
	return routes.first, status.Errorf(codes.NotFound,
		"etcdserver: this member has no replica of shard %.30q, which the metadata %q name; it serves the shards %v",
		values[0], coordv1.MetadataShard, slices.Sorted(maps.Keys(routes.byShard)))
}

// overtaken says whether a keyspace was added between the choice of a call's service, by which the handler is found,
// and the gate, which looks for the route again: then the service is another keyspace's.
func (r *route) overtaken(info *grpc.UnaryServerInfo) bool {
	service, _, _ := strings.Cut(strings.TrimPrefix(info.FullMethod, "/"), "/")
	impl, routed := r.impls[service]
	return routed && impl != info.Server
}

// errOvertaken: nothing was done. Clients try again.
var errOvertaken = status.Error(codes.Unavailable, "etcdserver: the shard was only now added to this member")

// impl is the service of a call.
func (r *router) impl(ctx context.Context, service string) any {
	if routes := r.routes.Load(); len(routes.byShard) == 1 {
		return routes.first.impls[service] // the gate reads the metadata
	}
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
	r.route.impls[desc.ServiceName] = impl
	if r.routes.Load() == nil { // the first keyspace
		r.grpc.RegisterService(r.routed(desc), r.router)
	}
}

// routed is desc with handlers that find the service of each call.
func (r *router) routed(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	out := *desc
	out.HandlerType = (*any)(nil)
	out.Methods, out.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i, m := range desc.Methods {
		out.Methods[i].Handler = func(_ any, ctx context.Context, decode func(any) error,
			in grpc.UnaryServerInterceptor) (any, error) {
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
