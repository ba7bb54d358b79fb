package machine

import (
	"bytes"
	"cmp"
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// The semantics are etcd's (server/etcdserver/txn): all compares of the whole tree are evaluated before any operation;
// the operations of the chosen path are checked before the first write, so that a refused transaction has no effect;
// then they run in order, see each other's writes, and share one revision.

// txn applies a transaction.
func (b *batch) txn(r *pb.TxnRequest) statemachine.Result {
	if err := b.m.alarms.refuseTxn(r); err != nil {
		return refuse(err)
	}
	if err := b.m.opts.Budget.CheckTxn(r); err != nil {
		return refuse(err)
	}
	if err := statemachine.CheckPlainTxn(r); err != nil {
		return refuse(err)
	}
	w := work{Budget: b.m.opts.Budget}
	path, err := choosePath(b.kv.Rows(), r, &w)
	switch {
	case errors.Is(err, statemachine.ErrTooManyOps):
		return refuse(err)
	case err != nil:
		b.fail(err)
		return statemachine.Result{}
	}
	if err := b.checkPath(path); err != nil {
		return refuse(err)
	}
	if err := b.checkWork(path, &w); err != nil {
		return refuse(err)
	}
	if b.keep {
		if err := b.checkAnswer(path); err != nil {
			return refuse(err)
		}
	}
	b.frees = !path.puts()
	resp := b.runPath(path)
	resp.Header.Revision = b.kv.Revision()
	return statemachine.Result{Response: resp}
}

// txnPath is the branch that the compares of a transaction chose, with the chosen branches of those nested in it.
type txnPath struct {
	succeeded bool
	ops       []*pb.RequestOp
	nested    map[int]*txnPath // by the index of their operation
}

// puts reports whether an operation on the path is a put.
func (p *txnPath) puts() bool {
	for i, op := range p.ops {
		if op.GetRequestPut() != nil || p.nested[i] != nil && p.nested[i].puts() {
			return true
		}
	}
	return false
}

// choosePath evaluates the compares of the whole tree against src. ErrTooManyOps.
func choosePath(src mvcc.Source, r *pb.TxnRequest, w *work) (*txnPath, error) {
	p := &txnPath{succeeded: true, ops: r.Success}
	for _, c := range r.Compare {
		ok, err := compareHolds(src, c, w)
		if err != nil {
			return nil, err
		}
		if !ok {
			p.succeeded, p.ops = false, r.Failure
			break
		}
	}
	for i, op := range p.ops {
		nested := op.GetRequestTxn()
		if nested == nil {
			continue
		}
		sub, err := choosePath(src, nested, w)
		if err != nil {
			return nil, err
		}
		if p.nested == nil {
			p.nested = make(map[int]*txnPath)
		}
		p.nested[i] = sub
	}
	return p, nil
}

// compareHolds evaluates one compare: every key in its range must satisfy it. Where there is none, the value of a key
// never compares, and everything else is compared with zero. ErrTooManyOps.
func compareHolds(src mvcc.Source, c *pb.Compare, w *work) (bool, error) {
	keys := mvcc.Range{Key: c.Key, End: c.RangeEnd}
	if keys.Single() {
		kv, err := mvcc.Latest(src, c.Key)
		if err != nil {
			return false, err
		}
		if w.rest += costOf(kv); w.exceeds(0) {
			return false, statemachine.ErrTooManyOps
		}
		return compareOne(c, kv), nil
	}
	var cost int64
	found, holds := false, true
	err := mvcc.EachLatest(src, keys, func(kv *mvccpb.KeyValue) bool {
		cost += costOf(kv)
		found, holds = true, compareOne(c, kv)
		return holds && !w.exceeds(cost)
	})
	switch {
	case err != nil:
		return false, err
	case w.exceeds(cost):
		return false, statemachine.ErrTooManyOps
	case !found:
		holds = compareOne(c, nil)
	}
	w.ranged(cost)
	return holds, nil
}

func compareOne(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	if kv == nil {
		if c.Target == pb.Compare_VALUE {
			return false
		}
		kv = &mvccpb.KeyValue{}
	}
	var order int
	switch c.Target {
	case pb.Compare_VALUE:
		order = bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_CREATE:
		order = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		order = cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_VERSION:
		order = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_LEASE:
		order = cmp.Compare(kv.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return order == 0
	case pb.Compare_NOT_EQUAL:
		return order != 0
	case pb.Compare_GREATER:
		return order > 0
	case pb.Compare_LESS:
		return order < 0
	}
	return true
}

// checkPath returns the refusal that an operation on the path would meet.
func (b *batch) checkPath(p *txnPath) error {
	for i, op := range p.ops {
		var err error
		switch r := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			err = checkTxnRange(r.RequestRange, b.kv.Revision(), b.compacted)
		case *pb.RequestOp_RequestPut:
			err = b.checkPut(r.RequestPut)
		case *pb.RequestOp_RequestDeleteRange:
			if len(r.RequestDeleteRange.GetKey()) == 0 {
				err = errEmptyKey
			}
		case *pb.RequestOp_RequestTxn:
			err = b.checkPath(p.nested[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkTxnRange checks the revision of a range inside a transaction, where a negative one counts as compacted. In a
// store that was never compacted (-1) the revision -1 is none of that: it reads the latest, in etcd and so here.
func checkTxnRange(r *pb.RangeRequest, revision, compacted statemachine.Revision) error {
	switch {
	case len(r.GetKey()) == 0:
		return errEmptyKey
	case r.Revision == 0:
		return nil
	case r.Revision > revision:
		return statemachine.ErrFutureRev
	case r.Revision < compacted:
		return statemachine.ErrCompacted
	}
	return nil
}

// runPath runs the operations of a path that was checked.
func (b *batch) runPath(p *txnPath) *pb.TxnResponse {
	resp := &pb.TxnResponse{
		Header: &pb.ResponseHeader{}, Succeeded: p.succeeded, Responses: make([]*pb.ResponseOp, len(p.ops)),
	}
	for i, op := range p.ops {
		out := &pb.ResponseOp{}
		switch r := op.GetRequest().(type) {
		case *pb.RequestOp_RequestRange:
			out.Response = &pb.ResponseOp_ResponseRange{ResponseRange: b.txnRange(r.RequestRange)}
		case *pb.RequestOp_RequestPut:
			out.Response = &pb.ResponseOp_ResponsePut{ResponsePut: b.doPut(r.RequestPut)}
		case *pb.RequestOp_RequestDeleteRange:
			out.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: b.doDelete(r.RequestDeleteRange)}
		case *pb.RequestOp_RequestTxn:
			out.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: b.runPath(p.nested[i])}
		}
		resp.Responses[i] = out
	}
	return resp
}

// txnRange reads inside a transaction. Where nobody wants the answer it reads nothing: it changes no state.
func (b *batch) txnRange(r *pb.RangeRequest) *pb.RangeResponse {
	if !b.want && !b.keep {
		return nil
	}
	resp, err := rangeKeys(context.Background(), b.kv.Rows(), r, b.kv.Revision(), b.compacted)
	b.fail(err)
	return resp
}
