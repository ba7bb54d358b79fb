package exampletest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// TestEtcdAPIOverTheStream: what etcd's client offers goes over the one stream, and answers as etcd's client does.
func TestEtcdAPIOverTheStream(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, ctx := dial(t, fake.Endpoint()), bounded(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	watched := c.Watch(ctx, "kv/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if created := <-watched; !created.Created {
		t.Fatalf("watch: %+v", created)
	}
	put, err := c.Put(ctx, "kv/a", "1")
	must(err)
	if put.Header.Revision == 0 || put.Header.ClusterId == 0 {
		t.Errorf("header %v", put.Header)
	}
	if resp := <-watched; len(resp.Events) != 1 || string(resp.Events[0].Kv.Value) != "1" ||
		resp.Header.Revision != put.Header.Revision {
		t.Errorf("watched %+v", resp)
	}
	txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Value("kv/a"), "=", "1")).
		Then(clientv3.OpPut("kv/b", "2"), clientv3.OpGet("kv/a")).Commit()
	must(err)
	if !txn.Succeeded || string(txn.Responses[1].GetResponseRange().Kvs[0].Value) != "1" {
		t.Errorf("transaction %v", txn)
	}
	read, err := c.Txn(ctx).Then(clientv3.OpGet("kv/", clientv3.WithPrefix())).Commit()
	must(err)
	if read.Responses[0].GetResponseRange().Count != 2 {
		t.Errorf("reading transaction %v", read)
	}
	var streamed int
	chunks, err := c.GetStream(ctx, "kv/", clientv3.WithPrefix())
	must(err)
	for chunk := range chunks {
		must(chunk.Err())
		streamed += len(chunk.Kvs)
	}
	if streamed != 2 {
		t.Errorf("%d keys streamed", streamed)
	}
	lease, err := c.Grant(ctx, 60)
	must(err)
	_, err = c.Put(ctx, "kv/c", "3", clientv3.WithLease(lease.ID))
	must(err)
	alive, err := c.KeepAlive(ctx, lease.ID)
	must(err)
	if resp := <-alive; resp == nil || resp.TTL != 60 {
		t.Errorf("keep alive: %v", resp)
	}
	ttl, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	must(err)
	if ttl.GrantedTTL != 60 || len(ttl.Keys) != 1 {
		t.Errorf("time to live %+v", ttl)
	}
	if leases, err := c.Leases(ctx); err != nil || len(leases.Leases) < 2 { // the shared session's, too
		t.Errorf("leases %v, %v", leases, err)
	}
	_, err = c.Revoke(ctx, lease.ID)
	must(err)
	deleted, err := c.Delete(ctx, "kv/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	must(err)
	if deleted.Deleted != 2 || len(deleted.PrevKvs) != 2 {
		t.Errorf("deleted %v", deleted)
	}
	_, err = c.Compact(ctx, deleted.Header.Revision)
	must(err)
	for what, test := range map[string]struct{ got, want error }{
		"compacted": {second(c.Get(ctx, "kv/a", clientv3.WithRev(2))), rpctypes.ErrCompacted},
		"future":    {second(c.Get(ctx, "kv/a", clientv3.WithRev(1<<40))), rpctypes.ErrFutureRev},
		"empty key": {second(c.Put(ctx, "", "")), rpctypes.ErrEmptyKey},
		"no lease":  {second(c.Put(ctx, "k", "", clientv3.WithLease(12345))), rpctypes.ErrLeaseNotFound},
		"revoked":   {second(c.Revoke(ctx, lease.ID)), rpctypes.ErrLeaseNotFound},
		"sort":      {second(c.Get(ctx, "k", clientv3.WithSort(99, 99))), rpctypes.ErrInvalidSortOption},
		"too large": {second(c.Put(ctx, "k", string(make([]byte, 4<<20)))), rpctypes.ErrRequestTooLarge},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: %v, want %v", what, test.got, test.want)
		}
	}
	if resp := <-c.Watch(ctx, "kv/a", clientv3.WithRev(2)); !errors.Is(resp.Err(), rpctypes.ErrCompacted) {
		t.Errorf("watch of what was compacted: %+v", resp)
	}
}

func second[T any](_ T, err error) error { return err }

// TestLostResponses: each put whose response is lost is executed once: the key's version counts them.
func TestLostResponses(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, ctx := dial(t, fake.Endpoint()), bounded(t)
	for range 20 {
		fake.LoseResponses(1)
		if _, err := c.Put(ctx, "counted", "x"); err != nil {
			t.Fatal(err)
		}
	}
	if resp, err := c.Get(ctx, "counted"); err != nil || resp.Kvs[0].Version != 20 {
		t.Errorf("%v, %v", resp, err)
	}
}

// TestW9WatchResyncs: history that the watcher needed is compacted while it is not looking; it gets the whole range
// anew, marked, and every change after it.
func TestW9WatchResyncs(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, other, ctx := dial(t, fake.Endpoint()), dial(t, fake.Endpoint()), bounded(t)
	put := func(key, value string) int64 {
		t.Helper()
		resp, err := other.Put(ctx, key, value)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	first := put("w/a", "1")
	last := put("w/b", "2")
	step := 0
	for u, err := range c.WatchPrefix(ctx, "w/") {
		if err != nil {
			t.Fatal(err)
		}
		switch step++; step {
		case 1:
			if !u.Resync || len(u.KVs) != 2 || u.Revision < last {
				t.Errorf("at the start: %+v", u)
			}
			last = put("w/a", "3")
		case 2:
			if u.Resync || u.Revision != last || len(u.Events) != 1 || string(u.Events[0].Kv.Value) != "3" {
				t.Errorf("a change: %+v", u)
			}
			if _, err := other.Txn(ctx).Then(clientv3.OpPut("w/c", "4"),
				clientv3.OpDelete("w/a")).Commit(); err != nil {
				t.Fatal(err)
			}
		case 3:
			if len(u.Events) != 2 {
				t.Errorf("changes of one revision come together: %+v", u)
			}
		}
		if step == 3 {
			break
		}
	}
	last = put("w/d", "5")
	if _, err := other.Compact(ctx, last); err != nil {
		t.Fatal(err)
	}
	for u, err := range c.WatchPrefix(ctx, "w/", client.WithRevision(first)) {
		if err != nil || !u.Resync || len(u.KVs) != 3 || u.Revision < last {
			t.Errorf("after a compaction: %+v, %v", u, err)
		}
		break
	}
	for u, err := range c.WatchKey(ctx, "w/d", client.WithRevision(last), client.WithPrevKV()) {
		if err != nil || u.Resync || string(u.Events[0].Kv.Value) != "5" {
			t.Errorf("from a revision: %+v, %v", u, err)
		}
		break
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for u, err := range c.WatchKey(ended, "w/d") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("context ended: %+v, %v", u, err)
		}
	}
}

// TestWatchGoesOnOverConnections: no change is missing or seen twice.
func TestWatchGoesOnOverConnections(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, other, ctx := dial(t, fake.Endpoint()), dial(t, fake.Endpoint()), bounded(t)
	const changes = 50
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		for i := range changes {
			if i%10 == 5 {
				fake.DropConnections()
			}
			if _, err := other.Put(ctx, "counter", fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
	})
	next := 0
	for u, err := range c.WatchKey(ctx, "counter", client.WithRevision(1)) {
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range u.Events {
			if string(ev.Kv.Value) != fmt.Sprint(next) {
				t.Fatalf("saw %s, want %d", ev.Kv.Value, next)
			}
			next++
		}
		if next == changes {
			break
		}
	}
}
