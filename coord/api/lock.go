package api

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// lockServer is etcd's Lock service, but that it never answers a caller whose place has gone while it waited. etcd's asks at the end
// only whether the key is there: one that was deleted and put again since, perhaps behind others, would make a second holder (L1).
type lockServer struct {
	v3lockpb.LockServer // etcd's
	client              *clientv3.Client
}

func (s lockServer) Lock(ctx context.Context, req *v3lockpb.LockRequest) (*v3lockpb.LockResponse, error) {
	session, err := concurrency.NewSession(s.client, concurrency.WithLease(clientv3.LeaseID(req.Lease)), concurrency.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	session.Orphan()
	m := concurrency.NewMutex(session, string(req.Name))
	if err := m.Lock(ctx); err != nil {
		return nil, err
	}
	place, header := m.IsOwner(), m.Header()
	if header.Revision != place.GetCompare().GetCreateRevision() { // it waited, or found its key
		resp, err := s.client.Txn(ctx).If(place).Commit()
		if err != nil {
			_, _ = s.client.Txn(s.client.Ctx()).If(place).Then(clientv3.OpDelete(m.Key())).Commit() // as etcd's, nobody waits for it
			return nil, err
		}
		if !resp.Succeeded {
			return nil, concurrency.ErrSessionExpired
		}
		header = resp.Header
	}
	return &v3lockpb.LockResponse{Header: header, Key: []byte(m.Key())}, nil
}
