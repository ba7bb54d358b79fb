package coordtest_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// etcdClient is etcd's client of the fake.
func etcdClient(t *testing.T, fake *coordtest.Fake) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{fake.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// grantID grants a lease of a minute with an id that the client chose, which clientv3.Lease does not let one do.
func grantID(ctx context.Context, c *clientv3.Client, id int64) error {
	_, err := clientv3.RetryLeaseClient(c).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: 60})
	return err
}

// TestLeaseIDsOfAnyValue: etcd's clients choose any id but those of lingering leases; what stands on a lease that was
// granted is nobody's place, whatever its id.
func TestLeaseIDsOfAnyValue(t *testing.T) {
	fake := coordtest.NewFake(t)
	c := etcdClient(t, fake)
	for _, id := range []int64{
		1, -1, 2, -2, math.MaxInt32, math.MaxInt32 + 1, math.MinInt32, math.MaxUint32, 1 << 62, -1 << 62, math.MaxInt64,
		math.MinInt64, math.MinInt64 + 1,
		statemachine.FirstLingering - 1, statemachine.FirstLingering + statemachine.LingeringIDs,
	} {
		if err := grantID(t.Context(), c, id); err != nil {
			t.Fatalf("grant %d: %v", id, err)
		}
		if _, err := c.Put(t.Context(), "any", "", clientv3.WithLease(clientv3.LeaseID(id))); err != nil ||
			statemachine.Lingers(id) {
			t.Fatalf("put on lease %d, which lingers: %t: %v", id, statemachine.Lingers(id), err)
		}
		if kept, err := c.KeepAliveOnce(t.Context(), clientv3.LeaseID(id)); err != nil || kept.TTL != 60 {
			t.Errorf("keep lease %d alive: %+v %v", id, kept, err)
		}
		if ttl, err := c.TimeToLive(t.Context(), clientv3.LeaseID(id), clientv3.WithAttachedKeys()); err != nil ||
			ttl.TTL <= 0 || len(ttl.Keys) != 1 {
			t.Errorf("time to live of lease %d: %+v %v", id, ttl, err)
		}
		if _, err := c.Revoke(t.Context(), clientv3.LeaseID(id)); err != nil {
			t.Errorf("revoke lease %d: %v", id, err)
		}
	}
	for _, id := range []int64{statemachine.FirstLingering, statemachine.FirstLingering + 1,
		statemachine.FirstLingering + statemachine.LingeringIDs - 1} {
		if err := grantID(t.Context(), c, id); !errors.Is(err, rpctypes.ErrGRPCLeaseExist) &&
			rpctypes.Error(err) != rpctypes.ErrLeaseExist {
			t.Errorf("grant %d: %v, want that it exists", id, err)
		}
	}
}

// TestLingeringLeaseIsNobodys: nothing that etcd's clients can do to the lease on which the place of a dead holder is
// kept makes it shorter or longer; a forced release ends it.
func TestLingeringLeaseIsNobodys(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, dead := etcdClient(t, fake), open(t, fake, 10*time.Second)
	held, err := dead.Lock("job").Acquire(t.Context(), client.WithDelay(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	fake.Advance(time.Minute)
	place := func() *mvccpb.KeyValue {
		t.Helper()
		resp, err := c.Get(t.Context(), held.Key())
		if err != nil || len(resp.Kvs) > 1 {
			t.Fatalf("%+v %v", resp, err)
		}
		if len(resp.Kvs) == 0 {
			return nil
		}
		return resp.Kvs[0]
	}
	kv := place()
	if kv == nil || !statemachine.Lingers(kv.Lease) || kv.CreateRevision != int64(held.Token()) {
		t.Fatalf("the place of the dead holder: %v", kv)
	}
	id := clientv3.LeaseID(kv.Lease)
	wantError := func(what string, err, want error) {
		t.Helper()
		if rpctypes.Error(err) != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	wantError("grant", grantID(t.Context(), c, kv.Lease), rpctypes.ErrLeaseExist)
	_, err = c.KeepAliveOnce(t.Context(), id)
	wantError("keep alive", err, rpctypes.ErrLeaseNotFound)
	_, err = c.Put(t.Context(), "job/other", "", clientv3.WithLease(id))
	wantError("attach", err, rpctypes.ErrLeaseNotFound)
	_, err = c.Txn(t.Context()).Then(clientv3.OpPut("job/other", "", clientv3.WithLease(id))).Commit()
	wantError("attach in a transaction", err, rpctypes.ErrLeaseNotFound)
	_, err = c.Revoke(t.Context(), id)
	wantError("revoke", err, rpctypes.ErrLeaseNotFound)
	if ttl, err := c.TimeToLive(t.Context(), id, clientv3.WithAttachedKeys()); err != nil || ttl.TTL != -1 ||
		len(ttl.Keys) > 0 {
		t.Errorf("time to live: %+v %v", ttl, err)
	}
	if all, err := c.Leases(t.Context()); err != nil || len(all.Leases) > 0 {
		t.Errorf("leases: %+v %v", all, err)
	}
	admin := coordv1.NewIntrospectionClient(c.ActiveConnection())
	if resp, err := admin.EndSession(t.Context(), &coordv1.EndSessionRequest{Id: kv.Lease}); err == nil {
		t.Errorf("it was ended: %v", resp)
	}
	if now := place(); now.GetModRevision() != kv.ModRevision || now.Lease != kv.Lease {
		t.Fatalf("the place is %v, was %v", now, kv)
	}
	fake.Advance(time.Hour - time.Minute) // it is kept since some moment of the minute before
	if place() == nil {
		t.Fatal("the place went before its time")
	}
	if _, err := admin.ForceRelease(t.Context(),
		&coordv1.ForceReleaseRequest{Name: "job", Reason: "the machine is gone"}); err != nil {
		t.Fatal(err)
	}
	if now := place(); now != nil {
		t.Errorf("after a forced release: %v", now)
	}
	if _, err := open(t, fake, time.Hour).Lock("job").TryAcquire(t.Context()); err != nil {
		t.Error(err)
	}
}
