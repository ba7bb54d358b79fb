package model

import (
	"bytes"
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
)

// branches says of each transaction of a tree, itself and those nested on its path, whether its compares held.
type branches map[*pb.TxnRequest]bool

func (b branches) ops(r *pb.TxnRequest) []*pb.RequestOp {
	if b[r] {
		return r.Success
	}
	return r.Failure
}

// puts reports whether an operation on the chosen path is a put.
func (b branches) puts(r *pb.TxnRequest) bool {
	return slices.ContainsFunc(b.ops(r), func(op *pb.RequestOp) bool {
		nested := op.GetRequestTxn()
		return op.GetRequestPut() != nil || nested != nil && b.puts(nested)
	})
}

func (m *Model) txn(r *pb.TxnRequest) (any, error) { return m.runOrRead(r, true) }

// runOrRead runs a transaction of the log, or one that only reads: that blocks nobody, so what its ranges cost is not
// counted.
func (m *Model) runOrRead(r *pb.TxnRequest, logged bool) (any, error) {
	if err := m.refused(takesSpace(r)); err != nil {
		return nil, err
	}
	if m.program.Budget.CheckTxn(r) != nil {
		return nil, statemachine.ErrTooManyOps
	}
	if writesReserved(r) {
		return nil, statemachine.ErrInvalid
	}
	b, w := branches{}, &work{}
	if m.decide(b, r, w); w.exceeds(m.program.Budget) {
		return nil, statemachine.ErrTooManyOps
	}
	if err := m.checkTxn(b, r); err != nil {
		return nil, err
	}
	if logged && !m.affords(b, r, w) {
		return nil, statemachine.ErrTooManyOps
	}
	m.frees = !b.puts(r)
	resp := m.runTxn(b, r)
	resp.Header = m.header()
	return resp, nil
}

// Txn answers a transaction whose operations on the chosen branch are ranges, at the state as it stands.
func (m *Model) Txn(r *pb.TxnRequest) (*pb.TxnResponse, error) {
	c := m.Clone()
	c.out = &Outcome{}
	resp, err := c.runOrRead(r, false)
	if err != nil {
		return nil, err
	}
	return resp.(*pb.TxnResponse), nil
}

// writesReserved reports whether there is a put or a deletion of a reserved key in any branch, or a deletion that
// begins with one.
func writesReserved(r *pb.TxnRequest) bool {
	for _, op := range append(slices.Clone(r.Success), r.Failure...) {
		put, del, nested := op.GetRequestPut(), op.GetRequestDeleteRange(), op.GetRequestTxn()
		if isReserved(put.GetKey()) || isReserved(del.GetKey()) || nested != nil && writesReserved(nested) {
			return true
		}
	}
	return false
}

// takesSpace reports whether there is a put in any branch.
func takesSpace(r *pb.TxnRequest) bool {
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			if op.GetRequestPut() != nil {
				return true
			}
			if nested := op.GetRequestTxn(); nested != nil && takesSpace(nested) {
				return true
			}
		}
	}
	return false
}

// decide evaluates the compares of the whole tree, before any operation.
func (m *Model) decide(b branches, r *pb.TxnRequest, w *work) {
	b[r] = true
	for _, c := range r.Compare {
		b[r] = b[r] && m.holds(c, w)
	}
	for _, op := range b.ops(r) {
		if nested := op.GetRequestTxn(); nested != nil {
			m.decide(b, nested, w)
		}
	}
}

// holds reports whether every key in the compare's range satisfies it; where there is none, whether zeros do.
func (m *Model) holds(c *pb.Compare, w *work) bool {
	found := m.versions(c.Key, c.RangeEnd, m.Revision())
	if at := slices.IndexFunc(found, func(kv *mvccpb.KeyValue) bool { return !satisfies(c, kv) }); at >= 0 {
		w.read(c.RangeEnd, found[:at+1]) // no further
		return false
	}
	w.read(c.RangeEnd, found)
	return len(found) > 0 || c.Target != pb.Compare_VALUE && satisfies(c, &mvccpb.KeyValue{})
}

func satisfies(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	var order int
	switch c.Target {
	case pb.Compare_VERSION:
		order = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_CREATE:
		order = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		order = cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_LEASE:
		order = cmp.Compare(kv.Lease, c.GetLease())
	case pb.Compare_VALUE:
		order = bytes.Compare(kv.Value, c.GetValue())
	}
	return c.Result == pb.Compare_EQUAL && order == 0 || c.Result == pb.Compare_NOT_EQUAL && order != 0 ||
		c.Result == pb.Compare_LESS && order < 0 || c.Result == pb.Compare_GREATER && order > 0
}

// checkTxn returns the first refusal on the chosen path, against the state before the transaction.
func (m *Model) checkTxn(b branches, r *pb.TxnRequest) error {
	for _, op := range b.ops(r) {
		var err error
		switch {
		case op.GetRequestRange() != nil:
			rr := op.GetRequestRange()
			switch {
			case len(rr.Key) == 0:
				err = statemachine.ErrInvalid
			case rr.Revision > m.Revision():
				err = statemachine.ErrFutureRev
			case rr.Revision != 0 && rr.Revision < m.compacted:
				err = statemachine.ErrCompacted
			}
		case op.GetRequestPut() != nil:
			err = m.checkPut(op.GetRequestPut())
		case op.GetRequestDeleteRange() != nil && len(op.GetRequestDeleteRange().Key) == 0:
			err = statemachine.ErrInvalid
		case op.GetRequestTxn() != nil:
			err = m.checkTxn(b, op.GetRequestTxn())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) runTxn(b branches, r *pb.TxnRequest) *pb.TxnResponse {
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: b[r]}
	for _, op := range b.ops(r) {
		out := &pb.ResponseOp{}
		switch {
		case op.GetRequestRange() != nil:
			got, err := m.Range(op.GetRequestRange())
			if err != nil {
				panic(err) // it was checked
			}
			out.Response = &pb.ResponseOp_ResponseRange{ResponseRange: got}
		case op.GetRequestPut() != nil:
			out.Response = &pb.ResponseOp_ResponsePut{ResponsePut: m.doPut(op.GetRequestPut())}
		case op.GetRequestDeleteRange() != nil:
			out.Response = &pb.ResponseOp_ResponseDeleteRange{
				ResponseDeleteRange: m.doDelete(op.GetRequestDeleteRange()),
			}
		case op.GetRequestTxn() != nil:
			out.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: m.runTxn(b, op.GetRequestTxn())}
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp
}
