package introspect

import (
	"cmp"
	"slices"

	"github.com/coord-dev/coord/statemachine"
)

// edge says that one session waits for another: for the holder of a name, or for who is before it in the queue.
type edge struct {
	waiter, holder statemachine.LeaseID
	name           string
}

func (e edge) compare(o edge) int {
	return cmp.Or(cmp.Compare(e.waiter, o.waiter), cmp.Compare(e.holder, o.holder), cmp.Compare(e.name, o.name))
}

// waits are the edges of one queue, given by the sessions of those inside (who hold, or whose place is kept), and of
// those who wait, in order. The first waits for all inside, each other one for the first inside and for the one right
// before it. That leaves no circle out, because who is further ahead is reached step by step, and 10,000 waiters make
// 20,000 edges instead of 50 million. No session waits for itself: several owners share one, and another of them may
// well release.
func waits(name string, inside, waiting []statemachine.LeaseID) (edges []edge) {
	add := func(waiter, holder statemachine.LeaseID) {
		if waiter != holder {
			edges = append(edges, edge{waiter, holder, name})
		}
	}
	for i, waiter := range waiting {
		if i == 0 {
			for _, holder := range inside {
				add(waiter, holder)
			}
			continue
		}
		if len(inside) > 0 {
			add(waiter, inside[0])
		}
		add(waiter, waiting[i-1])
	}
	return edges
}

// graph is who waits for whom. Its edges are sorted and differ.
type graph struct {
	edges []edge
	out   map[statemachine.LeaseID][]edge // by waiter
}

// newGraph takes the edges over.
func newGraph(edges []edge) *graph {
	slices.SortFunc(edges, edge.compare)
	g := &graph{edges: slices.Compact(edges)}
	g.out = byWaiter(g.edges)
	return g
}

func byWaiter(sorted []edge) map[statemachine.LeaseID][]edge {
	out := make(map[statemachine.LeaseID][]edge)
	for from := 0; from < len(sorted); {
		to := from
		for to < len(sorted) && sorted[to].waiter == sorted[from].waiter {
			to++
		}
		out[sorted[from].waiter] = sorted[from:to:to]
		from = to
	}
	return out
}

// deadlocks returns circles of sessions that wait for each other, each once and from its smallest session on, in the
// order of these. Every session that is in some circle is in one of those returned, which are the shortest for it.
func (g *graph) deadlocks() [][]edge {
	core := &graph{edges: g.core()}
	core.out = byWaiter(core.edges)
	covered := make(map[statemachine.LeaseID]bool)
	var found [][]edge
	for _, e := range core.edges {
		if covered[e.waiter] {
			continue
		}
		circle := core.circle(e.waiter)
		for _, step := range circle {
			covered[step.waiter] = true
		}
		if circle != nil {
			found = append(found, fromSmallest(circle))
		}
	}
	slices.SortFunc(found, func(a, b []edge) int { return slices.CompareFunc(a, b, edge.compare) })
	return found
}

// core is the edges that may be in a circle, sorted: those that remain when who waits for nobody and whom nobody waits
// for have gone, again and again. Where there is no deadlock, nothing is left.
func (g *graph) core() []edge {
	return reversed(peeled(reversed(peeled(g.edges))))
}

// peeled returns the edges without those from sessions that nobody waits for, again and again.
func peeled(sorted []edge) []edge {
	out := byWaiter(sorted)
	awaited := make(map[statemachine.LeaseID]int) // the number of edges to a session
	for _, e := range sorted {
		awaited[e.holder]++
	}
	var idle []statemachine.LeaseID
	for waiter := range out {
		if awaited[waiter] == 0 {
			idle = append(idle, waiter)
		}
	}
	for ; len(idle) > 0; idle = idle[1:] {
		for _, e := range out[idle[0]] {
			if awaited[e.holder]--; awaited[e.holder] == 0 {
				idle = append(idle, e.holder)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(sorted), func(e edge) bool { return awaited[e.waiter] == 0 })
}

// reversed returns the edges with their ends exchanged, sorted.
func reversed(edges []edge) []edge {
	turned := make([]edge, len(edges))
	for i, e := range edges {
		turned[i] = edge{e.holder, e.waiter, e.name}
	}
	slices.SortFunc(turned, edge.compare)
	return turned
}

// circle is a shortest way from a session back to it, nil if there is none.
func (g *graph) circle(start statemachine.LeaseID) []edge {
	reached := map[statemachine.LeaseID]edge{} // by the edge it was reached over first
	for next := []statemachine.LeaseID{start}; len(next) > 0; next = next[1:] {
		for _, e := range g.out[next[0]] {
			if _, seen := reached[e.holder]; seen {
				continue
			}
			reached[e.holder] = e
			if e.holder == start {
				return wayBack(reached, start)
			}
			next = append(next, e.holder)
		}
	}
	return nil
}

func wayBack(reached map[statemachine.LeaseID]edge, start statemachine.LeaseID) []edge {
	way := []edge{reached[start]}
	for way[len(way)-1].waiter != start {
		way = append(way, reached[way[len(way)-1].waiter])
	}
	slices.Reverse(way)
	return way
}

// fromSmallest turns a circle so that it begins with its smallest session.
func fromSmallest(circle []edge) []edge {
	first := 0
	for i, e := range circle {
		if e.waiter < circle[first].waiter {
			first = i
		}
	}
	return slices.Concat(circle[first:], circle[:first])
}
