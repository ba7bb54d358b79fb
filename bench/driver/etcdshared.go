package driver

import (
	"context"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"

	"github.com/coord-dev/coord/bench/wire"
)

// etcdRegister is a key; its version is the mod revision.
type etcdRegister struct {
	conn *wire.Conn
	key  string
}

func (r etcdRegister) read(ctx context.Context) (int, int64, error) {
	resp, err := r.conn.KV.Range(ctx, &pb.RangeRequest{Key: []byte(r.key)})
	if err != nil || len(resp.Kvs) == 0 {
		return 0, 0, err
	}
	n, err := parseNumber(resp.Kvs[0].Value)
	return n, resp.Kvs[0].ModRevision, err
}

func (r etcdRegister) swap(ctx context.Context, n int, version int64) (bool, error) {
	resp, err := r.conn.KV.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: []byte(r.key), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: version},
		}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: []byte(r.key), Value: []byte(strconv.Itoa(n))},
		}}},
	})
	return err == nil && resp.Succeeded, err
}

func (d *etcd) Count(ctx context.Context, caller int) error {
	return change(ctx, etcdRegister{d.conn(caller), sharedCounter}, 1, noLimit)
}

func (d *etcd) Permit(ctx context.Context, caller int) error {
	return permit(ctx, etcdRegister{d.conn(caller), sharedPermits})
}

// Party is of etcd's package recipes, on a session that many parties share.
func (d *etcd) Party(_ context.Context, name string, parties int) (Party, error) {
	s := d.shared[int(d.contenders.Add(1))%len(d.shared)]
	return etcdParty{recipe.NewDoubleBarrier(s, name, parties)}, nil
}

// etcdParty's calls know no context; what ends them is the end of the clients.
type etcdParty struct{ barrier *recipe.DoubleBarrier }

func (p etcdParty) Enter(context.Context) error { return p.barrier.Enter() }

func (p etcdParty) Leave(context.Context) error { return p.barrier.Leave() }
