package difftest

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// tooLarge is over the limit of a request (1.5 MiB) and under that of a gRPC message (512 KiB more).
	tooLarge = 1600 << 10
	// tooLargeForGRPC is over both.
	tooLargeForGRPC = 2200 << 10
)

func (d dice) put(e *env) *pb.PutRequest {
	r := &pb.PutRequest{Key: d.key(), PrevKv: d.chance(35)}
	switch n := d.IntN(100); {
	case n < 10:
		r.IgnoreValue = true
	default:
		r.Value = d.value()
	}
	switch n := d.IntN(100); {
	case n < 12:
		r.IgnoreLease, r.PrevKv = true, true
		if key := e.leasedKey(); key != nil {
			r.Key = key
		}
	case n < 40:
		r.Lease, _ = d.lease(e)
	case n < 44:
		r.Lease = d.anyLease(e)
	}
	if d.chance(8) {
		d.spoilPut(e, r)
	}
	return r
}

// spoilPut makes r a request that is refused, most of the time.
func (d dice) spoilPut(e *env, r *pb.PutRequest) {
	switch d.IntN(5) {
	case 0:
		r.Key = nil
	case 1:
		r.IgnoreValue, r.Value = true, []byte("x")
	case 2:
		r.IgnoreLease, r.Lease = true, d.anyLease(e)
	case 3:
		r.Key, r.IgnoreValue, r.Value = []byte("never put"), true, nil
	case 4:
		r.Lease = 404
	}
}

func (d dice) rangeRequest(e *env) *pb.RangeRequest {
	r := &pb.RangeRequest{Serializable: d.chance(30), KeysOnly: d.chance(15), CountOnly: d.chance(10)}
	r.Key, r.RangeEnd = d.span()
	if d.chance(15) {
		r.Key, r.RangeEnd = []byte{0}, []byte{0}
	}
	if d.chance(45) {
		r.Revision = d.revision(e)
	}
	if d.chance(45) {
		r.Limit = pick(d, []int64{1, 1, 2, 3, 5, 10, 11, 20, 30, -1, math.MaxInt64})
	}
	if d.chance(45) {
		r.SortOrder = pb.RangeRequest_SortOrder(d.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(d.IntN(5))
		if d.chance(30) {
			r.Key, r.RangeEnd, r.Revision, r.Limit = []byte{0}, []byte{0}, 0, 1+d.Int64N(4)
		}
	}
	for _, f := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if d.chance(10) {
			*f = d.near(e)
		}
	}
	switch n := d.IntN(100); {
	case n < 2:
		r.Key = nil
	case n < 4:
		r.SortOrder = pick(d, []pb.RangeRequest_SortOrder{3, -1, 1000})
	case n < 6:
		r.SortTarget = pick(d, []pb.RangeRequest_SortTarget{5, -1, 1000})
	}
	return r
}

// near returns a revision of the recent past, to filter or compare with.
func (d dice) near(e *env) int64 {
	switch n := d.IntN(100); {
	case n < 80:
		return e.cur - d.Int64N(40)
	case n < 90:
		return e.base + d.Int64N(10)
	default:
		return pick(d, []int64{-1, 1, e.cur + 1, math.MaxInt64})
	}
}

// rangeStreamRequest returns mostly a request that can be streamed. It never sorts by anything but the key without
// an order: etcd lets that pass as unsorted, sorts each chunk, and goes on from the last key of the sorted chunk, so
// it skips and repeats keys.
func (d dice) rangeStreamRequest(e *env) *pb.RangeRequest {
	r := d.rangeRequest(e)
	if d.chance(80) {
		r.SortOrder, r.SortTarget = pick(d, []pb.RangeRequest_SortOrder{0, 0, 0, pb.RangeRequest_ASCEND}), 0
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	if r.SortOrder == pb.RangeRequest_NONE {
		r.SortTarget = pb.RangeRequest_KEY
	}
	if d.chance(50) {
		r.Key, r.RangeEnd = []byte{0}, []byte{0}
	}
	return r
}

func (d dice) deleteRange() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: d.chance(40)}
	r.Key, r.RangeEnd = d.span()
	if len(r.RangeEnd) > 0 && d.chance(50) {
		// Most deletes take one key, or there would be little left to see.
		r.RangeEnd = nil
	}
	if d.chance(4) {
		r.Key = nil
	}
	return r
}

// fill returns a transaction that puts many keys, several of them with one value and one revision.
func (d dice) fill() *pb.TxnRequest {
	txn := &pb.TxnRequest{}
	for i := d.IntN(5); i < wideKeys; i += 1 + d.IntN(3) {
		put := &pb.PutRequest{Key: wideKey(i), Value: d.value()}
		txn.Success = append(txn.Success, putOp(put))
	}
	return txn
}

// compaction returns a compaction of a revision that is mostly allowed and leaves some history.
func (d dice) compaction(e *env) *pb.CompactionRequest {
	r := &pb.CompactionRequest{Physical: d.chance(30)}
	switch n := d.IntN(100); {
	case n < 60:
		r.Revision = max(e.compact+1, e.cur-d.Int64N(15))
	case n < 70:
		r.Revision = e.cur
	default:
		r.Revision = d.revision(e)
	}
	r.Revision = e.compactable(r.Revision)
	return r
}

func putOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func deleteOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func txnOp(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}
