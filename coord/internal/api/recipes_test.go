package api

import (
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"

	"github.com/coord-dev/coord/coord/internal/watch"
)

// serveWatch serves with a real Watch service, which waiting needs.
func serveWatch(t *testing.T) *fixture {
	return serve(t, func(o *serverOptions) {
		b := o.Backend.(*machineBackend)
		hub := watch.New(watch.Options{Source: watch.From(b.Machine.View)})
		t.Cleanup(hub.Close)
		b.onApplied = hub.Applied
		o.Watch = watch.NewServer(hub, watch.ServerOptions{Header: func(*pb.ResponseHeader) {}})
	})
}

func (f *fixture) grant(t *testing.T, id int64) int64 {
	t.Helper()
	if _, err := f.lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 60}); err != nil {
		t.Fatal(err)
	}
	return id
}

// A second Lock waits until the first is released, and its key follows the layout of etcd's clients.
func TestLockService(t *testing.T) {
	f := serveWatch(t)
	client, ctx := v3lockpb.NewLockClient(f.conn), t.Context()
	first, err := client.Lock(ctx, &v3lockpb.LockRequest{Name: key("l"), Lease: f.grant(t, 0x10)})
	if err != nil || string(first.Key) != "l/10" {
		t.Fatalf("lock: %v, %v", first, err)
	}
	again, err := client.Lock(ctx, &v3lockpb.LockRequest{Name: key("l"), Lease: 0x10})
	if err != nil || string(again.Key) != "l/10" {
		t.Errorf("the holder locks again: %v, %v", again, err)
	}
	second := make(chan error, 1)
	lease := f.grant(t, 0x20)
	go func() {
		got, err := client.Lock(ctx, &v3lockpb.LockRequest{Name: key("l"), Lease: lease})
		if err == nil && string(got.Key) != "l/20" {
			t.Errorf("second key %q", got.Key)
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("the second lock did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := client.Unlock(ctx, &v3lockpb.UnlockRequest{Key: first.Key}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-second:
		wants{}.check(t, err)
	case <-time.After(time.Minute):
		t.Fatal("the second lock was never granted")
	}
}

func TestElectionService(t *testing.T) {
	f := serveWatch(t)
	client, ctx := v3electionpb.NewElectionClient(f.conn), t.Context()
	_, err := client.Leader(ctx, &v3electionpb.LeaderRequest{Name: key("e")})
	wants{codes.Unknown, "election: no leader"}.check(t, err)
	_, err = client.Resign(ctx, &v3electionpb.ResignRequest{})
	wants{codes.Unknown, `"leader" field must be provided`}.check(t, err)

	observe, err := client.Observe(ctx, &v3electionpb.LeaderRequest{Name: key("e")})
	if err != nil {
		t.Fatal(err)
	}
	won, err := client.Campaign(ctx, &v3electionpb.CampaignRequest{
		Name: key("e"), Value: key("one"), Lease: f.grant(t, 0x10),
	})
	if err != nil || string(won.Leader.Key) != "e/10" {
		t.Fatalf("campaign: %v, %v", won, err)
	}
	wantObserved(t, observe, "one")
	if _,
		err := client.Proclaim(ctx, &v3electionpb.ProclaimRequest{Leader: won.Leader, Value: key("two")}); err != nil {
		t.Fatal(err)
	}
	wantObserved(t, observe, "two")
	leader, err := client.Leader(ctx, &v3electionpb.LeaderRequest{Name: key("e")})
	if err != nil || string(leader.Kv.Value) != "two" {
		t.Errorf("leader %v, %v", leader, err)
	}
	if _, err := client.Resign(ctx, &v3electionpb.ResignRequest{Leader: won.Leader}); err != nil {
		t.Fatal(err)
	}
	_, err = client.Proclaim(ctx, &v3electionpb.ProclaimRequest{Leader: won.Leader, Value: key("three")})
	wants{codes.Unknown, "election: not leader"}.check(t, err)
}

func wantObserved(t *testing.T, observe v3electionpb.Election_ObserveClient, value string) {
	t.Helper()
	got, err := observe.Recv()
	if err != nil || string(got.Kv.Value) != value {
		t.Errorf("observed %v, %v; want %q", got, err, value)
	}
}
