package coordtest_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/coord/coordtest"
)

// After a stop that left nothing to apply again, log time must pass without a write that reminds the members of leases.
func TestLeasesExpireAfterARestartOfAllThoughNobodyWrites(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{})
	client := dial(t, c.Endpoints())
	lease, err := client.Grant(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "held", "", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	c.StopMember(0)
	c.StartMember(0)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for r := (*clientv3.GetResponse)(nil); r == nil || len(r.Kvs) > 0; time.Sleep(50 * time.Millisecond) {
		if r, err = client.Get(ctx, "held"); err != nil {
			t.Fatalf("the lease never expired: %v", err)
		}
	}
}
