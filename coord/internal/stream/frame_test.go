package stream

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/api"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

func sampleFrame() []byte {
	return encode(&coordv1.ClientFrame{
		Hello: &coordv1.Hello{Protocol: 1, Client: "c"}, Heartbeat: 7,
		Batches: []*coordv1.Batch{
			{Session: 5, Acknowledged: 3, Requests: []*coordv1.Request{
				{Sequence: 4, Kind: coordv1.Kind_KIND_PUT, Body: []byte("b"), Guards: []*coordv1.Guard{{Name: "n"},
					{}}}, {},
			}},
			{Requests: []*coordv1.Request{{Sequence: 1, Kind: coordv1.Kind_KIND_RANGE}}},
		},
		Channels: []*coordv1.ChannelFrame{{Id: 1}},
	})
}

// sessionsProcedures are those of the requests in sampleFrame.
func sessionsProcedures() map[coordv1.Kind]statemachine.Procedure {
	known := map[coordv1.Kind]statemachine.Procedure{}
	for _, p := range recipes.Procedures() {
		if kind := p.Kind(); kind == coordv1.Kind_KIND_ACQUIRE || kind == coordv1.Kind_KIND_RELEASE {
			known[kind] = p
		}
	}
	return known
}

// FuzzFrame holds the parser against the generated one: what the log is told of a request must be what was checked. The
// checks let no kind through that the state machine does not know.
func FuzzFrame(f *testing.F) {
	s := &Server{
		opts: Options{
			Backend: &fakeMember{}, Etcd: api.NewServices(
				api.Options{MaxRequestBytes: 1 << 20, MaxTxnOps: 128}, api.Keyspace{QuotaBytes: -1}),
		},
		recipes: sessionsProcedures(),
	}
	f.Add(sampleFrame())
	f.Add([]byte{0x12, 4, 0x1a, 2, 0x10, 1})
	f.Add([]byte{0x12, 10, 0x1a, 8, 0x10, 1, 0x10, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var got frame
		err := got.parse(data)
		want := &coordv1.ClientFrame{}
		if proto.Unmarshal(data, want) != nil {
			return // stricter: it looks into what the parser leaves alone
		}
		if err != nil {
			if want.Hello != nil && bytes.Contains([]byte(err.Error()), []byte("two hellos")) {
				return
			}
			t.Fatalf("%x is a frame: %v", data, err)
		}
		if (got.hello != nil) != (want.Hello != nil) || got.heartbeat != want.Heartbeat ||
			len(got.channels) != len(want.Channels) || len(got.batches) != len(want.Batches) {
			t.Fatalf("%+v, want %v", got, want)
		}
		for i, b := range got.batches {
			w := want.Batches[i]
			requests := got.requests[b.from:b.to]
			if b.session != w.Session || b.acknowledged != w.Acknowledged || len(requests) != len(w.Requests) {
				t.Fatalf("batch %d: %+v, want %v", i, b, w)
			}
			for j, r := range requests {
				w := w.Requests[j]
				if r.Sequence != w.Sequence || r.Kind != w.Kind || !bytes.Equal(r.Body, w.Body) ||
					r.Guards != len(w.Guards) {
					t.Fatalf("request %d: %+v, want %v", j, r, w)
				}
				if s.check(&r) == nil && (w.Kind < coordv1.Kind_KIND_PUT || w.Kind > coordv1.Kind_KIND_WITHDRAW) &&
					s.recipes[w.Kind] == nil {
					t.Fatalf("request %d of kind %d is let through", j, w.Kind)
				}
			}
		}
	})
}

// What the outbox writes by hand is what the client reads.
func TestOutboxFrames(t *testing.T) {
	o := newOutbox(1<<20, nil, 0, func() {})
	refused := &coordv1.Outcome{Refusal: &coordv1.Refusal{Reason: coordv1.Error_REASON_FENCED, Message: "m"}}
	o.respond(5, 5, answer{1, encode(refused)}, answer{2, raftv1.EncodeOutcome(raftv1.OutcomeResponse, nil)})
	o.push(&coordv1.Push{Session: 5})
	// of another session: it may come before the push
	o.respond(6, 6, answer{3, raftv1.EncodeOutcome(raftv1.OutcomeResponse, []byte("x"))})
	o.heartbeat(8)
	o.heartbeat(9)
	o.respond(5, 5, answer{4, nil}) // must come after the push
	read := func() *coordv1.ServerFrame {
		f := &coordv1.ServerFrame{}
		if err := proto.Unmarshal(bytes.Join(o.take().encoded(), nil), f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	want := &coordv1.ServerFrame{
		Responses: []*coordv1.Response{
			{Session: 5, Sequence: 1, Outcome: refused},
			{Session: 5, Sequence: 2, Outcome: &coordv1.Outcome{Response: []byte{}}},
			{Session: 6, Sequence: 3, Outcome: &coordv1.Outcome{Response: []byte("x")}},
		},
		Pushes: []*coordv1.Push{{Session: 5}}, Heartbeat: 9,
	}
	if got := read(); !proto.Equal(got, want) {
		t.Errorf("first frame %v, want %v", got, want)
	}
	if got := read(); len(got.Responses) != 1 || got.Responses[0].Sequence != 4 || len(got.Pushes) != 0 {
		t.Errorf("second frame %v", got)
	}
	if f := o.take(); f != nil {
		t.Errorf("another frame: %v", f)
	}
}
