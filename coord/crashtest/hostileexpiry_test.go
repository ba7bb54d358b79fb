package crashtest

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/client"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// expiringOfAll starts three fragile members, each of which ends where a lease expires whose keys put puts, and returns
// what their last lines call that; then each refuses it, and all are started again.
func expiringOfAll(
	t *testing.T, put func(*clientv3.Client, clientv3.LeaseID) error, words ...string,
) (c *cluster, lease clientv3.LeaseID, entry string) {
	t.Helper()
	c = layOut(t, 3)
	program := fragile(t)
	for _, m := range c.members {
		m.program = program
	}
	c.start()
	cli := c.dial()
	for put := put; put != nil; {
		granted, err := cli.Grant(within(t, patience), 5)
		if err != nil {
			t.Fatal(err)
		}
		switch err := put(cli, granted.ID); {
		case err == nil:
			lease, put = granted.ID, nil
		case status.Code(err) != codes.NotFound: // on a busy machine it may have expired before it had a key
			t.Fatal(err)
		}
	}
	entry = ended(t, c.members, append(words, ", Tick, of member", fmt.Sprintf("at the lease %x that expires",
		lease))...)
	for _, m := range c.members {
		m.start(t)
	}
	if again := ended(t, c.members, words...); again != entry {
		t.Fatalf("they ended at %s, and at %s when they were started again", entry, again)
	}
	for _, m := range c.members {
		m.mustRefuse(t, entry)
	}
	c.start()
	putKey(t, c, "after")
	return c, lease, entry
}

// TestHostilePanicInReaction: three die by what follows, for a queue, from a lease that expires. Once they refuse that
// tick the lease is gone with its keys, the queue is broken by name, and the next one who enters it mends it.
func TestHostilePanicInReaction(t *testing.T) {
	const queue = "_coord/rwlocks/boom"
	c, lease, entry := expiringOfAll(t, func(cli *clientv3.Client, lease clientv3.LeaseID) error {
		r, err := coordv1.NewRWLockClient(cli.ActiveConnection()).TryAcquire(within(t, patience),
			&coordv1.RWAcquireRequest{Name: "boom", Lease: int64(lease), Write: true})
		if err == nil && r.Granted == nil {
			err = fmt.Errorf("not acquired: %v", r)
		}
		return err
	}, "boom has gone", queue)
	if strings.Count(entry, ".") != 1 {
		t.Errorf("the last line names %s, not the tick alone", entry)
	}
	cli := c.dial()
	if got, err := cli.Leases(within(t, patience)); err != nil || len(got.Leases) != 0 {
		t.Errorf("lease %x is among %v, %v", lease, got, err)
	}
	left, err := cli.Get(within(t, patience), queue, clientv3.WithPrefix())
	if err != nil || len(left.Kvs) != 1 || string(left.Kvs[0].Key) != queue+"/tally" {
		t.Errorf("of the queue there is %v, %v", left, err)
	}
	for _, m := range c.members {
		if page := metrics(t, m.client); !strings.Contains(page, "\ncoord_broken_queues{shard=\"1\"} 1") {
			t.Errorf("%s does not say that a queue is broken", m.name)
		}
	}
	if _, err := native(t, c.members[0]).RWLock("boom").Acquire(within(t, patience), client.Write); err != nil {
		t.Error(err)
	}
	if page := metrics(t, c.members[0].client); !strings.Contains(page, "\ncoord_broken_queues{shard=\"1\"} 0") {
		t.Error("the queue was entered, and is broken still")
	}
	c.checkEqual()
	if err := c.sameState(); err != nil {
		t.Error(err)
	}
}

// TestHostilePanicInExpiry: three die by what is done for a lease that expires, before any queue hears of it. Once they
// refuse that lease of the tick it lives on, for a day, with its keys; others expire, and it can be revoked.
func TestHostilePanicInExpiry(t *testing.T) {
	var other clientv3.LeaseID
	c, lease, entry := expiringOfAll(t, func(cli *clientv3.Client, lease clientv3.LeaseID) error {
		granted, err := cli.Grant(within(t, patience), 7)
		if err != nil {
			return err
		}
		other = granted.ID
		_, err = cli.Put(within(t, patience), "boom later", "", clientv3.WithLease(lease))
		return err
	}, "boom expires")
	if strings.Count(entry, ".") != 2 {
		t.Errorf("the last line names %s, not a lease of the tick", entry)
	}
	cli := c.dial()
	ttl, err := cli.TimeToLive(within(t, patience), lease, clientv3.WithAttachedKeys())
	if err != nil || ttl.TTL < 23*60*60 || ttl.TTL > 24*60*60 || len(ttl.Keys) != 1 {
		t.Errorf("the lease that was refused: %v, %v", ttl, err)
	}
	for {
		ttl, err := cli.TimeToLive(within(t, patience), other)
		if err != nil {
			t.Fatalf("lease %x does not expire: %v", other, err)
		}
		if ttl.TTL < 0 {
			break
		}
	}
	if _, err := cli.Revoke(within(t, patience), lease); err != nil {
		t.Error(err)
	}
	if got, err := cli.Get(within(t, patience), "boom later"); err != nil || len(got.Kvs) != 0 {
		t.Errorf("the key of the lease that was revoked: %v, %v", got, err)
	}
	c.checkEqual()
	if err := c.sameState(); err != nil {
		t.Error(err)
	}
}
