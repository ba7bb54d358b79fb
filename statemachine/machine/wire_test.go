package machine

import (
	"bytes"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func seeds(f *testing.F) {
	guard := &coordv1.Guard{Name: "n", Key: "k", Token: 3}
	request := &coordv1.Request{
		Sequence: 1, Kind: coordv1.Kind_KIND_TXN, Body: []byte("b"), Guards: []*coordv1.Guard{guard, {}},
	}
	acquired := &coordv1.Acquired{
		Entries: []*coordv1.AcquiredEntry{{Name: "n", Key: "k", Token: 3}, {Key: "l"}}, Revision: 4,
	}
	for _, m := range []proto.Message{
		request, acquired, &coordv1.Outcome{Response: marshal(f, acquired)},
		&coordv1.Outcome{Refusal: &coordv1.Refusal{Message: "no"}},
		&raftv1.Requests{
			Session: -5, Created: 1, Epoch: 2, Acknowledged: 3, Requests: [][]byte{marshal(f, request), {}},
			UnixMs: 1 << 40,
		},
	} {
		f.Add(marshal(f, m))
	}
	f.Add([]byte{0x0b, 0x0c})             // a group
	f.Add([]byte{0x0a, 0x01, 'x'})        // a field of another type
	f.Add([]byte{0x09, 1, 2, 3, 4, 5, 6}) // one that is cut short
}

// FuzzParse holds the parsers of requests and of what they left against those that protobuf generates.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		requests, perr := raftv1.ParseRequests(data)
		ok := perr == nil
		want := &raftv1.Requests{}
		if err := proto.Unmarshal(data, want); (err == nil) != ok {
			t.Fatalf("parsed %v; protobuf says %v", ok, err)
		}
		if ok && (requests.Session != want.Session || requests.Created != want.Created ||
			requests.Epoch != want.Epoch || requests.Acknowledged != want.Acknowledged ||
			requests.UnixMS != want.UnixMs || !slices.EqualFunc(requests.Requests, want.Requests, bytes.Equal)) {
			t.Fatalf("%+v, want %v", requests, want)
		}
		checkRequest(t, data)
		checkAcquired(t, data)
		if acknowledged, unkept, list, err := parseOutcomeRow(data); err == nil {
			o := &outcomes{}
			if err := o.load(&outcomeRow{}, data); err != nil || o.acknowledged != acknowledged || o.unkept != unkept ||
				len(o.bySequence) > len(list) {
				t.Fatalf("loaded %+v, %v", o, err)
			}
			o.acknowledge(o.acknowledged)
		}
		if a, err := parseAttachment(data); err == nil {
			if again, err := parseAttachment(attachmentRow(a)); err != nil || again != a {
				t.Fatalf("attachment %+v, again %+v, %v", a, again, err)
			}
		}
		if newSessions(nil).load(1, data) == nil {
			s := newSessions(nil)
			s.load(1, data)
			if err := newSessions(nil).load(1, s.byID[1].row()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// checkRequest: guards and texts are parsed later, so that a request may parse here and have a guard that does not.
func checkRequest(t *testing.T, data []byte) {
	want := &coordv1.Request{}
	err := proto.Unmarshal(data, want)
	request, perr := raftv1.ParseRequest(data)
	ok := perr == nil
	if ok {
		for g := range request.EachGuard() {
			ok = ok && proto.Unmarshal(g, &coordv1.Guard{}) == nil
		}
	}
	if (err == nil) != ok {
		t.Fatalf("parsed %v; protobuf says %v", ok, err)
	}
	if ok && (request.Sequence != want.Sequence || request.Kind != want.Kind || !bytes.Equal(request.Body, want.Body) ||
		request.Guards != len(want.Guards)) {
		t.Fatalf("%+v, want %v", request, want)
	}
}

// checkAcquired: an entry that protobuf reads of an acquired response has a key that is named here.
func checkAcquired(t *testing.T, data []byte) {
	outcome, acquired := &coordv1.Outcome{}, &coordv1.Acquired{}
	if proto.Unmarshal(data, outcome) != nil || proto.Unmarshal(outcome.Response, acquired) != nil {
		return
	}
	keys := acquiredKeys(data)
	for _, e := range acquired.Entries {
		named := func(key []byte) bool { return string(key) == e.Key }
		if e.Key != "" && !slices.ContainsFunc(keys, named) {
			t.Fatalf("keys %q, want %q", keys, e.Key)
		}
	}
}

func TestAcquiredKeys(t *testing.T) {
	acquired := &coordv1.Acquired{Entries: []*coordv1.AcquiredEntry{
		{Name: "n", Key: "k", Token: 3, Holder: &coordv1.Entry{Key: "holder"}}, {Name: "none"}, {Key: "l"},
	}, Revision: 4}
	keys := acquiredKeys(encodeOutcome(marshal(t, acquired)))
	if !slices.EqualFunc(keys, [][]byte{[]byte("k"), []byte("l")}, bytes.Equal) {
		t.Errorf("keys %q", keys)
	}
	if keys := acquiredKeys(encodeRefusal(statemachine.ErrWithdrawn)); len(keys) > 0 {
		t.Errorf("keys of a refusal: %q", keys)
	}
}

// Outcomes are the bytes that protobuf would write.
func TestOutcomesAreProtobuf(t *testing.T) {
	for _, revision := range []int64{1, 127, 128, 1 << 40, 1<<63 - 1} {
		response := &pb.PutResponse{Header: &pb.ResponseHeader{Revision: revision}}
		want := marshal(t, &coordv1.Outcome{Response: marshal(t, response)})
		if got := encodeRevisionOutcome(revision); !bytes.Equal(got, want) {
			t.Errorf("revision %d: %x, want %x", revision, got, want)
		}
		if got, err := encodeMessageOutcome(response); err != nil || !bytes.Equal(got, want) {
			t.Errorf("message with revision %d: %x, want %x, %v", revision, got, want, err)
		}
	}
	if got, want := encodeOutcome(nil), marshal(t, &coordv1.Outcome{Response: []byte{}}); !bytes.Equal(got, want) {
		t.Errorf("an empty response: %x, want %x", got, want)
	}
	if got, want := encodeRefusal(statemachine.ErrFenced), marshal(t, &coordv1.Outcome{
		Refusal: statemachine.RefusalOf(statemachine.ErrFenced),
	}); !bytes.Equal(got, want) {
		t.Errorf("a refusal: %x, want %x", got, want)
	}
}
