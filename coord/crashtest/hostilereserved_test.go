package crashtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/config"
	"github.com/coord-dev/coord/client/registry"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

// native returns this project's client of a member.
func native(t testing.TB, m *member) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Endpoints: []string{m.client}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// reservedKeys are all that stand below the reserved prefix, as text.
func reservedKeys(t testing.TB, cli *clientv3.Client) (keys []string) {
	t.Helper()
	resp, err := cli.Get(within(t, patience), "_coord/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		keys = append(keys, fmt.Sprintf("%s=%x@%d", kv.Key, kv.Value, kv.ModRevision))
	}
	return keys
}

// TestHostileReservedWrites: whatever plain puts and deletions are tried of what a lock is kept by, through a follower
// and the leader, by etcd's client and by ours, in whatever branch of a transaction: they are refused by the name of
// the key, nothing changes, and nobody is admitted beside the writer that holds.
func TestHostileReservedWrites(t *testing.T) {
	c := startCluster(t, 3)
	holds := native(t, c.members[0])
	held, err := holds.RWLock("catalog").Acquire(within(t, patience), client.Write)
	if err != nil {
		t.Fatal(err)
	}
	const tally, queue = "_coord/rwlocks/catalog/tally", "_coord/rwlocks/catalog/"
	forged, err := proto.Marshal(&recipesv1.Tally{})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := c.dial().Grant(within(t, patience), 3600)
	if err != nil {
		t.Fatal(err)
	}
	ops := map[string]clientv3.Op{
		"a forged tally":     clientv3.OpPut(tally, string(forged)),
		"no tally":           clientv3.OpDelete(tally),
		"a tally on a lease": clientv3.OpPut(tally, "", clientv3.WithLease(lease.ID)),
		"another lease": clientv3.OpPut(held.Key(), "", clientv3.WithIgnoreValue(),
			clientv3.WithLease(lease.ID)),
		"no holder": clientv3.OpDelete(held.Key()),
		"an entry": clientv3.OpPut(fmt.Sprintf("%s%x", queue, lease.ID), "",
			clientv3.WithLease(lease.ID)),
		"a new key":                clientv3.OpPut("_coord/new", ""),
		"a key that is not there":  clientv3.OpDelete("_coord/new"),
		"the prefix as a key":      clientv3.OpPut("_coord/", ""),
		"no queue":                 clientv3.OpDelete(queue, clientv3.WithPrefix()),
		"nothing reserved":         clientv3.OpDelete("_coord/", clientv3.WithPrefix(), clientv3.WithPrevKV()),
		"nothing from there on":    clientv3.OpDelete(queue, clientv3.WithFromKey()),
		"nothing from there to z":  clientv3.OpDelete("_coord/zz", clientv3.WithRange("z")),
		"what an upper bound cuts": clientv3.OpDelete(tally, clientv3.WithRange("_coord/")),
	}
	never := clientv3.Compare(clientv3.Version("none"), ">", 0)
	innocent := []clientv3.Op{clientv3.OpPut("innocent", "")}
	nested := func(op clientv3.Op) clientv3.Op { return clientv3.OpTxn(nil, []clientv3.Op{op}, nil) }
	tries := map[string]func(clientv3.KV, clientv3.Op) error{
		"alone": func(kv clientv3.KV, op clientv3.Op) error { _, err := kv.Do(within(t, patience), op); return err },
		"taken": func(kv clientv3.KV, op clientv3.Op) error {
			_, err := kv.Txn(within(t, patience)).Then(innocent[0], op).Commit()
			return err
		},
		"not taken": func(kv clientv3.KV, op clientv3.Op) error {
			_, err := kv.Txn(within(t, patience)).If(never).Then(op).Else(innocent...).Commit()
			return err
		},
		"nested": func(kv clientv3.KV, op clientv3.Op) error {
			_, err := kv.Txn(within(t, patience)).Then(nested(op)).Commit()
			return err
		},
		"nested twice, not taken": func(kv clientv3.KV, op clientv3.Op) error {
			_, err := kv.Txn(within(t, patience)).If(never).Then(nested(nested(op))).Else(innocent...).Commit()
			return err
		},
	}
	second := native(t, c.follower())
	session, err := second.Session(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	before := reservedKeys(t, c.dial())
	for who, kv := range map[string]clientv3.KV{
		"etcd's client at the leader": dial(t, c.leader().client), "etcd's client at a follower": dial(t,
			c.follower().client), "our client": session.KV(),
	} {
		for what, op := range ops {
			for how, try := range tries {
				if err := try(kv, op); status.Code(err) != codes.InvalidArgument ||
					!strings.Contains(err.Error(), "_coord/") {
					t.Errorf("%s, %s, %s: %v, want that it is refused by the name of the key", who, what, how, err)
				}
			}
			if h, err := second.RWLock("catalog").TryAcquire(within(t, patience), client.Write); !errors.Is(err,
				client.ErrNotAcquired) {
				t.Fatalf("%s, %s: a second writer holds: %v %v", who, what, h, err)
			}
		}
	}
	if after := reservedKeys(t, c.dial()); !slices.Equal(before, after) {
		t.Errorf("what was refused left\n%q\nit was\n%q", after, before)
	}
	if resp, err := c.dial().Get(within(t, patience), "innocent"); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("a refused transaction has put its other key: %v %v", resp, err)
	}
	if err := held.Release(within(t, patience)); err != nil {
		t.Error(err)
	}
	if _, err := second.RWLock("catalog").Acquire(within(t, patience), client.Write); err != nil {
		t.Error(err)
	}
	c.checkEqual()
}

// TestHostileReservedRanges: a deletion of a range that begins before the reserved keys passes over them, in a
// transaction too: it counts and returns what it deleted, and its watchers hear of that.
func TestHostileReservedRanges(t *testing.T) {
	c := startCluster(t, 3)
	cli, sdk := dial(t, c.follower().client), native(t, c.members[0])
	if _, err := sdk.Counter("visits").Add(within(t, patience), 7); err != nil {
		t.Fatal(err)
	}
	if _, err := sdk.Semaphore("gpus", 2).Acquire(within(t, patience), 1); err != nil {
		t.Fatal(err)
	}
	there := reservedKeys(t, cli)
	txn := func(kv clientv3.KV, op clientv3.Op) (*clientv3.DeleteResponse, error) {
		resp, err := kv.Txn(within(t, patience)).If(clientv3.Compare(clientv3.Version("none"), ">",
			0)).Else(op).Commit()
		if err != nil {
			return nil, err
		}
		return (*clientv3.DeleteResponse)(resp.Responses[0].GetResponseDeleteRange()), nil
	}
	alone := func(kv clientv3.KV, op clientv3.Op) (*clientv3.DeleteResponse, error) {
		resp, err := kv.Do(within(t, patience), op)
		return resp.Del(), err
	}
	for _, r := range []struct {
		what string
		op   clientv3.Op
		keys []string
	}{
		{"everything", clientv3.OpDelete("", clientv3.WithFromKey(), clientv3.WithPrevKV()),
			[]string{"_coor", "_coord", "_coord.", "_coord0", "z"}},
		{"a prefix of the prefix", clientv3.OpDelete("_coord", clientv3.WithPrefix(), clientv3.WithPrevKV()),
			[]string{"_coord", "_coord.", "_coord0"}},
		{"up to the middle", clientv3.OpDelete("_", clientv3.WithRange("_coord/m"), clientv3.WithPrevKV()),
			[]string{"_coor", "_coord", "_coord."}},
		{"nothing else", clientv3.OpDelete("_coord.z", clientv3.WithRange("_coord0"), clientv3.WithPrevKV()), nil},
	} {
		for how, do := range map[string]func(clientv3.KV, clientv3.Op) (*clientv3.DeleteResponse, error){"alone": alone,
			"in a transaction": txn} {
			var put int64
			for _, key := range []string{"_coor", "_coord", "_coord.", "_coord0", "z"} {
				resp, err := cli.Put(within(t, patience), key, key)
				if err != nil {
					t.Fatal(err)
				}
				put = resp.Header.Revision
			}
			resp, err := do(cli, r.op)
			if err != nil {
				t.Fatalf("%s, %s: %v", r.what, how, err)
			}
			var deleted []string
			for _, kv := range resp.PrevKvs {
				deleted = append(deleted, string(kv.Key))
			}
			if !slices.Equal(deleted, r.keys) || resp.Deleted != int64(len(r.keys)) {
				t.Errorf("%s, %s: it deleted %d keys and returned %q, want %q", r.what, how, resp.Deleted, deleted,
					r.keys)
			}
			if now := reservedKeys(t, cli); !slices.Equal(there, now) {
				t.Fatalf("%s, %s: reserved are\n%q\nthey were\n%q", r.what, how, now, there)
			}
			if told := deletedSince(t, cli, put+1); !slices.Equal(told, r.keys) {
				t.Errorf("%s, %s: watchers were told of %q, want %q", r.what, how, told, r.keys)
			}
		}
	}
	if n, err := sdk.Counter("visits").Get(within(t, patience)); err != nil || n != 7 {
		t.Errorf("the counter is %d: %v", n, err)
	}
	c.checkEqual()
}

// deletedSince are the keys of the deletions from a revision on that a watcher is told of.
func deletedSince(t testing.TB, cli *clientv3.Client, rev int64) (keys []string) {
	t.Helper()
	const marker = "~marker"
	if _, err := cli.Put(within(t, patience), marker, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Delete(within(t, patience), marker); err != nil {
		t.Fatal(err)
	}
	for resp := range cli.Watch(within(t, patience), "", clientv3.WithFromKey(), clientv3.WithRev(rev),
		clientv3.WithFilterPut()) {
		for _, e := range resp.Events {
			if string(e.Kv.Key) == marker {
				return keys
			}
			keys = append(keys, string(e.Kv.Key))
		}
	}
	t.Fatalf("the watch ended after %q", keys)
	return nil
}

// TestHostileReservedLeases: a lease that is revoked or expires takes along all of its keys at one revision, reserved
// ones and others, and who waits behind it is let in by the same commit.
func TestHostileReservedLeases(t *testing.T) {
	c := startCluster(t, 3)
	cli := dial(t, c.follower().client)
	for what, ttl := range map[string]int64{"revoked": 3600, "expired": 5} {
		t.Run(what, func(t *testing.T) {
			lease, err := cli.Grant(within(t, patience), ttl)
			if err != nil {
				t.Fatal(err)
			}
			alive, let := context.WithCancel(t.Context())
			defer let()
			renewed, err := cli.KeepAlive(alive, lease.ID)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for range renewed {
				}
			}()
			if _, err := cli.Put(within(t, patience), what+"/plain", "", clientv3.WithLease(lease.ID)); err != nil {
				t.Fatal(err)
			}
			held, err := coordv1.NewRWLockClient(cli.ActiveConnection()).TryAcquire(within(t, patience),
				&coordv1.RWAcquireRequest{Name: what, Lease: int64(lease.ID), Write: true})
			if err != nil || held.Granted == nil {
				t.Fatal(held, err)
			}
			next, queued, waiting := native(t, c.members[0]), make(chan struct{}), make(chan error, 1)
			go func() {
				_, err := next.RWLock(what).Acquire(within(t, patience), client.Write,
					client.OnQueued(func(int64, string) { close(queued) }))
				waiting <- err
			}()
			select {
			case <-queued:
			case err := <-waiting:
				t.Fatalf("nobody holds before: %v", err)
			}
			if let(); what == "revoked" {
				if _, err := cli.Revoke(within(t, patience), lease.ID); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-waiting; err != nil {
				t.Fatal(err)
			}
			gone := map[string]int64{}
			for resp := range cli.Watch(within(t, patience), "", clientv3.WithFromKey(),
				clientv3.WithRev(lease.Revision+1), clientv3.WithFilterPut()) {
				for _, e := range resp.Events {
					gone[string(e.Kv.Key)] = e.Kv.ModRevision
				}
				if len(gone) >= 2 {
					break
				}
			}
			at := gone[what+"/plain"]
			tally, err := cli.Get(within(t, patience), "_coord/rwlocks/"+what+"/tally")
			if err != nil || at == 0 || len(gone) != 2 || gone[held.Granted.Key] != at || len(tally.Kvs) != 1 ||
				tally.Kvs[0].ModRevision != at {
				t.Errorf("deleted by revision: %v, the tally %v, %v", gone, tally, err)
			}
		})
	}
	c.checkEqual()
}

// TestHostileReservedServices: what the client writes there itself, records of services and configurations, it writes
// by requests.
func TestHostileReservedServices(t *testing.T) {
	c := startCluster(t, 3)
	cli, sdk := c.dial(), native(t, c.follower())
	r := registry.New(sdk, registry.Options{})
	reg, err := r.Register(within(t, patience), registry.SessionsOf(sdk.Session),
		registry.Instance{Service: "pay", ID: "a", Addr: "10.0.0.1:80"})
	if err != nil {
		t.Fatal(err)
	}
	type limits struct{ Max int }
	if _, err := config.Put(within(t, patience), sdk.ActiveConnection(), "svc", config.Documents{"d.json": []byte(`{"max":1}`)}, "test"); err != nil {
		t.Fatal(err)
	}
	session, err := sdk.Session(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	value, err := config.Watch[limits](within(t, patience), sdk, "svc", config.Report(sdk.ActiveConnection(), "node",
		session.Lease))
	if err != nil {
		t.Fatal(err)
	}
	defer value.Close()
	for _, key := range []string{"_coord/services/pay/instances/a", "_coord/config/svc/current",
		"_coord/config/svc/status/node"} {
		if _, err := cli.Put(within(t, patience), key, "\xff"); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a put of %s: %v", key, err)
		}
		if _, err := cli.Delete(within(t, patience), key); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a deletion of %s: %v", key, err)
		}
	}
	if _, err := cli.Delete(within(t, patience), "", clientv3.WithFromKey()); err != nil {
		t.Fatal(err)
	}
	if err := r.Drain(within(t, patience), "pay", "a", "me"); err != nil {
		t.Error(err)
	}
	if all, err := r.List(within(t, patience), "pay"); err != nil || len(all) != 1 ||
		all[0].State != registry.StateDraining {
		t.Errorf("the instances are %v, %v", all, err)
	}
	if err := reg.Deregister(within(t, patience)); err != nil {
		t.Error(err)
	}
	if _, err := config.Put(within(t, patience), sdk.ActiveConnection(), "svc", config.Documents{"d.json": []byte(`{"max":2}`)}, "test"); err != nil {
		t.Error(err)
	}
	applied := func() bool {
		statuses, err := config.Statuses(within(t, patience), cli, "svc")
		return err == nil && len(statuses) == 1 && statuses[0].Applied == 2 && value.Load().Max == 2
	}
	for begin := time.Now(); !applied(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("version 2 is not reported: the value is %+v", value.Current())
		}
	}
	c.checkEqual()
}
