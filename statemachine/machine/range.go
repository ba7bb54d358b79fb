package machine

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// rangeKeys answers a range request from src, whose latest state is revision current. The semantics are etcd's
// (server/etcdserver/txn/range.go), its quirks included:
//
//   - count is the number of keys at the revision, whatever limit and filters say;
//   - with a sort order or a revision filter the limit applies after them;
//   - a target other than KEY with order NONE sorts ascending, but after the limit cut the keys in key order;
//   - keys_only leaves lease unset, unless the sort is by value.
func rangeKeys(
	ctx context.Context, src mvcc.Source, r *pb.RangeRequest, current, compacted statemachine.Revision,
) (*pb.RangeResponse, error) {
	return readRange(ctx, src, r, current, compacted, false)
}

// readRange is rangeKeys; uncounted leaves out what is behind the limit from count.
func readRange(
	ctx context.Context, src mvcc.Source, r *pb.RangeRequest, current, compacted statemachine.Revision, uncounted bool,
) (*pb.RangeResponse, error) {
	rev := r.Revision
	switch {
	case rev > current:
		return nil, statemachine.ErrFutureRev
	case rev <= 0:
		rev = current
	}
	if rev < compacted {
		return nil, statemachine.ErrCompacted
	}
	sel := mvcc.Select{
		Range: mvcc.Range{Key: r.Key, End: r.RangeEnd}, Limit: readLimit(r), CountOnly: r.CountOnly,
		Uncounted: uncounted,
	}
	if rev < current {
		sel.Revision = rev
	}
	kvs, count, err := mvcc.Collect(ctx, src, sel)
	if err != nil {
		return nil, err
	}
	fast := r.KeysOnly && r.SortTarget != pb.RangeRequest_VALUE
	if fast {
		clearValues(kvs, true)
	}
	kvs = filter(kvs, r)
	sortKeys(kvs, r)
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: current}, Count: count}
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, resp.More = kvs[:r.Limit], true
	}
	if r.KeysOnly && !fast {
		clearValues(kvs, false)
	}
	resp.Kvs = kvs
	return resp, nil
}

// readLimit is how many keys to read: one more than asked for tells whether there are more.
func readLimit(r *pb.RangeRequest) int64 {
	switch {
	case !defaultOrder(r) || revisionFilter(r) || r.Limit <= 0:
		return 0
	case r.Limit == math.MaxInt64:
		return r.Limit
	}
	return r.Limit + 1
}

func defaultOrder(r *pb.RangeRequest) bool {
	return r.SortOrder == pb.RangeRequest_NONE ||
		r.SortTarget == pb.RangeRequest_KEY && r.SortOrder == pb.RangeRequest_ASCEND
}

func revisionFilter(r *pb.RangeRequest) bool {
	return r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
}

func clearValues(kvs []*mvccpb.KeyValue, lease bool) {
	for _, kv := range kvs {
		kv.Value = nil
		if lease {
			kv.Lease = 0
		}
	}
}

func filter(kvs []*mvccpb.KeyValue, r *pb.RangeRequest) []*mvccpb.KeyValue {
	if !revisionFilter(r) {
		return kvs
	}
	return slices.DeleteFunc(kvs, func(kv *mvccpb.KeyValue) bool {
		return r.MaxModRevision != 0 && kv.ModRevision > r.MaxModRevision ||
			r.MinModRevision != 0 && kv.ModRevision < r.MinModRevision ||
			r.MaxCreateRevision != 0 && kv.CreateRevision > r.MaxCreateRevision ||
			r.MinCreateRevision != 0 && kv.CreateRevision < r.MinCreateRevision
	})
}

// sortKeys sorts by the request's target. The order of equal ones is not promised, but it is etcd's: sort.Sort there
// and slices.SortFunc here are the same algorithm. A stable sort would tell the difference, above a dozen keys.
func sortKeys(kvs []*mvccpb.KeyValue, r *pb.RangeRequest) {
	order := r.SortOrder
	if r.SortTarget != pb.RangeRequest_KEY && order == pb.RangeRequest_NONE {
		order = pb.RangeRequest_ASCEND
	}
	if order == pb.RangeRequest_NONE || r.SortTarget == pb.RangeRequest_KEY && order == pb.RangeRequest_ASCEND {
		return
	}
	compare := compareBy(r.SortTarget)
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int {
		if order == pb.RangeRequest_DESCEND {
			a, b = b, a
		}
		return compare(a, b)
	})
}

func compareBy(target pb.RangeRequest_SortTarget) func(a, b *mvccpb.KeyValue) int {
	switch target {
	case pb.RangeRequest_VERSION:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.Version, b.Version) }
	case pb.RangeRequest_CREATE:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) }
	case pb.RangeRequest_MOD:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) }
	case pb.RangeRequest_VALUE:
		return func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Value, b.Value) }
	}
	return func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) }
}
