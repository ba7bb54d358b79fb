package watch

import (
	"cmp"
	"slices"

	"github.com/coord-dev/coord/statemachine"
)

// recent keeps the last commits in memory, so that a watcher that is a little behind needs no read from the store.
type recent struct {
	maxBytes, maxCommits int

	first   statemachine.Revision // all commits from this revision on are here
	commits []commit
	bytes   int
}

// reset forgets everything; the next commit is at first or later.
func (r *recent) reset(first statemachine.Revision) {
	clear(r.commits)
	r.first, r.commits, r.bytes = first, r.commits[:0], 0
}

// add appends the next commit and drops old ones that are too much.
func (r *recent) add(c commit) {
	r.commits = append(r.commits, c)
	r.bytes += c.cost()
	drop := 0
	for r.bytes > r.maxBytes || len(r.commits)-drop > r.maxCommits {
		r.bytes -= r.commits[drop].cost()
		r.first = r.commits[drop].revision + 1
		r.commits[drop] = commit{}
		drop++
	}
	r.commits = r.commits[drop:]
}

// covers reports whether no commit from revision on is missing.
func (r *recent) covers(revision statemachine.Revision) bool { return revision >= r.first }

// from returns at most limit commits at revision or later.
func (r *recent) from(revision statemachine.Revision, limit int) []commit {
	i, _ := slices.BinarySearchFunc(r.commits, revision, func(c commit, rev statemachine.Revision) int {
		return cmp.Compare(c.revision, rev)
	})
	return r.commits[i:min(i+limit, len(r.commits))]
}

func (c commit) cost() int {
	n := 0
	for _, e := range c.events {
		n += cost([]statemachine.Event{e.Event}) + len(e.Kv.Key) + len(e.Kv.Value) // the encoding counts as well
	}
	return n
}
