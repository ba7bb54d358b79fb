package coordtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/internal/propose"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/principal"
)

// asNobody takes from each call who asks, as a way in would that forgot to say it.
func asNobody() []grpc.ServerOption {
	nobody := func(ctx context.Context) context.Context { return principal.For(ctx, context.Background()) }
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo,
			handler grpc.UnaryHandler) (any, error) {
			return handler(nobody(ctx), req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo,
			handler grpc.StreamHandler) error {
			return handler(srv, &middleware.WrappedServerStream{ServerStream: ss, WrappedContext: nobody(ss.Context())})
		}),
	}
}

// public are the methods that say nothing of the keyspace.
var public = []string{
	pb.Cluster_MemberList_FullMethodName, pb.Maintenance_Defragment_FullMethodName,
	pb.Auth_AuthStatus_FullMethodName, pb.Auth_AuthDisable_FullMethodName, // there is nothing to disable
	coordv1.Stream_Open_FullMethodName, // it is welcomed; what is asked on it is refused, see TestNobodyReadsOnAStream
}

// outcomes calls each method that a server has with some requests, and returns what became of each.
func outcomes(t *testing.T, options []grpc.ServerOption) map[string]error {
	t.Helper()
	fake, err := startFake(func(l propose.Log) propose.Log { return l }, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	conn, err := grpc.NewClient(fake.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	all := map[string]error{}
	for service, info := range fake.services.API.GRPC().GetServiceInfo() {
		if strings.HasPrefix(service, "grpc.") {
			continue
		}
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range info.Methods {
			m := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method.Name))
			name := fmt.Sprintf("/%s/%s", service, method.Name)
			for i, request := range requests(t, m) {
				all[fmt.Sprint(name, " ", i)] = first(t, conn, name, request, m)
			}
		}
	}
	return all
}

// requests are some that a method may take.
func requests(t *testing.T, m protoreflect.MethodDescriptor) []proto.Message {
	t.Helper()
	of := func(fill func(protoreflect.Message)) proto.Message {
		message, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
		if err != nil {
			t.Fatal(err)
		}
		request := message.New()
		fill(request)
		return request.Interface()
	}
	texts := func(m protoreflect.Message) {
		for i := range m.Descriptor().Fields().Len() {
			switch fd := m.Descriptor().Fields().Get(i); {
			case fd.IsList() || fd.IsMap():
			case fd.Kind() == protoreflect.StringKind:
				m.Set(fd, protoreflect.ValueOfString("a"))
			case fd.Kind() == protoreflect.BytesKind && fd.Name() == "key":
				m.Set(fd, protoreflect.ValueOfBytes([]byte("a")))
			case fd.Message() != nil && fd.ContainingOneof() != nil &&
				fd.Message().FullName() == "etcdserverpb.WatchCreateRequest":
				m.Set(fd, protoreflect.ValueOfMessage((&pb.WatchCreateRequest{Key: []byte("a")}).ProtoReflect()))
			}
		}
	}
	return []proto.Message{of(texts), of(func(protoreflect.Message) {}),
		of(func(m protoreflect.Message) { fill(m, 3) })}
}

// first is the error that a method answers with, nil if it answers something else, or is about to.
func first(
	t *testing.T, conn *grpc.ClientConn, name string, request proto.Message, m protoreflect.MethodDescriptor,
) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	desc := &grpc.StreamDesc{ServerStreams: m.IsStreamingServer(), ClientStreams: m.IsStreamingClient()}
	stream, err := conn.NewStream(ctx, desc, name)
	if err != nil {
		return err
	}
	_ = stream.SendMsg(request)
	if !m.IsStreamingClient() {
		_ = stream.CloseSend()
	}
	of, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		t.Fatal(err)
	}
	response := of.New().Interface()
	err = stream.RecvMsg(response)
	if watched, ok := response.(*pb.WatchResponse); ok && err == nil && watched.Canceled {
		return fmt.Errorf("canceled: %s", watched.CancelReason)
	}
	return err
}

// TestNobodyIsAnswered: a call for which nobody is named learns nothing of the keyspace and changes nothing, whatever
// method it is of.
func TestNobodyIsAnswered(t *testing.T) {
	somebody, nobody := outcomes(t, asUser()), outcomes(t, asNobody())
	answered := map[string]bool{}
	for request, err := range somebody {
		method, _, _ := strings.Cut(request, " ")
		if err != nil || slices.Contains(public, method) {
			continue
		}
		answered[method] = true
		if errors.Is(nobody[request], io.EOF) {
			continue // etcd's Observe ends where it cannot read, and has told nothing
		}
		if got := status.Convert(nobody[request]).Message(); !strings.Contains(got, "nobody is named") &&
			!strings.Contains(got, "permission denied") {
			t.Errorf("%s: nobody gets %v: it does not pass the admission", request, nobody[request])
		}
	}
	t.Logf("%d methods were asked for what they do", len(answered))
	if len(answered) < 35 {
		t.Errorf("only %d methods answered somebody: %v", len(answered), somebody)
	}
}

// TestNobodyReadsOnAStream: nor does a stream for which nobody is named.
func TestNobodyReadsOnAStream(t *testing.T) {
	fake, err := startFake(func(l propose.Log) propose.Log { return l }, asNobody()...)
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	c, err := client.New(client.Config{Endpoints: []string{fake.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	etcd, err := c.Etcd()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for what, do := range map[string]func() error{
		"get":   func() error { _, err := etcd.Get(ctx, "a"); return err },
		"stale": func() error { _, err := etcd.Get(ctx, "a", clientv3.WithSerializable()); return err },
		"put":   func() error { _, err := etcd.Put(ctx, "a", ""); return err },
		"lease": func() error { _, err := etcd.Leases(ctx); return err },
		"ttl":   func() error { _, err := etcd.TimeToLive(ctx, 1); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "nobody is named") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
