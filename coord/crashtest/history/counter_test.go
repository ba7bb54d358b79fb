package history

import (
	"testing"
	"time"
)

func TestLinearizableCounts(t *testing.T) {
	for _, c := range []struct {
		name   string
		counts []Count
		legal  bool
	}{
		{"one after the other", []Count{{0, "a", 2, 2, OK, 0, 10}, {1, "a", 3, 5, OK, 20, 30},
			{0, "a", 0, 5, OK, 40, 50}}, true},
		{"at the same time, in either order", []Count{{0, "a", 2, 5, OK, 0, 30}, {1, "a", 3, 3, OK, 5, 25}}, true},
		{"two names", []Count{{0, "a", 2, 2, OK, 0, 10}, {1, "b", 3, 3, OK, 5, 15}}, true},
		{"the same number twice", []Count{{0, "a", 1, 1, OK, 0, 10}, {1, "a", 1, 1, OK, 5, 15}}, false},
		{"counted twice", []Count{{0, "a", 1, 1, OK, 0, 10}, {1, "a", 1, 3, OK, 20, 30}}, false},
		{"a stale read", []Count{{0, "a", 1, 1, OK, 0, 10}, {1, "a", 0, 0, OK, 20, 30}}, false},
		{"not monotone", []Count{{0, "a", 1, 2, OK, 0, 10}, {1, "a", 1, 1, OK, 20, 30}}, false},
		{"unknown, and it did", []Count{{0, "a", 1, 0, Unknown, 0, 10}, {1, "a", 1, 2, OK, 20, 30}}, true},
		{"unknown, and it did not", []Count{{0, "a", 1, 0, Unknown, 0, 10}, {1, "a", 1, 1, OK, 20, 30}}, true},
		{"unknown, and it did later", []Count{{0, "a", 1, 0, Unknown, 0, 10}, {1, "a", 1, 1, OK, 20, 30},
			{1, "a", 0, 2, OK, 40, 50}}, true},
		{"unknown, and it did twice", []Count{{0, "a", 1, 0, Unknown, 0, 10}, {1, "a", 0, 2, OK, 20, 30}}, false},
		{"unknown, and it did before it was asked", []Count{{1, "a", 0, 1, OK, 0, 10}, {0, "a", 1, 0, Unknown, 20, 30}},
			false},
	} {
		if err := LinearizableCounts(c.counts, 10*time.Second); (err == nil) != c.legal {
			t.Errorf("%s: legal is %v: %v", c.name, c.legal, err)
		}
	}
}
