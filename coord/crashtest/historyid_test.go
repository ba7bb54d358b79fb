package crashtest

import (
	"os"
	"testing"
)

// TestHistoryOfACluster: all members name the same history, after kills too; a cluster that is founded again by the
// same flags has another.
func TestHistoryOfACluster(t *testing.T) {
	c := layOut(t, 3)
	first := c.history(t)
	for _, m := range c.members {
		m.kill()
	}
	if again := c.history(t); again != first {
		t.Errorf("history %x, after a restart %x", first, again)
	}
	for _, m := range c.members {
		m.kill()
		if err := os.RemoveAll(m.dir); err != nil {
			t.Fatal(err)
		}
	}
	if other := c.history(t); other == first {
		t.Errorf("founded again, the history is %x still", other)
	}
}

// history starts the members, and returns which history they name.
func (c *cluster) history(t *testing.T) uint64 {
	t.Helper()
	c.start()
	var id uint64
	for i, m := range c.members {
		r, err := dial(t, m.client).Get(within(t, patience), "a")
		if err != nil {
			t.Fatal(err)
		}
		if r.Header.ClusterId == 0 || i > 0 && r.Header.ClusterId != id {
			t.Errorf("%s names history %x, another one %x", m.name, r.Header.ClusterId, id)
		}
		id = r.Header.ClusterId
	}
	return id
}
