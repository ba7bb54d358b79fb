package api

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// wants is the code and the text of an error on the wire; the zero value means none.
type wants struct {
	code codes.Code
	text string
}

func (w wants) check(t *testing.T, err error) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != w.code || s.Message() != w.text {
		t.Errorf("got %v %q, want %v %q", s.Code(), s.Message(), w.code, w.text)
	}
}

var (
	wantEmptyKey     = wants{codes.InvalidArgument, "etcdserver: key is not provided"}
	wantSort         = wants{codes.InvalidArgument, "etcdserver: invalid sort option"}
	wantTooManyOps   = wants{codes.InvalidArgument, "etcdserver: too many operations in txn request"}
	wantDuplicate    = wants{codes.InvalidArgument, "etcdserver: duplicate key given in txn request"}
	wantKeyNotFound  = wants{codes.InvalidArgument, "etcdserver: key not found"}
	wantNoSortStream = wants{codes.Unimplemented, "RangeStream does not support custom sort orders"}
	wantNoRevStream  = wants{codes.Unimplemented, "RangeStream does not support revision filters"}
)

func key(s string) []byte { return []byte(s) }

func putOp(k string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key(k)}}}
}

func deleteOp(k, end string) *pb.RequestOp {
	return &pb.RequestOp{
		Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: key(k), RangeEnd: key(end)},
		},
	}
}

func rangeOp(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func txnOp(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func ops(ops ...*pb.RequestOp) []*pb.RequestOp { return ops }

func TestCheckRange(t *testing.T) {
	for name, c := range map[string]struct {
		r              *pb.RangeRequest
		unary, streams wants
	}{
		"plain":            {&pb.RangeRequest{Key: key("a")}, wants{}, wants{}},
		"no key":           {&pb.RangeRequest{}, wantEmptyKey, wantEmptyKey},
		"key before sort":  {&pb.RangeRequest{SortOrder: 9}, wantEmptyKey, wantEmptyKey},
		"sort order":       {&pb.RangeRequest{Key: key("a"), SortOrder: 9}, wantSort, wantSort},
		"sort target":      {&pb.RangeRequest{Key: key("a"), SortTarget: -1}, wantSort, wantSort},
		"ascending by key": {&pb.RangeRequest{Key: key("a"), SortOrder: pb.RangeRequest_ASCEND}, wants{}, wants{}},
		"target only":      {&pb.RangeRequest{Key: key("a"), SortTarget: pb.RangeRequest_MOD}, wants{}, wants{}},
		"descending": {&pb.RangeRequest{Key: key("a"), SortOrder: pb.RangeRequest_DESCEND}, wants{},
			wantNoSortStream},
		"min mod":    {&pb.RangeRequest{Key: key("a"), MinModRevision: 1}, wants{}, wantNoRevStream},
		"max create": {&pb.RangeRequest{Key: key("a"), MaxCreateRevision: 1}, wants{}, wantNoRevStream},
	} {
		t.Run(name, func(t *testing.T) {
			c.unary.check(t, checkRange(c.r))
			c.streams.check(t, checkRangeStream(c.r))
		})
	}
}

func TestCheckPutAndDelete(t *testing.T) {
	wantEmptyKey.check(t, checkPut(&pb.PutRequest{IgnoreLease: true, Lease: 1}))
	wants{codes.InvalidArgument, "etcdserver: value is provided"}.check(t, checkPut(&pb.PutRequest{
		Key: key("a"), Value: key("v"), IgnoreValue: true, IgnoreLease: true, Lease: 1,
	}))
	wants{codes.InvalidArgument, "etcdserver: lease is provided"}.check(t,
		checkPut(&pb.PutRequest{Key: key("a"), IgnoreLease: true, Lease: 1}))
	wants{}.check(t, checkPut(&pb.PutRequest{Key: key("a"), IgnoreValue: true, Lease: 1}))
	wantEmptyKey.check(t, checkDelete(&pb.DeleteRangeRequest{RangeEnd: key("b")}))
	wants{}.check(t, checkDelete(&pb.DeleteRangeRequest{Key: key("b")}))
}

func TestCheckTxn(t *testing.T) {
	nested := func(then, otherwise []*pb.RequestOp) *pb.RequestOp {
		return txnOp(&pb.TxnRequest{Success: then, Failure: otherwise})
	}
	for name, c := range map[string]struct {
		txn  *pb.TxnRequest
		want wants
	}{
		"empty":               {&pb.TxnRequest{}, wants{}},
		"compare without key": {&pb.TxnRequest{Compare: []*pb.Compare{{}}}, wantEmptyKey},
		"too many compares":   {&pb.TxnRequest{Compare: []*pb.Compare{{}, {}, {}, {}}}, wantTooManyOps},
		"too many ops": {&pb.TxnRequest{
			Failure: ops(putOp("a"), putOp("b"), putOp("c"), putOp("d")),
		}, wantTooManyOps},
		"as many as allowed":  {&pb.TxnRequest{Success: ops(putOp("a"), putOp("b"), putOp("c"))}, wants{}},
		"nested has the rest": {&pb.TxnRequest{Success: ops(nested(ops(putOp("a"), putOp("b")), nil))}, wants{}},
		"nested beyond it": {&pb.TxnRequest{
			Success: ops(nested(ops(putOp("a"), putOp("b"), putOp("c")), nil)),
		}, wantTooManyOps},
		"empty op":       {&pb.TxnRequest{Success: ops(&pb.RequestOp{})}, wantKeyNotFound},
		"op without key": {&pb.TxnRequest{Success: ops(putOp(""))}, wantEmptyKey},
		"range with bad sort": {&pb.TxnRequest{
			Failure: ops(rangeOp(&pb.RangeRequest{Key: key("a"), SortOrder: 7})),
		}, wantSort},
		"two puts":             {&pb.TxnRequest{Success: ops(putOp("a"), putOp("a"))}, wantDuplicate},
		"puts of two branches": {&pb.TxnRequest{Success: ops(putOp("a")), Failure: ops(putOp("a"))}, wants{}},
		"put in a deleted key": {&pb.TxnRequest{Success: ops(putOp("a"), deleteOp("a", ""))}, wantDuplicate},
		"put in a range":       {&pb.TxnRequest{Success: ops(deleteOp("a", "c"), putOp("b"))}, wantDuplicate},
		"put at its end":       {&pb.TxnRequest{Success: ops(deleteOp("a", "c"), putOp("c"))}, wants{}},
		// etcd takes "\x00" for an ordinary end here
		"put from key on": {&pb.TxnRequest{Success: ops(deleteOp("a", "\x00"), putOp("z"))}, wants{}},
		"deletes overlap": {&pb.TxnRequest{Success: ops(deleteOp("a", "c"), deleteOp("b", "d"))}, wants{}},
		"range overlaps": {&pb.TxnRequest{
			Success: ops(putOp("a"), rangeOp(&pb.RangeRequest{Key: key("a")})),
		}, wants{}},
		"nested then and else": {&pb.TxnRequest{Success: ops(nested(ops(putOp("a")), ops(putOp("a"))))}, wants{}},
		"nested and above": {&pb.TxnRequest{
			Success: ops(nested(ops(putOp("a")), nil), putOp("a")),
		}, wantDuplicate},
		"nested and deleted": {&pb.TxnRequest{
			Success: ops(nested(nil, ops(putOp("b"))), deleteOp("a", "c")),
		}, wantDuplicate},
		"nested delete and put": {&pb.TxnRequest{
			Success: ops(nested(ops(deleteOp("a", "c")), nil), putOp("b")),
		}, wantDuplicate},
		"two nested puts": {&pb.TxnRequest{
			Failure: ops(nested(ops(putOp("a")), nil), nested(nil, ops(putOp("a")))),
		}, wantDuplicate},
	} {
		t.Run(name, func(t *testing.T) { c.want.check(t, checkTxn(c.txn, 3)) })
	}
}

func TestReadOnlyTxn(t *testing.T) {
	linear, local := rangeOp(&pb.RangeRequest{Key: key("a")}),
		rangeOp(&pb.RangeRequest{Key: key("a"), Serializable: true})
	for name, c := range map[string]struct {
		txn                    *pb.TxnRequest
		readOnly, serializable bool
	}{
		"compares only": {&pb.TxnRequest{Compare: []*pb.Compare{{Key: key("a")}}}, true, true}, // etcd's quirk
		"linearizable":  {&pb.TxnRequest{Success: ops(linear)}, true, false},
		"serializable":  {&pb.TxnRequest{Success: ops(local), Failure: ops(local)}, true, true},
		"mixed":         {&pb.TxnRequest{Success: ops(local), Failure: ops(linear)}, true, false},
		"put":           {&pb.TxnRequest{Failure: ops(putOp("a"))}, false, false},
		"nested":        {&pb.TxnRequest{Success: ops(txnOp(&pb.TxnRequest{}))}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isReadOnly(c.txn); got != c.readOnly {
				t.Errorf("isReadOnly = %v", got)
			}
			if got := isSerializable(c.txn); got != c.serializable {
				t.Errorf("isSerializable = %v", got)
			}
		})
	}
}

// TestCheckTxnOfATree: the lists of a tree are short, and yet it would take seconds to check: how many operations there
// are in all, each once a level, is bounded first.
func TestCheckTxnOfATree(t *testing.T) {
	n := 0
	var tree func(depth, width int) *pb.TxnRequest
	tree = func(depth, width int) *pb.TxnRequest {
		r := &pb.TxnRequest{}
		for range width {
			n++
			if depth == 1 {
				r.Success = append(r.Success, deleteOp(fmt.Sprint("d", n), ""))
				r.Failure = append(r.Failure, putOp(fmt.Sprint("p", n)))
			} else {
				r.Success = append(r.Success, txnOp(tree(depth-1, width)))
			}
		}
		return r
	}
	chain := func(length int, r *pb.TxnRequest) *pb.TxnRequest {
		for range length {
			r = &pb.TxnRequest{Success: ops(txnOp(r))}
		}
		return r
	}
	for _, c := range []struct {
		what string
		r    *pb.TxnRequest
		want wants
	}{
		{"a wide tree", tree(3, 42), wantTooManyOps},
		{"a tree at the end of a chain", chain(38, tree(3, 25)), wantTooManyOps},
		{"a chain", chain(127, tree(1, 1)), wants{}},
		{"a tree that is less wide", tree(3, 14), wants{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			begin := time.Now()
			c.want.check(t, checkTxn(c.r, 128))
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
