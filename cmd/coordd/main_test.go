package main

import (
	"testing"

	"github.com/coord-dev/coord/coord"
)

// TestMemoryLimitFollowsTheClients: who lets a member hold more for clients must not have it collect garbage all the
// time.
func TestMemoryLimitFollowsTheClients(t *testing.T) {
	for clients, want := range map[int64]int64{
		0: 304 << 20, 16 << 20: 304 << 20, coord.DefaultClientMemoryBytes: 304 << 20,
		coord.DefaultClientMemoryBytes + 1<<30: 304<<20 + 1<<30,
	} {
		if got := memoryLimit(clients); got != want {
			t.Errorf("with %d bytes for clients the limit is %d, not %d", clients, got, want)
		}
	}
}
