package api

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/pkg/v3/adt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/statemachine"
)

// The checks of requests, in etcd's order (server/etcdserver/api/v3rpc/key.go); then that they are not of reserved
// keys.

func checkRange(r *pb.RangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	if _, ok := pb.RangeRequest_SortOrder_name[int32(r.SortOrder)]; !ok {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	if _, ok := pb.RangeRequest_SortTarget_name[int32(r.SortTarget)]; !ok {
		return rpctypes.ErrGRPCInvalidSortOption
	}
	return nil
}

func checkRangeStream(r *pb.RangeRequest) error {
	if err := checkRange(r); err != nil {
		return err
	}
	inKeyOrder := r.SortOrder == pb.RangeRequest_NONE ||
		r.SortTarget == pb.RangeRequest_KEY && r.SortOrder == pb.RangeRequest_ASCEND
	if !inKeyOrder {
		return status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	}
	if r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0 {
		return status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
	}
	return nil
}

func checkPut(r *pb.PutRequest) error {
	switch {
	case len(r.GetKey()) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue && len(r.Value) != 0:
		return rpctypes.ErrGRPCValueProvided
	case r.IgnoreLease && r.Lease != 0:
		return rpctypes.ErrGRPCLeaseProvided
	}
	return wireError(statemachine.CheckPlain(r.Key))
}

func checkDelete(r *pb.DeleteRangeRequest) error {
	if len(r.GetKey()) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return wireError(statemachine.CheckPlain(r.Key))
}

// checkTxn checks the whole tree. The lists of a nested transaction share what maxOps leaves over to them; as that
// still lets their product grow, the tree as a whole is bounded first, and how deep it is.
func checkTxn(r *pb.TxnRequest, maxOps int) error {
	if err := statemachine.DefaultBudget.CheckTxn(r); err != nil {
		return wireError(err)
	}
	if err := checkOps(r, maxOps); err != nil {
		return err
	}
	// After the number of operations is known to be bounded: this handles each once for every level it stands below.
	if _, _, err := checkIntervals(r.Success); err != nil {
		return err
	}
	_, _, err := checkIntervals(r.Failure)
	return err
}

func checkOps(r *pb.TxnRequest, maxOps int) error {
	longest := max(len(r.GetCompare()), len(r.GetSuccess()), len(r.GetFailure()))
	if longest > maxOps {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, c := range r.GetCompare() {
		if len(c.GetKey()) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, ops := range [...][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			if err := checkOp(op, maxOps-longest); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkOp(op *pb.RequestOp, maxOps int) error {
	switch request := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		return checkRange(request.RequestRange)
	case *pb.RequestOp_RequestPut:
		return checkPut(request.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return checkDelete(request.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return checkOps(request.RequestTxn, maxOps)
	}
	return rpctypes.ErrGRPCKeyNotFound // an empty operation
}

type keySet map[string]struct{}

// checkIntervals refuses operations of one transaction that would write a key twice: two puts of it, or a put inside a
// deleted range. It returns what the operations put and delete, for the level above.
func checkIntervals(ops []*pb.RequestOp) (puts keySet, dels adt.IntervalTree, err error) {
	// The deletes of this level come first, so that the puts of the levels below meet them.
	dels = adt.NewIntervalTree()
	for _, op := range ops {
		if r := op.GetRequestDeleteRange(); r != nil {
			dels.Insert(deleted(r), struct{}{})
		}
	}
	puts = keySet{}
	for _, op := range ops {
		if r := op.GetRequestTxn(); r != nil {
			if err := addNested(puts, dels, r); err != nil {
				return nil, nil, err
			}
		}
	}
	for _, op := range ops {
		if r := op.GetRequestPut(); r != nil {
			if err := addPut(puts, dels, string(r.Key), nil); err != nil {
				return nil, nil, err
			}
		}
	}
	return puts, dels, nil
}

func deleted(r *pb.DeleteRangeRequest) adt.Interval {
	if len(r.RangeEnd) != 0 {
		return adt.NewStringAffineInterval(string(r.Key), string(r.RangeEnd))
	}
	return adt.NewStringAffinePoint(string(r.Key))
}

// addNested adds both branches of a nested transaction. They exclude each other, so they may put the same keys.
func addNested(puts keySet, dels adt.IntervalTree, r *pb.TxnRequest) error {
	thenPuts, thenDels, err := checkIntervals(r.Success)
	if err != nil {
		return err
	}
	elsePuts, elseDels, err := checkIntervals(r.Failure)
	if err != nil {
		return err
	}
	for key := range thenPuts {
		if err := addPut(puts, dels, key, nil); err != nil {
			return err
		}
	}
	for key := range elsePuts {
		if err := addPut(puts, dels, key, thenPuts); err != nil {
			return err
		}
	}
	all := adt.NewStringAffineInterval("\x00", "")
	dels.Union(thenDels, all)
	dels.Union(elseDels, all)
	return nil
}

// addPut adds key to puts. A key that is there already must be in allowed.
func addPut(puts keySet, dels adt.IntervalTree, key string, allowed keySet) error {
	if _, again := puts[key]; again {
		if _, ok := allowed[key]; !ok {
			return rpctypes.ErrGRPCDuplicateKey
		}
	}
	if dels.Intersects(adt.NewStringAffinePoint(key)) {
		return rpctypes.ErrGRPCDuplicateKey
	}
	puts[key] = struct{}{}
	return nil
}

// isReadOnly reports whether the transaction can be answered without the log. A nested transaction counts as a write,
// as in etcd.
func isReadOnly(r *pb.TxnRequest) bool {
	return allRanges(r, func(*pb.RangeRequest) bool { return true })
}

// isSerializable reports whether a read-only transaction needs no linearizable read. One without any operation, which
// only compares, needs none either, as in etcd.
func isSerializable(r *pb.TxnRequest) bool {
	return allRanges(r, (*pb.RangeRequest).GetSerializable)
}

func allRanges(r *pb.TxnRequest, ok func(*pb.RangeRequest) bool) bool {
	for _, ops := range [...][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if read := op.GetRequestRange(); read == nil || !ok(read) {
				return false
			}
		}
	}
	return true
}
