package recipes

import (
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// oldest is the rule of queues in etcd's layout: the oldest entry holds, as for etcd's clients. Where a transaction of
// one of those created the oldest and another one at once, each of them holds for them; so none is granted here, and
// all who came later wait for both.
type oldest struct{}

// Record implements Rule.
func (oldest) Record(string) string { return "" }

// Last implements Rule: who holds is decided by the first two alone.
func (oldest) Last(*mvccpb.KeyValue) (int64, bool) { return 0, false }

// Inside implements Rule. Entries that are inside together are foreign.
func (oldest) Inside(s State) iter.Seq[Entry] { return oldestOf(s.Oldest()) }

// oldestOf yields the first of entries, which come oldest first, and those that were created with it.
func oldestOf(entries iter.Seq[Entry]) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		var last Entry // not yielded yet: the next one says whether it is alone
		for e := range entries {
			if last.Key != "" {
				together := last.Token == e.Token
				last.Foreign = last.Foreign || together
				e.Foreign = e.Foreign || together
				if !yield(last) || !together {
					return
				}
			}
			last = e
		}
		if last.Key != "" {
			yield(last)
		}
	}
}

// Holds implements Rule.
func (oldest) Holds(r Reader, queue string, e Entry, token int64) bool {
	if e.Lingers || e.Foreign || e.Token != token {
		return false
	}
	for head := range oldestOf(entriesOf(r, queue)) {
		return head.Key == e.Key && head.Token == token && !head.Foreign
	}
	return false
}

// Ahead implements Rule.
func (oldest) Ahead(s State, e Entry) int { return olderThan(s, e) }

// entriesOf yields the entries of queue, oldest first, and reads no more than is taken.
func entriesOf(r Reader, queue string) iter.Seq[Entry] {
	return func(yield func(Entry) bool) { eachEntry(r, queue, yield) }
}

// insideOf yields who is inside of the queue of a lock or an election, as Rule.Inside does, and reads no more of it
// than that.
func insideOf(r Reader, queue string) iter.Seq[Entry] {
	if !ByPriority(queue) {
		return oldestOf(entriesOf(r, queue))
	}
	return func(yield func(Entry) bool) {
		if s := leaderOf(r, queue); s.elected() {
			s.entry.Token = s.term
			yield(s.entry)
		}
	}
}
