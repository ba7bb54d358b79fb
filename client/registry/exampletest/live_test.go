package exampletest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/proto/layout"
)

// TestEveryInstanceOfASnapshotHadALiveLease: whatever a watch shows at a revision and does not flag as stale has, at
// that very revision, a key on a lease; and a lease takes its keys with it in the revision in which it ends (S3).
func TestEveryInstanceOfASnapshotHadALiveLease(t *testing.T) {
	f, c := fake(t)
	// Half of the instances may die at once and are not kept for it.
	r := registry.New(c,
		registry.Options{Retry: time.Millisecond, ReadTimeout: long,
			Limits: registry.Limits{KeepStale: time.Nanosecond}})
	type snapshot struct {
		revision int64
		ids      []string
	}
	var snapshots []snapshot
	last := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for u, err := range r.Watch(bounded(t), "pay") {
			if err != nil {
				t.Error(err)
				return
			}
			s := snapshot{revision: u.Revision}
			for _, in := range u.Instances() {
				if !in.Stale {
					s.ids = append(s.ids, in.ID)
				}
			}
			if u.Err == nil {
				snapshots = append(snapshots, s)
			}
			if slices.Contains(s.ids, "last") {
				close(last)
				return
			}
		}
	}()
	rng := rand.New(rand.NewPCG(1, 2))
	begin, err := c.Get(bounded(t), "x")
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		switch rng.IntN(4) {
		case 0, 1:
			ttl := time.Duration(5+rng.IntN(30)) * time.Second
			id := fmt.Sprint(rng.IntN(8))
			register(t, r, always(newOwn(t, c, ttl)), pay(id))
		case 2:
			f.Advance(time.Duration(rng.IntN(20)) * time.Second)
		case 3:
			leases, err := c.Leases(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			if n := len(leases.Leases); n > 0 {
				_, _ = c.Revoke(bounded(t), leases.Leases[rng.IntN(n)].ID) // it may have expired meanwhile
			}
		}
	}
	register(t, r, always(newOwn(t, c, time.Hour)), pay("last"))
	select {
	case <-last:
	case <-time.After(long):
		t.Fatal("the watch does not show what was registered last")
	}
	<-watched
	full := 0
	for _, s := range snapshots {
		if s.revision < begin.Header.Revision {
			continue
		}
		there, err := c.Get(bounded(t), layout.Service.Prefix("pay"), clientv3.WithPrefix(),
			clientv3.WithRev(s.revision))
		if err != nil {
			t.Fatal(err)
		}
		leased := map[string]bool{}
		for _, kv := range there.Kvs {
			leased[string(kv.Key)] = kv.Lease != 0
		}
		for _, id := range s.ids {
			full++
			if !leased[layout.InstanceKey("pay", id)] {
				t.Errorf("revision %d: instance %s is shown and has no key on a lease", s.revision, id)
			}
		}
	}
	t.Logf("%d snapshots with %d instances", len(snapshots), full)
	if full < 20 {
		t.Error("hardly any instance was seen")
	}
}
