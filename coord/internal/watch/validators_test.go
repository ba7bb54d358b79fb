package watch

import (
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// sample is a history and what a faultless server says of it to a watcher of "a" to "c" in two lives.
func sample() (*history, *record) {
	h := newHistory()
	put := func(key, value string) op { return op{[]byte(key), []byte(value)} }
	h.apply(
		[]op{put("a", "1"), put("b", "1")},                     // 2
		[]op{put("c", "1")},                                    // 3
		[]op{put("a", "2"), {key: []byte("b")}},                // 4
		[]op{put("b", "3")},                                    // 5
		[]op{put("a", "4"), put("b", "4"), {key: []byte("c")}}, // 6
		[]op{{key: []byte("a")}},                               // 7
		[]op{put("a", "8")},                                    // 8
	)
	h.compact(5)
	r := &record{key: []byte("a"), end: []byte("c"), prev: true, starts: []int64{2, 5}, final: 8}
	head := func(revision int64) *pb.WatchResponse {
		return &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: revision}}
	}
	with := func(revisions ...int64) *pb.WatchResponse {
		resp := head(revisions[len(revisions)-1])
		for _, revision := range revisions {
			for _, e := range h.events(revision) {
				if r.wants(e) {
					resp.Events = append(resp.Events, &mvccpb.Event{Type: e.Type, Kv: e.Kv, PrevKv: e.PrevKv})
				}
			}
		}
		return proto.Clone(resp).(*pb.WatchResponse)
	}
	created := func(revision int64) *pb.WatchResponse {
		resp := head(revision)
		resp.Created = true
		return resp
	}
	r.responses = []*pb.WatchResponse{created(4), with(2, 4), head(4), created(6), with(5, 6), with(7), head(7),
		with(8), head(8)}
	return h, r
}

func TestValidatorsAcceptFaultless(t *testing.T) {
	h, r := sample()
	if err := check(h, r); err != nil {
		t.Fatal(err)
	}
	// A compaction that overtakes the first life is said, and the second one begins there.
	r.responses[2] = &pb.WatchResponse{Header: &pb.ResponseHeader{}, Canceled: true, CompactRevision: 7}
	r.responses = slices.Delete(r.responses, 4, 5)
	r.starts[1] = 7
	if err := check(h, r); err != nil {
		t.Fatal(err)
	}
}

// TestValidatorsReject shows for each guarantee that its validator sees a violation.
func TestValidatorsReject(t *testing.T) {
	for _, test := range []struct {
		name, validator string
		spoil           func(*record)
	}{
		{"responses swapped", "ordered", func(r *record) {
			r.responses[4], r.responses[5] = r.responses[5], r.responses[4]
		}},
		{"events swapped", "ordered", func(r *record) { slices.Reverse(r.responses[4].Events) }},
		{"order within a revision", "reliable", func(r *record) {
			e := r.responses[1].Events
			e[0], e[1] = e[1], e[0]
		}},
		{"response twice", "unique", func(r *record) { r.responses = slices.Insert(r.responses, 5, r.responses[5]) }},
		{"event lost", "reliable", func(r *record) { r.responses[4].Events = r.responses[4].Events[1:] }},
		{"half a revision lost", "reliable", func(r *record) {
			r.responses[4].Events = slices.Delete(r.responses[4].Events, 1, 2)
		}},
		{"last event lost", "reliable", func(r *record) { r.responses = slices.Delete(r.responses, 7, 8) }},
		{"value changed", "reliable", func(r *record) { r.responses[5].Events[0].Kv.Version = 7 }},
		{"type changed", "reliable", func(r *record) { r.responses[5].Events[0].Type = mvccpb.Event_PUT }},
		{"revision split", "atomic", func(r *record) {
			rest := proto.Clone(r.responses[4]).(*pb.WatchResponse)
			rest.Events = rest.Events[2:]
			r.responses[4].Events = r.responses[4].Events[:2]
			r.responses = slices.Insert(r.responses, 5, rest)
		}},
		{"fragment not asked for", "atomic", func(r *record) { r.responses[4].Fragment = true }},
		{"last fragment missing", "atomic", func(r *record) { r.fragmented, r.responses[7].Fragment = true, true }},
		{"gap between lives", "resumable", func(r *record) {
			r.starts[1] = 6
			r.responses[4].Events = r.responses[4].Events[1:]
		}},
		{"bookmark too early", "bookmarkable", func(r *record) { r.responses[6].Header.Revision = 8 }},
		{"bookmark goes back", "bookmarkable", func(r *record) { r.responses[8].Header.Revision = 6 }},
		{"header behind events", "bookmarkable", func(r *record) { r.responses[4].Header.Revision = 5 }},
		{"prev_kv missing", "prev_kv", func(r *record) { r.responses[5].Events[0].PrevKv = nil }},
		{"prev_kv of another version", "prev_kv", func(r *record) {
			r.responses[5].Events[0].PrevKv.Value = []byte("2")
		}},
		{"prev_kv not asked for", "prev_kv", func(r *record) { r.prev = false }},
		{"outside the range", "filter", func(r *record) { r.end = []byte("b") }},
		{"filtered type", "filter", func(r *record) { r.noDelete = true }},
		{"ended without reason", "compaction", func(r *record) { r.responses[8].Canceled = true }},
		{"compacted without need", "compaction", func(r *record) {
			r.responses[8] = &pb.WatchResponse{Header: &pb.ResponseHeader{}, Canceled: true, CompactRevision: 9}
		}},
		{"events after the end", "compaction", func(r *record) {
			r.responses[6] = &pb.WatchResponse{Header: &pb.ResponseHeader{}, Canceled: true, CompactRevision: 9}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, r := sample()
			test.spoil(r)
			if err := validators[test.validator](h, r); err == nil {
				t.Errorf("validator %q saw nothing", test.validator)
			}
		})
	}
}
