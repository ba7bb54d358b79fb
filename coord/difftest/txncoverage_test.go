package difftest

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// txn counts an answered transaction.
func (c *coverage) txn(q *pb.TxnRequest, a *pb.TxnResponse) {
	if len(q.Compare) == 1 {
		c.compared(q.Compare[0], a.Succeeded)
	}
	c.hitIf(len(q.Compare) > 1 && a.Succeeded, "txn/compares/all hold")
	c.hitIf(len(q.Compare) > 1 && !a.Succeeded, "txn/compares/not all hold")
	c.hitIf(len(q.Compare) == 0 && a.Succeeded, "txn/no compare")
	c.hitIf(len(q.Success)+len(q.Failure) == 0, "txn/no operation")
	c.hitIf(len(q.Compare) == maxTxnOps, "txn/limit/compare")
	c.hitIf(len(q.Success) == maxTxnOps, "txn/limit/success")
	c.hitIf(len(q.Failure) == maxTxnOps, "txn/limit/failure")
	ops := q.Success
	if !a.Succeeded {
		ops = q.Failure
		c.hitIf(len(ops) > 0, "txn/failure branch")
	}
	c.hitIf(readOnly(q) && len(ops) > 0, "txn/read-only")
	c.branch(ops, a.Responses, 0, map[string]bool{})
}

// branch counts the operations of the branch that ran; written holds the kinds of writes that came before in the
// transaction.
func (c *coverage) branch(ops []*pb.RequestOp, responses []*pb.ResponseOp, depth int, written map[string]bool) {
	for i, op := range ops {
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			c.hit("txn/op/range")
			c.hitIf(written["put"], "txn/range after a put")
			c.hitIf(written["delete"], "txn/range after a delete")
			c.hitIf(o.RequestRange.Revision != 0, "txn/range of a revision")
		case *pb.RequestOp_RequestPut:
			c.hit("txn/op/put")
			c.hitIf(o.RequestPut.Lease != 0, "txn/put with a lease")
			c.hitIf(written[string(o.RequestPut.Key)], "txn/put after a delete of the key")
			written["put"], written["put "+string(o.RequestPut.Key)] = true, true
		case *pb.RequestOp_RequestDeleteRange:
			n := responses[i].GetResponseDeleteRange().GetDeleted()
			c.hitIf(n > 0, "txn/op/delete")
			c.hitIf(n == 0, "txn/op/delete of nothing")
			c.hitIf(n > 0 && written["put "+string(o.RequestDeleteRange.Key)], "txn/delete after a put of the key")
			written["delete"] = written["delete"] || n > 0
			written[string(o.RequestDeleteRange.Key)] = n > 0
		case *pb.RequestOp_RequestTxn:
			c.hit(fmt.Sprintf("txn/nested/%d", depth+1))
			inner, a := o.RequestTxn.Success, responses[i].GetResponseTxn()
			if !a.GetSucceeded() {
				inner = o.RequestTxn.Failure
				c.hitIf(len(inner) > 0, "txn/nested/failure branch")
			}
			c.hitIf(readOnly(o.RequestTxn), "txn/nested/read-only")
			c.branch(inner, a.GetResponses(), depth+1, written)
		}
	}
}

func (c *coverage) compared(q *pb.Compare, held bool) {
	ranged := "point"
	if len(q.RangeEnd) > 0 {
		ranged = "range"
	}
	c.hit(fmt.Sprintf("compare/%s/%s/%s/%t", q.Target, q.Result, ranged, held))
}

func readOnly(q *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{q.Success, q.Failure} {
		for _, op := range ops {
			if op.GetRequestRange() == nil {
				return false
			}
		}
	}
	return true
}
