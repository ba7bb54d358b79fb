package registry

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/proto/roster"
)

// standing is what stands in the keys of an instance.
type standing struct {
	exists        bool
	lease         clientv3.LeaseID
	order         []byte // nil: none
	orderRevision int64  // 0: none
}

// write writes the instance on a lease. before is the lease that it was written on last, 0 if it never was: then it takes
// over what stands there. It can be repeated when nobody knows whether it was executed.
func (g *Registration) write(ctx context.Context, in Instance, before, lease clientv3.LeaseID) error {
	var now standing // most often nothing stands there at first
	if before == lease {
		now = standing{exists: true, lease: lease}
	}
	for known := before == lease || before == 0; ; known = true {
		if !known {
			read, err := g.r.client.Txn(ctx).Then(g.reads(in)...).Commit()
			if err != nil {
				return err
			}
			now = found(read)
		}
		if before != 0 && now.exists && now.lease != before && now.lease != lease {
			return ErrReplaced
		}
		resp, err := g.r.client.Txn(ctx).If(now.holds(in, before == lease)...).Then(ops(in, before, lease, now)...).Else(g.reads(in)...).Commit()
		if err != nil || resp.Succeeded {
			return err
		}
		now = found(resp)
	}
}

func (g *Registration) reads(in Instance) []clientv3.Op {
	return []clientv3.Op{clientv3.OpGet(roster.InstanceKey(in.Service, in.ID)), clientv3.OpGet(roster.OrderKey(in.Service, in.ID))}
}

func found(resp *clientv3.TxnResponse) standing {
	var s standing
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		s.exists, s.lease = true, clientv3.LeaseID(kvs[0].Lease)
	}
	if kvs := resp.Responses[1].GetResponseRange().Kvs; len(kvs) > 0 {
		s.order, s.orderRevision = kvs[0].Value, kvs[0].ModRevision
	}
	return s
}

// holds is the condition that things still stand so. The order is passed on from one lease to the next only.
func (s standing) holds(in Instance, sameLease bool) []clientv3.Cmp {
	key := roster.InstanceKey(in.Service, in.ID)
	cmps := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}
	if s.exists {
		cmps = []clientv3.Cmp{
			clientv3.Compare(clientv3.CreateRevision(key), ">", 0),
			clientv3.Compare(clientv3.LeaseValue(key), "=", s.lease),
		}
	}
	if !sameLease {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(roster.OrderKey(in.Service, in.ID)), "=", s.orderRevision))
	}
	return cmps
}

// ops is what to write. A registration that is new knows nothing of orders and probes of the one before; one that goes on
// in another session takes the order along, and the cluster the result of its probe.
func ops(in Instance, before, lease clientv3.LeaseID, now standing) []clientv3.Op {
	in.Lease = int64(lease)
	order := roster.OrderKey(in.Service, in.ID)
	ops := []clientv3.Op{
		clientv3.OpPut(roster.InstanceKey(in.Service, in.ID), string(in.Encode()), clientv3.WithLease(lease)),
	}
	switch {
	case before == 0 && now.lease != lease:
		ops = append(ops, clientv3.OpDelete(order), clientv3.OpDelete(roster.ProbedKey(in.Service, in.ID)))
	case before != lease && now.order != nil:
		ops = append(ops, clientv3.OpPut(order, string(now.order), clientv3.WithLease(lease)))
	}
	return append(ops, mirror(in, order, before == 0)...)
}

// mirror keeps the mirror where it belongs. Of an instance with a probe, the one who probes puts it.
func mirror(in Instance, order string, fresh bool) []clientv3.Op {
	if !in.Mirror {
		return nil
	}
	gone := clientv3.OpDelete(roster.EndpointKey(in.Service, in.Addr))
	switch {
	case in.State != StatePassing, in.Probe != nil && fresh:
		return []clientv3.Op{gone}
	case in.Probe != nil:
		return nil
	case fresh:
		return []clientv3.Op{putMirror(&in)}
	}
	undrained := clientv3.Compare(clientv3.CreateRevision(order), "=", 0) // as it was before the transaction
	return []clientv3.Op{clientv3.OpTxn([]clientv3.Cmp{undrained}, []clientv3.Op{putMirror(&in)}, []clientv3.Op{gone})}
}
