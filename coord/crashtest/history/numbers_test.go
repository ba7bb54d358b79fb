package history

import (
	"math"
	"testing"
	"time"
)

func TestCounted(t *testing.T) {
	for _, c := range []struct {
		name  string
		ops   []Number
		legal bool
	}{
		{"one after the other", []Number{{0, "c", 1, 1, OK, 0, 1}, {1, "c", 2, 3, OK, 2, 3}}, true},
		{"at once, in the other order", []Number{{0, "c", 1, 3, OK, 0, 5}, {1, "c", 2, 2, OK, 1, 4}}, true},
		{"a lost update", []Number{{0, "c", 1, 1, OK, 0, 5}, {1, "c", 1, 1, OK, 1, 4}}, false},
		{"executed twice", []Number{{0, "c", 1, 2, OK, 0, 1}}, false},
		{"an unknown one that was executed later", []Number{{0, "c", 5, 0, Unknown, 0, 1}, {1, "c", 1, 1, OK, 2, 3}, {1, "c", 1, 7, OK, 4, 5}}, true},
		{"an unknown one that was executed twice", []Number{{0, "c", 5, 0, "", 0, math.MaxInt64}, {1, "c", 1, 11, OK, 2, 3}}, false},
		{"a stale value", []Number{{0, "c", 1, 1, OK, 0, 1}, {1, "c", 1, 2, OK, 2, 3}, {0, "c", 0, 1, OK, 4, 5}}, false},
		{"a refused one that was executed", []Number{{0, "c", 5, 0, Refused, 0, 1}, {1, "c", 1, 6, OK, 2, 3}}, false},
		{"two counters", []Number{{0, "c", 1, 1, OK, 0, 1}, {1, "d", 1, 1, OK, 2, 3}}, true},
	} {
		if err := Counted(c.ops, 10*time.Second); (err == nil) != c.legal {
			t.Errorf("%s: legal is %v: %v", c.name, c.legal, err)
		}
	}
}

func TestSequenced(t *testing.T) {
	for _, c := range []struct {
		name  string
		ops   []Number
		legal bool
	}{
		{"ranges", []Number{{0, "s", 10, 1, OK, 0, 1}, {1, "s", 1, 11, OK, 2, 3}}, true},
		{"an id twice", []Number{{0, "s", 10, 1, OK, 0, 5}, {1, "s", 1, 10, OK, 2, 3}}, false},
		{"an order that time forbids", []Number{{0, "s", 1, 2, OK, 0, 1}, {1, "s", 1, 1, OK, 2, 3}}, false},
		{"a range that nobody has", []Number{{0, "s", 1, 1, OK, 0, 1}, {1, "s", 1, 3, OK, 2, 3}}, false},
		{"a range of somebody who died", []Number{{0, "s", 1, 1, OK, 0, 1}, {2, "s", 1, 0, "", 1, math.MaxInt64}, {1, "s", 1, 3, OK, 2, 3}}, true},
	} {
		if err := Sequenced(c.ops, 10*time.Second); (err == nil) != c.legal {
			t.Errorf("%s: legal is %v: %v", c.name, c.legal, err)
		}
	}
}
