package lease

import (
	"testing"
	"time"

	"github.com/coord-dev/coord/statemachine/undo"
)

// Leases of all different TTLs, of which the least ends each time, cost no more one by one than leases of one TTL, and
// the least is known whatever was granted, revoked and taken back.
func TestManyDifferentTTLs(t *testing.T) {
	const n = 100_000
	log := &undo.Log{}
	table := NewTable(log)
	want := func(min int64) {
		t.Helper()
		if got := table.Facts().MinTTL; got != min {
			t.Fatalf("the least TTL is %d, not %d", got, min)
		}
	}
	begin := time.Now()
	for id := ID(n); id > 0; id-- {
		table.Grant(id, id*7919, uint64(n-id+1), "")
	}
	want(7919)
	for id := ID(1); id < n; id++ {
		mark := log.Begin()
		table.Remove(id)
		if id%1000 == 0 {
			want((id + 1) * 7919)
			log.Rollback(mark)
			want(id * 7919)
			table.Remove(id)
		}
		log.End()
	}
	want(n * 7919)
	table.Remove(n)
	want(0)
	if len(table.ttls.byTTL) != 0 || len(table.ttls.least) != 0 {
		t.Errorf("%d and %d are left", len(table.ttls.byTTL), len(table.ttls.least))
	}
	if took := time.Since(begin); took > 20*time.Second { // quadratic, it is minutes
		t.Errorf("it took %v", took)
	}
}
