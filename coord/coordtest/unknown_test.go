package coordtest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/coord-dev/coord/coord/internal/propose"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
)

// recorder keeps what goes into the log.
type recorder struct {
	propose.Log
	mu      sync.Mutex
	entries [][]byte
}

func (r *recorder) Propose(entry []byte) error {
	r.mu.Lock()
	r.entries = append(r.entries, bytes.Clone(entry))
	r.mu.Unlock()
	return r.Log.Propose(entry)
}

// take returns the commands that were proposed since the last call.
func (r *recorder) take(t *testing.T) (commands []raftv1.Command) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, data := range r.entries {
		e, err := raftv1.DecodeEntry(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range e.Commands {
			if c.By != user && !(c.By == raftv1.Principal{Member: true} && common[c.Kind]) {
				t.Errorf("in the log is %v by %+v", c.Kind, c.By)
			}
		}
		commands = append(commands, e.Commands...)
	}
	r.entries = nil
	return commands
}

// newer is in the unknown field of a newer client.
const newer = "of a newer client"

// paint puts an unknown field into a message and all that are in it.
func paint[M proto.Message](m M) M {
	paintAll(m.ProtoReflect())
	return m
}

func paintAll(m protoreflect.Message) {
	m.SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 999, protowire.BytesType), newer))
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { paintAll(v.Message()); return true })
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				paintAll(v.List().Get(i).Message())
			}
		case !fd.IsMap() && fd.Message() != nil:
			paintAll(v.Message())
		}
		return true
	})
}

// newerClient is a client of a newer release, in front of a server whose log is recorded.
type newerClient struct {
	*testing.T
	fake *Fake
	log  *recorder
	conn *grpc.ClientConn
}

func newNewerClient(t *testing.T) *newerClient {
	c := &newerClient{T: t, log: &recorder{}}
	var err error
	if c.fake, err = startFake(func(l propose.Log) propose.Log {
		c.log.Log = l
		return c.log
	}, asUser()...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.fake.Close)
	if c.conn, err = grpc.NewClient(c.fake.Endpoint(),
		grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	return c
}

// proposed says that something was, by one kind of command and of procedures, and nothing that a newer client knows.
func (c *newerClient) proposed(way string, kind raftv1.Kind, procedure string) {
	c.Helper()
	found := false
	for _, command := range c.log.take(c.T) {
		found = found || command.Kind == kind && (procedure == "" || raftv1.ProcedureOf(command) == procedure)
		if bytes.Contains(command.Body, []byte(newer)) {
			c.Errorf("%s: in the log is %v %q", way, command.Kind, command.Body)
		}
	}
	if !found {
		c.Errorf("%s: no %v %s was proposed", way, kind, procedure)
	}
}

// TestUnknownFieldsOfEtcdsClient: what an etcd client of a newer release sends gets into the log without what this one
// does not know.
func TestUnknownFieldsOfEtcdsClient(t *testing.T) {
	c := newNewerClient(t)
	// The real client, whose requests become those of a newer one on the way.
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{c.fake.Endpoint()}, DialOptions: []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
			invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(ctx, method, paint(req.(proto.Message)), reply, cc, opts...)
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	lease, err := etcd.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	c.proposed("grant", raftv1.KindLeaseGrant, "")
	inner := clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version("b"), "=", 0)},
		[]clientv3.Op{clientv3.OpPut("b", "2"), clientv3.OpGet("a")}, nil)
	for _, way := range []struct {
		name string
		kind raftv1.Kind
		do   func() error
	}{
		{"put", raftv1.KindPut, func() error {
			_, err := etcd.Put(ctx, "a", "1", clientv3.WithLease(lease.ID), clientv3.WithPrevKV())
			return err
		}},
		{"txn", raftv1.KindTxn, func() error {
			_, err := etcd.Txn(ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).Then(inner,
				clientv3.OpGet("a", clientv3.WithPrefix())).Else(clientv3.OpDelete("c")).Commit()
			return err
		}},
		{"delete", raftv1.KindDeleteRange, func() error {
			_, err := etcd.Delete(ctx, "a", clientv3.WithPrefix())
			return err
		}},
		{"compact", raftv1.KindCompact, func() error { _, err := etcd.Compact(ctx, 2); return err }},
		{"alarm", raftv1.KindAlarm, func() error {
			_, err := etcd.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: 1, Alarm: pb.AlarmType_NOSPACE})
			return err
		}},
		{"revoke", raftv1.KindLeaseRevoke, func() error { _, err := etcd.Revoke(ctx, lease.ID); return err }},
	} {
		if err := way.do(); err != nil {
			t.Errorf("%s: %v", way.name, err)
		}
		c.proposed(way.name, way.kind, "")
	}
}

// TestUnknownFieldsOfUnaryRequests likewise.
func TestUnknownFieldsOfUnaryRequests(t *testing.T) {
	c := newNewerClient(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	lease, err := pb.NewLeaseClient(c.conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	acquiring, err := coordv1.NewLockClient(c.conn).Acquire(ctx,
		paint(&coordv1.AcquireRequest{Name: "l", Lease: lease.ID, Owner: "me"}))
	if err != nil {
		t.Fatal(err)
	}
	event, err := acquiring.Recv()
	granted := event.GetGranted()
	if err != nil || granted == nil {
		t.Fatalf("%v, %v", event, err)
	}
	c.proposed("acquire", raftv1.KindCall, recipes.Acquire)
	document := &coordv1.ConfigDocument{Name: "a.json", Content: []byte(`{"a":1}`)}
	instance := &coordv1.ServiceInstance{Service: "pay", Id: "1", Addr: "127.0.0.1:80", Weight: 1,
		State: coordv1.ServiceState_SERVICE_STATE_PASSING,
		Probe: &coordv1.ServiceProbe{Kind: coordv1.ServiceProbe_KIND_TCP}}
	for _, way := range []struct {
		method, procedure string
		request           proto.Message
	}{
		{coordv1.Lock_Release_FullMethodName, recipes.Release, &coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "l", Key: granted.Key, Token: granted.Token}},
		}},
		{coordv1.Counter_Add_FullMethodName, recipes.CounterAdd, &coordv1.CounterAdd{Name: "c", Delta: 1}},
		{coordv1.Gate_Close_FullMethodName, recipes.GateClose, &coordv1.GateClose{Name: "g"}},
		{coordv1.Config_Publish_FullMethodName, recipes.ConfigCommit, &coordv1.ConfigPublishRequest{
			Bundle: "b", Documents: []*coordv1.ConfigDocument{document}, Author: "me", Reason: "test",
		}},
		{coordv1.Config_SetSchema_FullMethodName, recipes.ConfigCommit, &coordv1.ConfigSetSchemaRequest{
			Bundle: "b", Content: []byte(`{}`), Author: "me",
		}},
		{coordv1.Config_Report_FullMethodName, recipes.ConfigReport, &coordv1.ConfigReportRequest{
			Bundle: "b", Status: &coordv1.ConfigStatus{Client: "c"}, Lease: lease.ID,
		}},
		{coordv1.Registry_Put_FullMethodName, recipes.RegistryPut,
			&coordv1.ServicePutRequest{Instance: instance, Lease: lease.ID}},
		{coordv1.Registry_Remove_FullMethodName, recipes.RegistryRemove,
			&coordv1.ServiceRemoveRequest{Service: "pay", Id: "1", Lease: lease.ID}},
	} {
		if err := c.conn.Invoke(ctx, way.method, paint(way.request), &pb.ResponseHeader{}); err != nil {
			t.Errorf("%s: %v", way.method, err)
		}
		c.proposed(way.method, raftv1.KindCall, way.procedure)
	}
}

// TestUnknownFieldsOfAnyMethod: no method that a server has, or gets, lets unknown fields into the log, whatever
// becomes of the request.
func TestUnknownFieldsOfAnyMethod(t *testing.T) {
	c := newNewerClient(t)
	called := 0
	for service, info := range c.fake.services.API.GRPC().GetServiceInfo() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range info.Methods {
			if method.IsClientStream || method.IsServerStream || strings.HasPrefix(service, "grpc.") {
				continue
			}
			m := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method.Name))
			of, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
			if err != nil {
				t.Fatal(err)
			}
			request := of.New()
			fill(request, 3)
			paintAll(request)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_ = c.conn.Invoke(ctx, fmt.Sprintf("/%s/%s", service, method.Name), request.Interface(),
				&pb.ResponseHeader{})
			cancel()
			called++
		}
	}
	commands := c.log.take(t)
	for _, command := range commands {
		if bytes.Contains(command.Body, []byte(newer)) {
			t.Errorf("in the log is %v %q", command.Kind, command.Body)
		}
	}
	if called < 60 || len(commands) < 10 {
		t.Errorf("%d methods, of which %d commands came", called, len(commands))
	}
}

// fill sets every field, nested to a depth. All names are the same, so that requests are about something.
func fill(m protoreflect.Message, depth int) {
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		switch {
		case fd.IsMap(), fd.Message() != nil && depth == 0:
		case fd.IsList() && fd.Message() != nil:
			fill(m.Mutable(fd).List().AppendMutable().Message(), depth-1)
		case fd.IsList():
			m.Mutable(fd).List().Append(scalar(fd))
		case fd.Message() != nil:
			fill(m.Mutable(fd).Message(), depth-1)
		default:
			m.Set(fd, scalar(fd))
		}
	}
}

func scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("x")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("x"))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	}
	return fd.Default()
}

// TestUnknownFieldsOfTheStream: nor do frames, whose requests go into the log as they came.
func TestUnknownFieldsOfTheStream(t *testing.T) {
	c := newNewerClient(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := coordv1.NewStreamClient(c.conn).Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// answers sends a frame and waits for so many responses.
	answers := func(n int, f *coordv1.ClientFrame) (got []*coordv1.Response) {
		t.Helper()
		if err := stream.Send(paint(f)); err != nil {
			t.Fatal(err)
		}
		for len(got) < n {
			f, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, f.Responses...)
		}
		return got
	}
	encode := func(m proto.Message) []byte {
		data, err := proto.Marshal(paint(m))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	open := &coordv1.SessionOpen{TtlMs: 60_000, Identity: &coordv1.Identity{Host: "h"}}
	r := answers(1, &coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1}, Batches: []*coordv1.Batch{{
		Requests: []*coordv1.Request{{Sequence: 1, Kind: coordv1.Kind_KIND_SESSION_OPEN, Body: encode(open)}},
	}}})[0]
	opened := &coordv1.SessionOpened{}
	if err := proto.Unmarshal(r.Outcome.Response, opened); err != nil || opened.Id == 0 {
		t.Fatalf("%v, %v", r, err)
	}
	c.proposed("open", raftv1.KindSessionOpen, "")

	bodies := map[coordv1.Kind]proto.Message{
		coordv1.Kind_KIND_PUT:          &pb.PutRequest{Key: []byte("k")},
		coordv1.Kind_KIND_DELETE_RANGE: &pb.DeleteRangeRequest{Key: []byte("k")},
		coordv1.Kind_KIND_TXN: &pb.TxnRequest{
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{
				Compare: []*pb.Compare{{Key: []byte("k")}}, Failure: []*pb.RequestOp{{
					Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}},
				}},
			}}}}},
		coordv1.Kind_KIND_LEASE_GRANT:  &pb.LeaseGrantRequest{TTL: 60},
		coordv1.Kind_KIND_LEASE_REVOKE: &pb.LeaseRevokeRequest{ID: 5},
		coordv1.Kind_KIND_WITHDRAW:     &coordv1.Withdraw{Sequence: 900},
	}
	for _, p := range recipes.Procedures() {
		if p.Kind() != 0 {
			body := p.Request()
			fill(body.ProtoReflect(), 3)
			bodies[p.Kind()] = body
		}
	}
	batch := &coordv1.Batch{Session: opened.Id}
	for kind, body := range bodies {
		batch.Requests = append(batch.Requests, &coordv1.Request{
			Sequence: uint64(kind), Kind: kind, Body: encode(body),
			Guards: []*coordv1.Guard{{Name: "n", Key: "k", Token: 1}},
		})
	}
	for _, r := range answers(len(bodies), &coordv1.ClientFrame{Batches: []*coordv1.Batch{batch}}) {
		if reason := r.Outcome.GetRefusal().GetReason(); reason != coordv1.Error_REASON_FENCED { // it was in the log
			t.Errorf("%v: %v", coordv1.Kind(r.Sequence), r.Outcome)
		}
	}
	c.proposed("requests", raftv1.KindRequests, "")
}
