package machine

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// decoded applies a command whose body is a message of type M. A body that does not parse is a refusal: every replica
// refuses it alike.
func decoded[T any, M interface {
	*T
	proto.Message
}](b *batch, c raftv1.Command, apply func(M) statemachine.Result) statemachine.Result {
	msg := M(new(T))
	if err := proto.Unmarshal(c.Body, msg); err != nil {
		b.m.unparsed.Add(1)
		return refuse(fmt.Errorf("%w: kind %d: %v", statemachine.ErrInvalid, c.Kind, err))
	}
	return apply(msg)
}

func refuse(err error) statemachine.Result { return statemachine.Result{Err: err} }

var errEmptyKey = fmt.Errorf("%w: key is empty", statemachine.ErrInvalid)

func (b *batch) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: b.kv.Revision()}
}

// put applies a put outside a transaction.
func (b *batch) put(r *pb.PutRequest) statemachine.Result {
	if err := b.m.alarms.refuseWrite(); err != nil {
		return refuse(err)
	}
	if err := statemachine.CheckPlain(r.Key); err != nil {
		return refuse(err)
	}
	if err := b.checkPut(r); err != nil {
		return refuse(err)
	}
	return statemachine.Result{Response: b.doPut(r)}
}

// checkPut returns the refusal that r would meet now. It reads the key only where that decides.
func (b *batch) checkPut(r *pb.PutRequest) error {
	if len(r.Key) == 0 {
		return errEmptyKey
	}
	if r.Lease != 0 && !b.m.leases.Alive(r.Lease) {
		return statemachine.ErrLeaseNotFound
	}
	if (r.IgnoreValue || r.IgnoreLease) && b.get(r.Key) == nil {
		return statemachine.ErrKeyNotFound
	}
	return nil
}

func (b *batch) doPut(r *pb.PutRequest) *pb.PutResponse {
	prev := b.get(r.Key)
	value, lease := r.Value, r.Lease
	if prev != nil && r.IgnoreValue {
		value = prev.Value
	}
	if prev != nil && r.IgnoreLease {
		lease = prev.Lease
	}
	b.putKey(r.Key, value, lease, prev)
	resp := &pb.PutResponse{Header: b.header()}
	if r.PrevKv {
		resp.PrevKv = prev
	}
	return resp
}

// deleteRange applies a delete outside a transaction. It is never refused for space.
func (b *batch) deleteRange(r *pb.DeleteRangeRequest) statemachine.Result {
	if err := b.m.alarms.refuseCorrupt(); err != nil {
		return refuse(err)
	}
	if len(r.Key) == 0 {
		return refuse(errEmptyKey)
	}
	if err := statemachine.CheckPlain(r.Key); err != nil {
		return refuse(err)
	}
	if b.keep {
		op := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
		if err := b.checkAnswer(&txnPath{ops: []*pb.RequestOp{op}}); err != nil {
			return refuse(err)
		}
	}
	b.frees = true
	return statemachine.Result{Response: b.doDelete(r)}
}

func (b *batch) doDelete(r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	d := deleting{batch: b, keep: r.PrevKv && (b.want || b.keep)}
	if keys := (mvcc.Range{Key: r.Key, End: r.RangeEnd}); !keys.Single() {
		plainRanges(keys, d.scan)
		d.end()
	} else if kv := b.get(r.Key); kv != nil {
		b.deleteKey(kv)
		d.n = 1
		if d.keep {
			d.found = append(d.found, kv)
		}
	}
	return &pb.DeleteRangeResponse{Header: b.header(), Deleted: int64(d.n), PrevKvs: d.found}
}
