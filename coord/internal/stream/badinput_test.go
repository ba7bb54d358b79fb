package stream_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// bytesCodec sends what is no message.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) {
	if b, ok := v.([]byte); ok {
		return b, nil
	}
	return proto.Marshal(v.(proto.Message))
}
func (bytesCodec) Unmarshal(data []byte, v any) error {
	return proto.Unmarshal(data, v.(proto.Message))
}
func (bytesCodec) Name() string { return "proto" }

var _ encoding.Codec = bytesCodec{}

// Who breaks the protocol loses the stream, with a status that says how, and nobody else notices.
func TestWhoBreaksTheProtocolIsToldHow(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	endpoint := cluster.Endpoints()[0]
	other := connect(t, endpoint)
	witness := other.open(time.Minute)
	hello := &coordv1.Hello{Protocol: 1}
	channel := func(frames ...*coordv1.ChannelFrame) *coordv1.ClientFrame {
		return &coordv1.ClientFrame{Channels: frames}
	}
	open := &coordv1.ChannelFrame{Id: 3, Open: coordv1.ChannelKind_CHANNEL_WATCH}
	large := make([]byte, 100<<10)
	for want, frames := range map[string][]any{
		"no hello":           {batch(0)},
		"version 2":          {&coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 2}}},
		"a second hello":     {&coordv1.ClientFrame{Hello: hello}, &coordv1.ClientFrame{Hello: hello}},
		"frame:":             {&coordv1.ClientFrame{Hello: hello}, []byte{0xff}},
		"batch:":             {&coordv1.ClientFrame{Hello: hello}, []byte{0x12, 2, 0x1a, 5}},
		"request:":           {&coordv1.ClientFrame{Hello: hello}, []byte{0x12, 4, 0x1a, 2, 0x1a, 5}},
		"sequence number 0":  {&coordv1.ClientFrame{Hello: hello}, batch(9, &coordv1.Request{Kind: 1})},
		"channel frame:":     {&coordv1.ClientFrame{Hello: hello}, []byte{0x22, 1, 0xff}},
		"channel 3 was not":  {&coordv1.ClientFrame{Hello: hello}, channel(&coordv1.ChannelFrame{Id: 3, Credit: 1})},
		"kind 77 is unknown": {&coordv1.ClientFrame{Hello: hello}, channel(&coordv1.ChannelFrame{Id: 3, Open: 77})},
		"opened twice":       {&coordv1.ClientFrame{Hello: hello}, channel(open, open)},
		"a credit of -1": {&coordv1.ClientFrame{Hello: hello},
			channel(&coordv1.ChannelFrame{Id: 3, Open: 1, Credit: -1})},
		"after the last one": {&coordv1.ClientFrame{Hello: hello},
			channel(&coordv1.ChannelFrame{Id: 3, Open: 4, Close: true},
				&coordv1.ChannelFrame{Id: 3, Messages: [][]byte{{1}}})},
		"3073 messages": {&coordv1.ClientFrame{Hello: hello},
			channel(&coordv1.ChannelFrame{Id: 3, Open: 2, Messages: make([][]byte, 3073)})},
		"channel 3: messages": {&coordv1.ClientFrame{Hello: hello},
			channel(&coordv1.ChannelFrame{Id: 3, Open: 4, Messages: make([][]byte, 3000)})},
		"without credit": {&coordv1.ClientFrame{Hello: hello}, channel(&coordv1.ChannelFrame{
			Id: 3, Open: 4, Messages: [][]byte{large, large, large},
		})},
	} {
		c := silent(t, endpoint, grpc.ForceCodec(bytesCodec{}))
		for _, f := range frames {
			_ = c.stream.SendMsg(f) // the stream may have ended already
		}
		st, reason := c.fate()
		if st.Code() != codes.InvalidArgument || reason != coordv1.Error_REASON_PROTOCOL ||
			!strings.Contains(st.Message(), want) {
			t.Errorf("%q: ended with %v, %v", want, st, reason)
		}
		if want == "no hello" && c.frames > 0 {
			t.Error("a stream without a hello was welcomed")
		}
	}
	c := connect(t, endpoint)
	_ = c.stream.Send(batch(0, &coordv1.Request{Body: make([]byte, 3<<20)}))
	if st, _ := c.fate(); st.Code() != codes.ResourceExhausted ||
		!strings.Contains(st.Message(), "message larger than max") {
		t.Errorf("a frame that is too large: ended with %v", st) // gRPC's own words
	}
	witness.put("k", "v")
}

// Each request that is refused says why, and the others of its frame are executed.
func TestRefusedRequests(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	c := connect(t, cluster.Endpoints()[0])
	s := c.open(time.Minute)
	put := func(p *pb.PutRequest) *coordv1.Request { return request(0, coordv1.Kind_KIND_PUT, p) }
	tests := []struct {
		what    string
		request *coordv1.Request
		reason  coordv1.Error_Reason
		text    string
	}{
		{"no key", put(&pb.PutRequest{}), coordv1.Error_REASON_ETCD, "etcdserver: key is not provided"},
		{"value provided", put(&pb.PutRequest{
			Key: []byte("k"), Value: []byte("v"), IgnoreValue: true,
		}), coordv1.Error_REASON_ETCD, "etcdserver: value is provided"},
		{"unknown lease", put(&pb.PutRequest{Key: []byte("k"), Lease: 12345}), coordv1.Error_REASON_LEASE_NOT_FOUND,
			"etcdserver: requested lease not found"},
		{"too large", put(&pb.PutRequest{Key: []byte("k"), Value: make([]byte, 3<<19)}), coordv1.Error_REASON_TOO_LARGE,
			"etcdserver: request is too large"},
		{"no key to delete", request(0, coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{}),
			coordv1.Error_REASON_ETCD, "etcdserver: key is not provided"},
		{"duplicate key", request(0, coordv1.Kind_KIND_TXN, &pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k")}}},
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k")}}},
		}}), coordv1.Error_REASON_ETCD, "etcdserver: duplicate key given in txn request"},
		{"TTL", request(0, coordv1.Kind_KIND_LEASE_GRANT, &pb.LeaseGrantRequest{TTL: 9_000_000_001}),
			coordv1.Error_REASON_ETCD, "etcdserver: too large lease TTL"},
		{"revoke", request(0, coordv1.Kind_KIND_LEASE_REVOKE, &pb.LeaseRevokeRequest{ID: 12345}),
			coordv1.Error_REASON_LEASE_NOT_FOUND, "etcdserver: requested lease not found"},
		{"body", &coordv1.Request{Kind: coordv1.Kind_KIND_PUT, Body: []byte{0xff}}, coordv1.Error_REASON_INVALID,
			"body is not a PutRequest"},
		{"kind 0", &coordv1.Request{}, coordv1.Error_REASON_INVALID, "kind 0"},
		{"kind 99", &coordv1.Request{Kind: 99}, coordv1.Error_REASON_INVALID, "kind 99"},
		{"negative kind", &coordv1.Request{Kind: -5}, coordv1.Error_REASON_INVALID, "kind -5"},
		{"a read", &coordv1.Request{Kind: coordv1.Kind_KIND_RANGE}, coordv1.Error_REASON_INVALID, "kind 131"},
		{"guard", request(0, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("k")},
			&coordv1.Guard{Name: "l", Key: "l/1", Token: 1}), coordv1.Error_REASON_FENCED, "guard"},
		{"65 guards", &coordv1.Request{Kind: 1, Guards: make([]*coordv1.Guard, 65)}, coordv1.Error_REASON_INVALID,
			"65 guards"},
		{"withdraw itself", request(0, coordv1.Kind_KIND_WITHDRAW, &coordv1.Withdraw{}),
			coordv1.Error_REASON_SEQUENCE_PAST, "acknowledged before"},
		{"far future", &coordv1.Request{
			Sequence: 200_000, Kind: 1, Body: put(&pb.PutRequest{Key: []byte("k")}).Body,
		}, coordv1.Error_REASON_SEQUENCE_FUTURE, "too far ahead"},
	}
	for i, test := range tests {
		if test.request.Sequence == 0 {
			test.request.Sequence = uint64(2*i + 10)
		}
		good := request(uint64(2*i+11), coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("good")})
		c.send(batch(s.Id, test.request, good))
		wantRefusal(t, test.what, decode(t, c.response(s.Id, test.request.Sequence), nil), test.reason, test.text)
		if r := decode(t, c.response(s.Id, good.Sequence), &pb.PutResponse{}); r != nil {
			t.Errorf("%s: the request beside it was refused: %v", test.what, r)
		}
	}
	for what, test := range map[string]struct {
		kind   coordv1.Kind
		body   proto.Message
		reason coordv1.Error_Reason
		text   string
	}{
		"range without key": {coordv1.Kind_KIND_RANGE, &pb.RangeRequest{}, coordv1.Error_REASON_ETCD,
			"key is not provided"},
		"future revision": {coordv1.Kind_KIND_RANGE, &pb.RangeRequest{Key: []byte("k"), Revision: 1 << 40},
			coordv1.Error_REASON_FUTURE_REVISION, "future revision"},
		"writing read txn": {coordv1.Kind_KIND_READ_TXN, &pb.TxnRequest{
			Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k")}}}},
		}, coordv1.Error_REASON_ETCD, "does not only read"},
		"compact the future": {coordv1.Kind_KIND_COMPACT, &pb.CompactionRequest{Revision: 1 << 40},
			coordv1.Error_REASON_FUTURE_REVISION, "future revision"},
		"put": {coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("k")}, coordv1.Error_REASON_INVALID,
			"kind 1 "},
		"no leader": {coordv1.Kind_KIND_LEADER, &coordv1.LeaderRequest{Name: "nobody"},
			coordv1.Error_REASON_NO_LEADER, "no leader"},
		"empty name": {coordv1.Kind_KIND_DESCRIBE, &coordv1.DescribeRequest{}, coordv1.Error_REASON_INVALID,
			"name is empty"},
		"unknown session": {coordv1.Kind_KIND_SESSION_END, &coordv1.SessionEnd{Session: 5},
			coordv1.Error_REASON_SESSION_NOT_FOUND, "session not found"},
	} {
		wantRefusal(t, what, c.ask(test.kind, test.body, nil), test.reason, test.text)
	}
	foreign := connect(t, cluster.Endpoints()[0])
	foreign.send(batch(s.Id, request(900, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("k")})))
	wantRefusal(t, "a foreign session", decode(t, foreign.response(s.Id, 900), nil),
		coordv1.Error_REASON_SESSION_ELSEWHERE, "another stream")
	foreign.send(batch(77, request(900, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("k")})))
	wantRefusal(t, "an unknown session", decode(t, foreign.response(77, 900), nil),
		coordv1.Error_REASON_SESSION_NOT_FOUND, "session not found")
}

// A client that sends without ever waiting is read no further once so much is under way; others are served, and what it
// sent is executed.
func TestAFloodIsHeldBack(t *testing.T) {
	cluster := start(t, coordtest.Options{Configure: limit(func(l *limits) { l.Requests = 100 })})
	endpoint := cluster.Endpoints()[0]
	flood := connect(t, endpoint)
	s := flood.open(time.Minute)
	witness := connect(t, endpoint).open(time.Minute)
	const frames, each = 200, 50
	value := make([]byte, 1000)
	sent := make(chan error, 1)
	go func() {
		for f := range frames {
			var requests []*coordv1.Request
			for i := range each {
				requests = append(requests, request(uint64(f*each+i+1), coordv1.Kind_KIND_PUT,
					&pb.PutRequest{Key: []byte("flood"), Value: value}))
			}
			if err := flood.stream.Send(batch(s.Id, requests...)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	slowest := time.Duration(0)
	for i := range 20 {
		began := time.Now()
		witness.put("witness", fmt.Sprint(i))
		slowest = max(slowest, time.Since(began))
	}
	if slowest > patience/3 {
		t.Errorf("another client waited for %s", slowest)
	}
	flood.until("responses", func() bool { return len(flood.responses) == frames*each })
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if kv := flood.get("flood").Kvs[0]; kv.Version != frames*each {
		t.Errorf("%d of %d requests were executed", kv.Version, frames*each)
	}
}

// A client that does not read what it is sent costs bounded memory, and loses its stream by name; others are served.
func TestAClientThatNeverReadsIsEnded(t *testing.T) {
	const limitBytes = 4 << 20
	cluster := start(t, coordtest.Options{Configure: limit(func(l *limits) {
		l.OutBytes, l.Patience = limitBytes, time.Second
	})})
	endpoint := cluster.Endpoints()[0]
	witness := connect(t, endpoint).open(time.Minute)
	witness.put("large", strings.Repeat("x", 1<<20))
	deaf := connect(t, endpoint)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	// Each answer has a megabyte: a gigabyte in all.
	for i := range 10 {
		var reads []*coordv1.Request
		for j := range 100 {
			reads = append(reads, request(uint64(100*i+j+1), coordv1.Kind_KIND_RANGE,
				&pb.RangeRequest{Key: []byte("large")}))
		}
		if deaf.stream.Send(batch(0, reads...)) != nil {
			break
		}
	}
	waitStreams(t, endpoint, 1) // without the deaf one
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16*limitBytes {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	witness.put("k", "v")
	if st, reason := deaf.fate(); st.Code() != codes.ResourceExhausted || reason != coordv1.Error_REASON_SLOW_CONSUMER {
		t.Errorf("ended with %v, %v", st, reason)
	}
}

// What gRPC holds of a stream whose client ended it, and does not read, is not there for ever: its connection is
// closed. Else who ends one stream after another like that would take the room of all.
func TestWhoEndsItsStreamAndDoesNotReadMakesRoom(t *testing.T) {
	configure := func(_ int, c *coord.Config) { c.StreamLimits.Patience, c.ClientMemoryBytes = 2*time.Second, 16<<20 }
	endpoint := start(t, coordtest.Options{Configure: configure}).Endpoints()[0]
	witness := connect(t, endpoint)
	session := witness.open(time.Minute)
	session.put("large", strings.Repeat("x", 1<<20))
	for range 10 {
		deaf := silent(t, endpoint, grpc.ForceCodec(bytesCodec{}))
		deaf.send(&coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1}})
		deaf.send(batch(0, request(1, coordv1.Kind_KIND_RANGE, &pb.RangeRequest{Key: []byte("large")})))
		held(t, endpoint, func(bytes float64) bool { return bytes > 1<<20 })
		// a second one, unless it was given up meanwhile
		_ = deaf.stream.Send(&coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1}})
	}
	held(t, endpoint, func(bytes float64) bool { return bytes < 1<<20 })
	session.put("k", "v")
}

// held waits until what a member holds for native clients that do not read is as it should be.
func held(t testing.TB, endpoint string, good func(bytes float64) bool) {
	t.Helper()
	waitMetrics(t, endpoint, "what is held is not as it should be", func(page string) bool {
		_, after, _ := strings.Cut(page, `coord_client_memory_bytes{kind="responses"} `)
		value, _, _ := strings.Cut(after, "\n")
		bytes, err := strconv.ParseFloat(value, 64)
		return err == nil && good(bytes)
	})
}

// waitStreams waits until a member says that it serves n streams.
func waitStreams(t testing.TB, endpoint string, n int) {
	t.Helper()
	want := fmt.Sprintf("\ncoord_stream_streams{shard=\"1\"} %d\n", n)
	waitMetrics(t, endpoint, fmt.Sprintf("there are not %d streams", n), func(page string) bool {
		return strings.Contains(page, want)
	})
}

// waitMetrics waits until a member's metrics are good; complaint says that they are not.
func waitMetrics(t testing.TB, endpoint, complaint string, good func(page string) bool) {
	t.Helper()
	var page []byte
	for end := time.Now().Add(patience); !good(string(page)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s:\n%s", complaint, page)
		}
		resp, err := http.Get("http://" + endpoint + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		page, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// One that asks for more than fits, and reads, gets it all: nothing is answered before there is room.
func TestAReaderOfMuchGetsItAll(t *testing.T) {
	cluster := start(t, coordtest.Options{Configure: limit(func(l *limits) { l.OutBytes = 2 << 20 })})
	c := connect(t, cluster.Endpoints()[0])
	c.open(time.Minute).put("large", strings.Repeat("x", 1<<20))
	const n = 100
	var reads []*coordv1.Request
	for i := range n {
		reads = append(reads, request(uint64(i+1), coordv1.Kind_KIND_RANGE, &pb.RangeRequest{Key: []byte("large")}))
	}
	c.last = n
	c.send(batch(0, reads...))
	for got := 0; got < n; c.responses = nil {
		if err := c.recv(); err != nil {
			t.Fatalf("after %d answers: %v", got, err)
		}
		got += len(c.responses)
	}
}

// A stop answers what is under way and ends the streams with a status that makes clients go elsewhere.
func TestAStopEndsTheStream(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	c := connect(t, cluster.Endpoints()[0])
	s := c.open(time.Minute)
	const n = 100
	for i := range n {
		c.send(batch(s.Id, request(uint64(i+1), coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: fmt.Append(nil, i)})))
	}
	c.until("the first response", func() bool { return len(c.responses) > 0 })
	began := time.Now()
	cluster.StopMember(0)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if st, _ := c.fate(); st.Code() != codes.Unavailable || st.Message() != "etcdserver: server stopped" {
		t.Errorf("ended with %v", st)
	}
	for i, r := range c.responses {
		if r.Sequence != uint64(i+1) || r.Outcome.Refusal != nil {
			t.Errorf("response %d: %v", i, r)
		}
	}
}

func TestAClosedSideIsAnsweredToTheEnd(t *testing.T) {
	c := connect(t, start(t, coordtest.Options{}).Endpoints()[0])
	s := c.open(time.Minute)
	c.send(batch(s.Id, request(1, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("k")})))
	if err := c.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	c.response(s.Id, 1)
	if st, _ := c.fate(); !strings.Contains(st.Message(), "EOF") {
		t.Errorf("ended with %v", st)
	}
}
