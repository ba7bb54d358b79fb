package difftest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// coverage counts what was reached, by name. What counts is what etcd answered, not what was asked: an option is
// covered when it made a difference.
type coverage struct {
	mu struct {
		sync.Mutex
		counts map[string]int
	}
}

func newCoverage() *coverage {
	c := &coverage{}
	c.mu.counts = map[string]int{}
	return c
}

func (c *coverage) hit(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.counts[name]++
}

func (c *coverage) hitIf(cond bool, name string) {
	if cond {
		c.hit(name)
	}
}

// missing returns the names of required that were never hit.
func (c *coverage) missing(required []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, name := range required {
		if c.mu.counts[name] == 0 {
			out = append(out, name)
		}
	}
	return out
}

// rarest returns the n required names that were hit least, with their counts.
func (c *coverage) rarest(required []string, n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := slices.Clone(required)
	slices.SortStableFunc(names, func(a, b string) int { return c.mu.counts[a] - c.mu.counts[b] })
	var parts []string
	for _, name := range names[:min(n, len(names))] {
		parts = append(parts, fmt.Sprintf("%s: %d", name, c.mu.counts[name]))
	}
	return strings.Join(parts, ", ")
}

// call counts one answered call; e is the state after it.
func (c *coverage) call(e *env, req proto.Message, name string, out outcome) {
	if out.code != codes.OK {
		c.hit(fmt.Sprintf("error/%s/%s", out.code, genericText(out.text)))
		if name != "Range" && name != "Put" {
			c.hit(fmt.Sprintf("error/%s/%s/%s", name, out.code, genericText(out.text)))
		}
		return
	}
	switch q := req.(type) {
	case *pb.RangeRequest:
		if name == "RangeStream" {
			c.rangeStream(e, q, out.msgs)
		} else {
			c.ranged(e, q, out.msgs[0].(*pb.RangeResponse))
		}
	case *pb.PutRequest:
		c.put(q, out.msgs[0].(*pb.PutResponse))
	case *pb.DeleteRangeRequest:
		c.deleted(q, out.msgs[0].(*pb.DeleteRangeResponse))
	case *pb.TxnRequest:
		c.txn(q, out.msgs[0].(*pb.TxnResponse))
	case *pb.CompactionRequest:
		c.hit("compact/ok")
		c.hitIf(q.Physical, "compact/physical")
		c.hitIf(q.Revision == e.cur, "compact/current")
	default:
		c.lease(req, out)
	}
}

// genericText leaves out of an error text what depends on the request.
func genericText(text string) string {
	if strings.HasPrefix(text, "grpc: received message larger than max") {
		return "grpc: received message larger than max"
	}
	return text
}

// shape names the shape of a range.
func shape(key, end []byte) string {
	switch {
	case len(end) == 0:
		return "point"
	case bytes.Equal(end, []byte{0}) && bytes.Equal(key, []byte{0}):
		return "all"
	case bytes.Equal(end, []byte{0}):
		return "from key"
	case bytes.Equal(key, end):
		return "empty"
	case bytes.Compare(key, end) > 0:
		return "inverted"
	case bytes.Equal(end, prefixEnd(key)):
		return "prefix"
	default:
		return "range"
	}
}

// readRevision names where a revision stands.
func readRevision(e *env, rev int64) string {
	switch {
	case rev < 0:
		return "negative"
	case rev == 0:
		return "latest"
	case rev == e.compact:
		return "compacted at"
	case rev == e.cur:
		return "current"
	default:
		return "past"
	}
}

func (c *coverage) ranged(e *env, q *pb.RangeRequest, a *pb.RangeResponse) {
	c.hit("range/shape/" + shape(q.Key, q.RangeEnd))
	c.hit("range/revision/" + readRevision(e, q.Revision))
	c.hitIf(q.Serializable, "range/serializable")
	c.hitIf(!q.Serializable, "range/linearizable")
	c.hitIf(q.CountOnly && a.Count > 1, "range/count_only")
	c.hitIf(q.KeysOnly && len(a.Kvs) > 0, "range/keys_only")
	c.hitIf(q.KeysOnly && len(a.Kvs) > 1 && q.SortTarget == pb.RangeRequest_VALUE, "range/keys_only by value")
	c.hitIf(a.More, "range/limit/more")
	c.hitIf(q.Limit > 0 && !a.More && len(a.Kvs) > 0, "range/limit/no more")
	c.hitIf(q.Limit < 0 && len(a.Kvs) > 0, "range/limit/negative")
	c.hitIf(q.Limit > 0 && int64(len(a.Kvs)) == q.Limit && !a.More, "range/limit/exact")
	if len(a.Kvs) > 1 {
		c.hit(fmt.Sprintf("range/sort/%s/%s", q.SortTarget, q.SortOrder))
		c.hitIf(a.More, fmt.Sprintf("range/sort/%s/%s/limited", q.SortTarget, q.SortOrder))
	}
	filtered := !a.More && !q.CountOnly && int64(len(a.Kvs)) < a.Count && len(a.Kvs) > 0
	for name, set := range map[string]bool{
		"min_mod": q.MinModRevision != 0, "max_mod": q.MaxModRevision != 0,
		"min_create": q.MinCreateRevision != 0, "max_create": q.MaxCreateRevision != 0,
	} {
		c.hitIf(set && filtered, "range/filter/"+name)
	}
}

func (c *coverage) rangeStream(e *env, q *pb.RangeRequest, msgs []proto.Message) {
	last := msgs[len(msgs)-1].(*pb.RangeStreamResponse).RangeResponse
	c.hit("rangestream/revision/" + readRevision(e, q.Revision))
	c.hit("rangestream/shape/" + shape(q.Key, q.RangeEnd))
	c.hitIf(len(msgs) == 1, "rangestream/one chunk")
	c.hitIf(len(msgs) == 2, "rangestream/two chunks")
	c.hitIf(len(msgs) > 2, "rangestream/more chunks")
	c.hitIf(last.More, "rangestream/limit/more")
	c.hitIf(last.More && len(msgs) > 1, "rangestream/limit/more, chunks")
	c.hitIf(q.Limit < 0, "rangestream/limit/negative")
	c.hitIf(q.CountOnly && last.Count > 1, "rangestream/count_only")
	c.hitIf(q.KeysOnly && len(msgs) > 1, "rangestream/keys_only")
	c.hitIf(q.Serializable, "rangestream/serializable")
	c.hitIf(!q.Serializable, "rangestream/linearizable")
	c.hitIf(q.SortTarget == pb.RangeRequest_KEY && q.SortOrder == pb.RangeRequest_ASCEND, "rangestream/ascending keys")
}

func (c *coverage) put(q *pb.PutRequest, a *pb.PutResponse) {
	c.hit("put/ok")
	c.hitIf(q.PrevKv && a.PrevKv != nil, "put/prev_kv")
	c.hitIf(q.PrevKv && a.PrevKv == nil, "put/prev_kv/absent")
	c.hitIf(q.Lease != 0, "put/lease")
	c.hitIf(q.Lease >= firstPicked, "put/lease picked by the server")
	c.hitIf(q.Lease == 0 && !q.IgnoreLease && a.PrevKv.GetLease() != 0, "put/lease detached")
	c.hitIf(q.IgnoreValue && q.PrevKv, "put/ignore_value")
	c.hitIf(q.IgnoreLease && a.PrevKv.GetLease() != 0, "put/ignore_lease")
	c.hitIf(len(q.Value) == 0 && !q.IgnoreValue, "put/empty value")
}

func (c *coverage) deleted(q *pb.DeleteRangeRequest, a *pb.DeleteRangeResponse) {
	c.hit("delete/shape/" + shape(q.Key, q.RangeEnd))
	c.hitIf(a.Deleted == 0, "delete/none")
	c.hitIf(a.Deleted == 1, "delete/one")
	c.hitIf(a.Deleted > 1, "delete/several")
	c.hitIf(len(a.PrevKvs) > 1, "delete/prev_kv")
}

func (c *coverage) lease(req proto.Message, out outcome) {
	switch q := req.(type) {
	case *pb.LeaseGrantRequest:
		a := out.msgs[0].(*pb.LeaseGrantResponse)
		c.hitIf(q.ID == 0, "lease/grant/picked id")
		c.hitIf(q.ID != 0, "lease/grant/given id")
		c.hitIf(q.ID < 0, "lease/grant/negative id")
		c.hitIf(q.TTL <= 0 && a.TTL > 0, "lease/grant/no ttl")
		c.hitIf(q.TTL > 0 && q.TTL < a.TTL, "lease/grant/raised ttl")
		c.hitIf(q.TTL == 9_000_000_000, "lease/grant/largest ttl")
	case *pb.LeaseRevokeRequest:
		c.hit("lease/revoke")
	case *pb.LeaseKeepAliveRequest:
		for _, m := range out.msgs {
			c.hitIf(m.(*pb.LeaseKeepAliveResponse).TTL > 0, "lease/keep-alive/known")
			c.hitIf(m.(*pb.LeaseKeepAliveResponse).TTL == 0, "lease/keep-alive/unknown")
		}
		c.hitIf(len(out.msgs) > 1, "lease/keep-alive/several on one stream")
	case *pb.LeaseTimeToLiveRequest:
		a := out.msgs[0].(*pb.LeaseTimeToLiveResponse)
		c.hitIf(a.TTL < 0, "lease/ttl/unknown")
		c.hitIf(a.TTL > 0 && !q.Keys, "lease/ttl/without keys")
		c.hitIf(a.TTL > 0 && len(a.Keys) == 0 && q.Keys, "lease/ttl/no keys")
		c.hitIf(len(a.Keys) > 1, "lease/ttl/keys")
	case *pb.LeaseLeasesRequest:
		n := len(out.msgs[0].(*pb.LeaseLeasesResponse).Leases)
		c.hitIf(n == 0, "lease/list/empty")
		c.hitIf(n > 1, "lease/list/several")
	}
}

// watch counts the answer to a create request.
func (c *coverage) watch(e *env, q *pb.WatchCreateRequest, a *pb.WatchResponse) {
	if a.Canceled {
		c.hit("watch/refused/" + a.CancelReason)
		return
	}
	c.hit("watch/shape/" + shape(q.Key, q.RangeEnd))
	c.hitIf(q.ProgressNotify, "watch/progress_notify")
	c.hitIf(q.WatchId != 0, "watch/watch_id/given")
	c.hitIf(q.WatchId < 0, "watch/watch_id/negative")
	c.hitIf(q.WatchId == 0, "watch/watch_id/picked")
	c.hitIf(len(q.Key) == 0, "watch/empty key")
	c.hitIf(q.StartRevision > e.cur, "watch/start/future")
	c.hitIf(q.StartRevision == 0, "watch/start/now")
	c.hitIf(q.StartRevision > 0 && q.StartRevision == e.compact, "watch/start/compacted at")
}

// events counts what came out of the watches of a stream.
func (c *coverage) events(s *slot, items map[int64][]proto.Message) {
	for id, list := range items {
		w := s.live[id]
		if w == nil {
			continue
		}
		seen := map[string]bool{}
		for _, m := range list {
			ev, ok := m.(*mvccpb.Event)
			if !ok {
				continue
			}
			for name, ok := range map[string]bool{
				"watch/event/" + ev.Type.String():              true,
				"watch/event/" + ev.Type.String() + "/prev_kv": ev.PrevKv != nil,
				"watch/start/past":                             w.req.StartRevision > 0 && s.askable(),
				"watch/start/future/reached":                   w.req.StartRevision > 0 && !s.askable(),
				"watch/prev_kv/absent":                         w.req.PrevKv && ev.PrevKv == nil && ev.Kv.Version > 1,
				"watch/prev_kv":                                w.req.PrevKv && ev.PrevKv != nil,
				"watch/fragment":                               w.req.Fragment,
			} {
				seen[name] = seen[name] || ok
			}
			for _, f := range w.req.Filters {
				seen["watch/filter/"+f.String()] = true
			}
		}
		for name, ok := range seen {
			c.hitIf(ok, name)
		}
	}
	for _, id := range s.logs[0].fragmented() {
		c.hitIf(id >= 0, "watch/fragment/split")
	}
}
