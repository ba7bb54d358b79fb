package coordtest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

// TestForgedTallyMakesNoSecondWriter: whatever an etcd client tries to write over or delete of what a lock is kept by,
// nobody is admitted beside the writer that holds.
func TestForgedTallyMakesNoSecondWriter(t *testing.T) {
	fake := coordtest.NewFake(t)
	c := etcdClient(t, fake)
	first, second := open(t, fake, time.Hour), open(t, fake, time.Hour)
	held, err := first.RWLock("catalog").Acquire(t.Context(), client.Write)
	if err != nil {
		t.Fatal(err)
	}
	const tally = "_coord/rwlocks/catalog/tally"
	resp, err := c.Get(t.Context(), tally)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("anybody may read it: %v %v", resp, err)
	}
	forged, err := proto.Marshal(&recipesv1.Tally{})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := c.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	session, err := concurrency.NewSession(c, concurrency.WithLease(lease.ID))
	if err != nil {
		t.Fatal(err)
	}
	never := clientv3.Compare(clientv3.Version("none"), ">", 0)
	for what, try := range map[string]func() error{
		"put": func() error { _, err := c.Put(t.Context(), tally, string(forged)); return err },
		"put on a lease": func() error {
			_, err := c.Put(t.Context(), tally, "", clientv3.WithLease(lease.ID))
			return err
		},
		"put through the SDK": func() error {
			_, err := second.KV().Put(t.Context(), tally, string(forged))
			return err
		},
		"delete":                 func() error { _, err := c.Delete(t.Context(), tally); return err },
		"delete through the SDK": func() error { _, err := second.KV().Delete(t.Context(), tally); return err },
		"delete the prefix": func() error {
			_, err := c.Delete(t.Context(), "_coord/rwlocks/catalog/", clientv3.WithPrefix())
			return err
		},
		"delete the holder": func() error { _, err := c.Delete(t.Context(), held.Key()); return err },
		"transaction": func() error {
			_, err := c.Txn(t.Context()).Then(clientv3.OpPut("x", ""), clientv3.OpPut(tally, string(forged))).Commit()
			return err
		},
		"branch that is not taken": func() error {
			_, err := c.Txn(t.Context()).If(never).Then(clientv3.OpDelete(tally)).Else(clientv3.OpPut("x", "")).Commit()
			return err
		},
		"nested": func() error {
			_, err := c.Txn(t.Context()).Then(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(tally, string(forged))},
				nil)).Commit()
			return err
		},
		"transaction through the SDK": func() error {
			_, err := second.KV().Txn(t.Context()).If(never).Then().Else(clientv3.OpTxn(nil, nil,
				[]clientv3.Op{clientv3.OpDelete(tally)})).Commit()
			return err
		},
		"etcd's mutex": func() error {
			return concurrency.NewMutex(session, "_coord/rwlocks/catalog").Lock(t.Context())
		},
		"etcd's election": func() error {
			return concurrency.NewElection(session, "_coord/elections/x").Campaign(t.Context(), "me")
		},
		"Lock RPC": func() error {
			_, err := v3lockpb.NewLockClient(c.ActiveConnection()).Lock(t.Context(), &v3lockpb.LockRequest{
				Name: []byte("_coord/rwlocks/catalog"), Lease: int64(lease.ID),
			})
			return err
		},
		"Campaign RPC": func() error {
			_, err := v3electionpb.NewElectionClient(c.ActiveConnection()).Campaign(t.Context(),
				&v3electionpb.CampaignRequest{Name: []byte("_coord/elections/x"), Lease: int64(lease.ID)})
			return err
		},
	} {
		err := try()
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "_coord/") {
			t.Errorf("%s: %v, want that it is refused by the name of the key", what, err)
		}
		if h, err := second.RWLock("catalog").TryAcquire(t.Context(), client.Write); !errors.Is(err,
			client.ErrNotAcquired) {
			t.Fatalf("%s: a second writer holds: %v %v", what, h, err)
		}
	}
	// What begins before passes over it.
	if resp, err := c.Delete(t.Context(), "", clientv3.WithFromKey(), clientv3.WithPrevKV()); err != nil ||
		resp.Deleted != 0 {
		t.Errorf("delete everything: %v %v", resp, err)
	}
	if _, err := second.RWLock("catalog").TryAcquire(t.Context(), client.Write); !errors.Is(err,
		client.ErrNotAcquired) {
		t.Fatalf("after everything was deleted: %v", err)
	}
	if err := held.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
