package history

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

func TestMet(t *testing.T) {
	visit := func(token, entering, entered, leaving, left int64) Visit {
		return Visit{
			Name: "b", Generation: 1, Token: token, Entering: entering, Entered: entered, Leaving: leaving, Left: left,
		}
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
		{"three of two", []Visit{visit(1, 0, 10, 20, 40), visit(2, 5, 12, 20, 40), visit(3, 6, 12, 20, 40)},
			[]int64{0, 5, 6}, nil, false},
		{"one entry twice", []Visit{visit(1, 0, 10, 20, 40), visit(1, 5, 12, 20, 40)}, []int64{0, 5}, nil, false},
		{"one is let out too early", []Visit{visit(1, 0, 10, 20, 25), visit(2, 5, 12, 30, 35)}, []int64{0, 5}, nil,
			false},
		{"one is let out as the other is dead", []Visit{visit(1, 0, 10, 20, 25), visit(2, 5, 12, 0, 0)}, []int64{0, 5},
			map[int64]int64{2: 24}, true},
		{"one is let out before the other is dead", []Visit{visit(1, 0, 10, 20, 25), visit(2, 5, 12, 0, 0)},
			[]int64{0, 5}, map[int64]int64{2: 26}, false},
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

// TestGatherings: a generation is opened with all its parties there, or the log is wrong.
func TestGatherings(t *testing.T) {
	state := func(generation, parties, first, last, mod int64) *mvccpb.Event {
		value, err := proto.Marshal(&coordv1.BarrierState{
			Generation: generation, Parties: parties, Open: true, First: first, Last: last,
		})
		if err != nil {
			t.Fatal(err)
		}
		return put(layout.Barrier.Begin("b/state"), string(value), 0, 2, mod)
	}
	entry := func(lease string, id, rev int64) *mvccpb.Event {
		return put(layout.Barrier.Begin("b/"+lease), "", id, rev, rev)
	}
	for _, c := range []struct {
		name   string
		events []*mvccpb.Event
		ok     bool
	}{
		{"two meet", []*mvccpb.Event{entry("1", 1, 3), entry("2", 2, 4), state(1, 2, 3, 4, 4),
			put(layout.Barrier.Begin("b/tally"), "", 0, 3, 4)}, true},
		{"one is not there any more", []*mvccpb.Event{entry("1", 1, 3), del(layout.Barrier.Begin("b/1"), 4),
			entry("2", 2, 5), state(1, 2, 3, 5, 5)}, false},
		{"one is dead", []*mvccpb.Event{entry("1", 1, 3), put(layout.Barrier.Begin("b/1"), "", -9, 3, 4),
			entry("2", 2, 5), state(1, 2, 3, 5, 5)}, false},
		{"one is missing", []*mvccpb.Event{entry("1", 1, 3), state(1, 2, 3, 3, 3)}, false},
		{"a generation again", []*mvccpb.Event{
			entry("1", 1, 3), entry("2", 2, 4), state(2, 2, 3, 4, 4), entry("3", 3, 5), entry("4", 4, 6),
			state(1, 2, 5, 6, 6),
		}, false},
	} {
		g := NewGatherings()
		var err error
		for _, e := range c.events {
			if err == nil {
				err = g.Apply([]*mvccpb.Event{e})
			}
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if generation, in := g.Generation("b", 3); c.ok && (!in || generation != 1 || g.Opened("b") != 1) {
			t.Errorf("%s: token 3 is of generation %d, %v", c.name, generation, in)
		}
	}
}
