package introspect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/coord-dev/coord/statemachine"
)

type ids = []statemachine.LeaseID

// show writes circles as "1-a-2-b-1".
func show(circles [][]edge) string {
	var out []string
	for _, c := range circles {
		var b strings.Builder
		for _, e := range c {
			fmt.Fprintf(&b, "%d-%s-", e.waiter, e.name)
		}
		fmt.Fprintf(&b, "%d", c[len(c)-1].holder)
		out = append(out, b.String())
	}
	return strings.Join(out, " ")
}

func TestDeadlocks(t *testing.T) {
	for name, test := range map[string]struct {
		queues map[string]ids
		want   string
	}{
		"nobody waits":              {map[string]ids{"a": {1}, "b": {2}}, ""},
		"a chain":                   {map[string]ids{"a": {1, 2}, "b": {2, 3}, "c": {3, 4}}, ""},
		"two hold and want":         {map[string]ids{"a": {1, 2}, "b": {2, 1}}, "1-b-2-a-1"},
		"three in a ring":           {map[string]ids{"a": {1, 2}, "b": {2, 3}, "c": {3, 1}}, "1-c-3-b-2-a-1"},
		"who waits beside is in no": {map[string]ids{"a": {1, 2, 4}, "b": {2, 1, 5}, "c": {4, 6}}, "1-b-2-a-1"},
		// 2 is not the holder of a, but before 3; and it waits for 3.
		"behind a waiter":       {map[string]ids{"a": {1, 2, 3}, "b": {3, 2}}, "2-b-3-a-2"},
		"far behind a waiter":   {map[string]ids{"a": {1, 2, 5, 3}, "b": {3, 2}}, "2-b-3-a-5-a-2"},
		"owners of one session": {map[string]ids{"a": {1, 1, 1}}, ""},
		"two circles, one bridge": {map[string]ids{
			"a": {1, 2}, "b": {2, 1}, "c": {3, 4}, "d": {4, 3}, "e": {3, 2},
		}, "1-b-2-a-1 3-d-4-c-3"},
		"two circles share one": {map[string]ids{
			"a": {1, 2}, "b": {2, 1}, "c": {2, 3}, "d": {3, 2},
		}, "1-b-2-a-1 2-d-3-c-2"},
	} {
		t.Run(name, func(t *testing.T) {
			var edges []edge
			for name, queue := range test.queues { // in any order
				edges = append(edges, waits(name, queue[:1], queue[1:])...)
			}
			if got := show(newGraph(edges).deadlocks()); got != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

// A long queue costs two edges an entry, and no search when nobody in it is in a circle.
func TestALongQueueIsCheap(t *testing.T) {
	queue := make(ids, 10_000)
	for i := range queue {
		queue[i] = statemachine.LeaseID(i + 1)
	}
	g := newGraph(waits("a", queue[:1], queue[1:]))
	if n := len(g.edges); n > 20_000 {
		t.Errorf("%d edges", n)
	}
	if core := g.core(); len(core) > 0 {
		t.Errorf("%d edges left to search", len(core))
	}
}

// Whoever is in a circle by the dumb search is in one of those found, and these are circles.
func TestDeadlocksCoverEveryCircle(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		sessions := 2 + rng.IntN(7)
		var edges []edge
		for range rng.IntN(2 * sessions) {
			w, h := statemachine.LeaseID(rng.IntN(sessions)), statemachine.LeaseID(rng.IntN(sessions))
			if w != h {
				edges = append(edges, edge{w, h, string(rune('a' + rng.IntN(3)))})
			}
		}
		g := newGraph(slices.Clone(edges))
		inCircle := map[statemachine.LeaseID]bool{}
		for _, c := range g.deadlocks() {
			for i, e := range c {
				if e.holder != c[(i+1)%len(c)].waiter || !slices.Contains(edges, e) {
					t.Fatalf("seed %d: %s is no circle of %v", seed, show([][]edge{c}), edges)
				}
				inCircle[e.waiter] = true
			}
		}
		for s := range statemachine.LeaseID(sessions) {
			if want := reaches(edges, s, s, sessions); inCircle[s] != want {
				t.Fatalf("seed %d: session %d in a circle: %v, want %v; edges %v", seed, s, inCircle[s], want, edges)
			}
		}
	}
}

// reaches says whether there is a way of at most so many edges.
func reaches(edges []edge, from, to statemachine.LeaseID, steps int) bool {
	return steps > 0 && slices.ContainsFunc(edges, func(e edge) bool {
		return e.waiter == from && (e.holder == to || reaches(edges, e.holder, to, steps-1))
	})
}
