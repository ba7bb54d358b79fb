package coord

import (
	"strings"
	"testing"
)

// All shares together stay below the limit, whatever it is, and none is empty.
func TestShareFiles(t *testing.T) {
	for _, limit := range []int{minFiles, 1024, 4096, 20_000, 65_536, 1 << 20, 1 << 30} {
		f, err := shareFiles(limit)
		if err != nil {
			t.Fatal(err)
		}
		if sum := fixedFiles + 2*f.store + f.log + f.probes + f.peers + f.dns + f.clients; sum > limit {
			t.Errorf("of %d, %d are given away: %+v", limit, sum, f)
		}
		for what, n := range map[string]int{
			"store": f.store, "log": f.log, "probes": f.probes, "peers": f.peers, "dns": f.dns, "clients": f.clients,
		} {
			if n < 16 {
				t.Errorf("of %d, %s has %d", limit, what, n)
			}
		}
		if f.clients > maxClients {
			t.Errorf("of %d, %d are for clients", limit, f.clients)
		}
	}
	if _, err := shareFiles(minFiles - 1); err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("too small a limit: %v", err)
	}
}
