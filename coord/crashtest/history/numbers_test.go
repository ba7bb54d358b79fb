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

func TestMet(t *testing.T) {
	visit := func(token, entering, entered, leaving, left int64) Visit {
		return Visit{Name: "b", Generation: 1, Token: token, Entering: entering, Entered: entered, Leaving: leaving, Left: left}
	}
	for _, c := range []struct {
		name   string
		visits []Visit
		calls  []int64
		died   map[int64]int64
		ok     bool
	}{
		{"two meet", []Visit{visit(1, 0, 10, 20, 40), visit(2, 5, 12, 30, 35)}, []int64{0, 5}, nil, true},
		{"one is let in alone", []Visit{visit(1, 0, 10, 20, 40), visit(2, 11, 12, 30, 35)}, []int64{0, 11}, nil, false},
		{"one is let in without the other, who died", []Visit{visit(1, 0, 10, 20, 40)}, []int64{0, 5}, nil, true},
		{"one is let in and nobody called", []Visit{visit(1, 0, 10, 20, 40)}, []int64{0}, nil, false},
		{"three of two", []Visit{visit(1, 0, 10, 20, 40), visit(2, 5, 12, 20, 40), visit(3, 6, 12, 20, 40)}, []int64{0, 5, 6}, nil, false},
		{"one entry twice", []Visit{visit(1, 0, 10, 20, 40), visit(1, 5, 12, 20, 40)}, []int64{0, 5}, nil, false},
		{"one is let out too early", []Visit{visit(1, 0, 10, 20, 25), visit(2, 5, 12, 30, 35)}, []int64{0, 5}, nil, false},
		{"one is let out as the other is dead", []Visit{visit(1, 0, 10, 20, 25), visit(2, 5, 12, 0, 0)}, []int64{0, 5}, map[int64]int64{2: 24}, true},
		{"one is let out before the other is dead", []Visit{visit(1, 0, 10, 20, 25), visit(2, 5, 12, 0, 0)}, []int64{0, 5}, map[int64]int64{2: 26}, false},
	} {
		err := Met(c.visits, map[string][]int64{"b": c.calls}, 2, func(v Visit) (int64, bool) {
			at, ok := c.died[v.Token]
			return at, ok
		})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
