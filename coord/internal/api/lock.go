package api

import (
	"context"
	"errors"
	"fmt"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// lockServer and electionServer are etcd's services, but for how a caller gets in (L1):
//
//   - None is answered whose place has gone while it waited. etcd's Lock asks at the end only whether the key is there,
//     which may have been deleted and put again behind others; its Campaign asks nothing.
//   - Who does not wait any more deletes its own place, not one that was made since, nor one by which another call of
//     the same lease waits on this member or was let in: a client whose call has timed out, and that calls again, would
//     be told that it holds what its first call is about to delete.
type lockServer struct {
	v3lockpb.LockServer // etcd's
	*contest
}

type electionServer struct {
	v3electionpb.ElectionServer // etcd's
	*contest
}

func newRecipes(client *clientv3.Client) (v3lockpb.LockServer, v3electionpb.ElectionServer) {
	c := &contest{client: client, places: make(map[string]*place)}
	return lockServer{v3lock.NewLockServer(client), c}, electionServer{v3election.NewElectionServer(client), c}
}

func (s lockServer) Lock(ctx context.Context, req *v3lockpb.LockRequest) (*v3lockpb.LockResponse, error) {
	q, err := s.join(ctx, string(req.Name), req.Lease)
	if err != nil {
		return nil, err
	}
	defer s.leave(q)
	header, err := q.enter(ctx, "")
	if err == nil {
		header, err = q.await(ctx, header, concurrency.ErrSessionExpired)
	}
	if err != nil {
		return nil, err
	}
	return &v3lockpb.LockResponse{Header: header, Key: []byte(q.key)}, nil
}

func (s electionServer) Campaign(
	ctx context.Context, req *v3electionpb.CampaignRequest,
) (*v3electionpb.CampaignResponse, error) {
	q, err := s.join(ctx, string(req.Name), req.Lease)
	if err != nil {
		return nil, err
	}
	defer s.leave(q)
	header, err := q.enter(ctx, string(req.Value))
	if err == nil && q.value != string(req.Value) {
		err = q.proclaim(ctx, string(req.Value))
	}
	if err == nil {
		_, err = q.await(ctx, header, concurrency.ErrElectionNotLeader)
	}
	if err != nil {
		return nil, err
	}
	leader := &v3electionpb.LeaderKey{Name: req.Name, Key: []byte(q.key), Rev: q.create, Lease: int64(q.lease)}
	return &v3electionpb.CampaignResponse{Header: header, Leader: leader}, nil
}

// contest knows by which keys callers on this member wait.
type contest struct {
	client *clientv3.Client

	mu     sync.Mutex
	places map[string]*place
}

// place is a key by which calls wait. Guarded by contest.mu.
type place struct {
	calls map[*contender]struct{} // under way
	let   int64                   // the create revision of the key when one of them was let in, 0 if none was
	going chan struct{}           // closed when the key is deleted, nil if it is not about to be
}

// contender is one call.
type contender struct {
	*contest
	prefix, key, value string
	lease              clientv3.LeaseID
	create             int64 // of the key, 0 before it is known; guarded by contest.mu for others
	first              bool  // it made the key, and none was before it
	let                bool
}

// join begins a call, which the caller ends by leave. lease 0 is one of a minute.
func (c *contest) join(ctx context.Context, name string, lease int64) (*contender, error) {
	s, err := concurrency.NewSession(c.client, concurrency.WithLease(clientv3.LeaseID(lease)),
		concurrency.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	s.Orphan()
	q := &contender{contest: c, prefix: name + "/", key: fmt.Sprintf("%s/%x", name, s.Lease()), lease: s.Lease()}
	for {
		going := c.take(q)
		if going == nil {
			return q, nil
		}
		select {
		case <-going:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take counts a call in; or returns what to wait for before, if its key is being deleted.
func (c *contest) take(q *contender) (going chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.places[q.key]
	if p == nil {
		p = &place{calls: make(map[*contender]struct{})}
		c.places[q.key] = p
	}
	if p.going == nil {
		p.calls[q] = struct{}{}
	}
	return p.going
}

func (c *contest) leave(q *contender) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.places[q.key]
	if q.let {
		p.let = q.create
	}
	if delete(p.calls, q); len(p.calls) == 0 {
		delete(c.places, q.key)
	}
}

// shared reports whether another call has, or may have, the place of q, or was let in by it. The caller holds
// contest.mu.
func (p *place) shared(q *contender) bool {
	for other := range p.calls {
		if other != q && (other.create == 0 || other.create == q.create) {
			return true
		}
	}
	return p.let == q.create
}

// own is what holds as long as the place is the one that this call found or made.
func (q *contender) own() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(q.key), "=", q.create)
}

// enter makes the key, or finds it.
func (q *contender) enter(ctx context.Context, value string) (*pb.ResponseHeader, error) {
	put, get := clientv3.OpPut(q.key, value, clientv3.WithLease(q.lease)), clientv3.OpGet(q.key)
	first := clientv3.OpGet(q.prefix, clientv3.WithFirstCreate()...)
	resp, err := q.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(q.key), "=", 0)).Then(put,
		first).Else(get, first).Commit()
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.create, q.value = resp.Header.Revision, value
	if !resp.Succeeded {
		found := resp.Responses[0].GetResponseRange().Kvs[0]
		q.create, q.value = found.CreateRevision, string(found.Value)
	}
	q.first = resp.Succeeded && resp.Responses[1].GetResponseRange().Kvs[0].CreateRevision == q.create
	return resp.Header, nil
}

// proclaim gives the key that was found another value.
func (q *contender) proclaim(ctx context.Context, value string) error {
	resp, err := q.client.Txn(ctx).If(q.own()).Then(clientv3.OpPut(q.key, value, clientv3.WithLease(q.lease))).Commit()
	if err == nil && !resp.Succeeded {
		return concurrency.ErrElectionNotLeader
	}
	if err != nil {
		q.withdraw()
	}
	return err
}

// await waits until no key below the name is older, and returns the header at which the call was let in; lost, if its
// place has gone by then.
func (q *contender) await(ctx context.Context, entered *pb.ResponseHeader, lost error) (*pb.ResponseHeader, error) {
	if q.first {
		q.let = true
		return entered, nil
	}
	err := q.awaitOlder(ctx)
	if err == nil {
		var resp *clientv3.TxnResponse
		if resp, err = q.client.Txn(ctx).If(q.own()).Commit(); err == nil {
			if q.let = resp.Succeeded; !q.let {
				err = lost
			}
			return resp.Header, err
		}
	}
	q.withdraw()
	return nil, err
}

func (q *contender) awaitOlder(ctx context.Context) error {
	last := append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(q.create-1))
	for {
		resp, err := q.client.Get(ctx, q.prefix, last...)
		if err != nil || len(resp.Kvs) == 0 {
			return err
		}
		if err := q.awaitDeletion(ctx, string(resp.Kvs[0].Key), resp.Header.Revision); err != nil {
			return err
		}
	}
}

func (q *contender) awaitDeletion(ctx context.Context, key string, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range q.client.Watch(ctx, key, clientv3.WithRev(from)) {
		if err := resp.Err(); err != nil {
			return err
		}
		for _, e := range resp.Events {
			if e.Type == clientv3.EventTypeDelete {
				return nil
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.New("lost watcher waiting for delete") // etcd's text
}

// withdraw deletes the place of a call that has failed, unless another one has it, too. Who calls again waits for that.
func (q *contender) withdraw() {
	going := make(chan struct{})
	q.mu.Lock()
	p := q.places[q.key]
	shared := p.shared(q)
	if !shared {
		p.going = going
	}
	q.mu.Unlock()
	if shared {
		return
	}
	// else it goes with its lease
	_, _ = q.client.Txn(q.client.Ctx()).If(q.own()).Then(clientv3.OpDelete(q.key)).Commit()
	q.mu.Lock()
	defer q.mu.Unlock()
	p.going = nil
	close(going)
}
