package api

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// FuzzCheckTxn gives the checks whatever a client may send: they must not panic, and what they let pass must be sound to
// the rest of the service.
func FuzzCheckTxn(f *testing.F) {
	for _, seed := range []*pb.TxnRequest{
		{},
		{Compare: []*pb.Compare{{Key: key("a")}}, Success: ops(putOp("a"), deleteOp("b", "\x00"))},
		{Success: ops(txnOp(&pb.TxnRequest{Success: ops(putOp("a"), deleteOp("b", "a")), Failure: ops(putOp("a"))}), deleteOp("x", ""))},
		{Failure: ops(&pb.RequestOp{}, rangeOp(&pb.RangeRequest{Key: key("a"), SortOrder: 9}))},
	} {
		encoded, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &pb.TxnRequest{}
		if proto.Unmarshal(data, r) != nil {
			return
		}
		costOfTxn(r)
		if checkTxn(r, 128) != nil {
			return
		}
		for _, list := range [][]*pb.RequestOp{r.Success, r.Failure} {
			seen := map[string]bool{}
			for _, op := range list {
				if put := op.GetRequestPut(); put != nil {
					if len(put.Key) == 0 || seen[string(put.Key)] {
						t.Errorf("let pass: %v", r)
					}
					seen[string(put.Key)] = true
				}
			}
		}
		isReadOnly(r)
		isSerializable(r)
	})
}
