package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
)

// history is a store in memory that keeps everything, and the truth that watchers are checked against. Its views behave
// as those of machine.Machine, compaction included.
type history struct {
	mu        sync.Mutex
	commits   [][]statemachine.Event // commits[i] is revision firstRevision+i
	latest    map[string]*mvccpb.KeyValue
	compacted statemachine.Revision
	viewErr   error
	open      int // views
	scans     int // calls of Changes
	keyScans  int // calls of KeyChanges
}

const firstRevision = 2 // of the first change; a fresh store is at 1

func newHistory() *history {
	return &history{latest: make(map[string]*mvccpb.KeyValue), compacted: -1}
}

func (h *history) revision() statemachine.Revision {
	return firstRevision - 1 + int64(len(h.commits))
}

// op puts a value or, if value is nil, deletes.
type op struct{ key, value []byte }

// commit changes keys at one new revision; deletes of keys that do not exist are left out. It returns nil if nothing
// remains to be done.
func (h *history) commit(ops ...op) []statemachine.Event {
	revision := h.revision() + 1
	var events []statemachine.Event
	for _, o := range ops {
		old := h.latest[string(o.key)]
		e := statemachine.Event{PrevKv: old}
		switch {
		case o.value != nil:
			kv := &mvccpb.KeyValue{
				Key: o.key, Value: o.value, CreateRevision: revision, ModRevision: revision, Version: 1,
			}
			if old != nil {
				kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
			}
			e.Kv, h.latest[string(o.key)] = kv, kv
		case old == nil:
			continue
		default:
			e.Type, e.Kv = mvccpb.Event_DELETE, &mvccpb.KeyValue{Key: o.key, ModRevision: revision}
			delete(h.latest, string(o.key))
		}
		events = append(events, e)
	}
	if events != nil {
		h.commits = append(h.commits, events)
	}
	return events
}

// apply commits each list of ops and returns what the state machine would tell of such a batch.
func (h *history) apply(commits ...[]op) *statemachine.Applied {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &statemachine.Applied{}
	for _, ops := range commits {
		a.Events = append(a.Events, h.commit(ops...)...)
	}
	a.Revision, a.Compacted = h.revision(), h.compacted
	return a
}

func (h *history) compact(at statemachine.Revision) *statemachine.Applied {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.compacted = max(h.compacted, at)
	return &statemachine.Applied{Revision: h.revision(), Compacted: h.compacted}
}

// events returns the truth: all events of a revision, none where there is no such change.
func (h *history) events(revision statemachine.Revision) []statemachine.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := revision - firstRevision; i >= 0 && i < int64(len(h.commits)) {
		return h.commits[i]
	}
	return nil
}

// setViewError makes View fail, or work again.
func (h *history) setViewError(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.viewErr = err
}

func (h *history) View() (View, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.viewErr != nil {
		return nil, h.viewErr
	}
	h.open++
	return &historyView{h, h.commits[:len(h.commits):len(h.commits)], h.compacted}, nil
}

type historyView struct {
	h         *history
	commits   [][]statemachine.Event
	compacted statemachine.Revision
}

func (v *historyView) Close() {
	v.h.mu.Lock()
	v.h.open--
	v.h.mu.Unlock()
}
func (v *historyView) Compacted() statemachine.Revision { return v.compacted }
func (v *historyView) Revision() statemachine.Revision {
	return firstRevision - 1 + int64(len(v.commits))
}

func (v *historyView) Changes(
	_ context.Context, from statemachine.Revision, prev bool, fn func(statemachine.Revision, []statemachine.Event) bool,
) error {
	v.h.mu.Lock()
	v.h.scans++
	v.h.mu.Unlock()
	return v.changes(nil, from, prev, fn)
}

func (v *historyView) KeyChanges(
	_ context.Context, key []byte, from statemachine.Revision, prev bool,
	fn func(statemachine.Revision, []statemachine.Event) bool,
) error {
	v.h.mu.Lock()
	v.h.keyScans++
	v.h.mu.Unlock()
	return v.changes(key, from, prev, fn)
}

func (v *historyView) changes(
	key []byte, from statemachine.Revision, prev bool, fn func(statemachine.Revision, []statemachine.Event) bool,
) error {
	if from < v.compacted {
		return statemachine.ErrCompacted
	}
	for revision := max(from, firstRevision); revision <= v.Revision(); revision++ {
		var events []statemachine.Event
		for _, e := range v.commits[revision-firstRevision] {
			if key != nil && string(e.Kv.Key) != string(key) {
				continue
			}
			if !prev || revision-1 < v.compacted {
				e.PrevKv = nil
			}
			events = append(events, e)
		}
		if len(events) > 0 && !fn(revision, events) {
			return nil
		}
	}
	return nil
}

// keyName is one of n keys with a common prefix for each ten.
func keyName(i int) []byte { return fmt.Appendf(nil, "%c/%d", 'a'+i/10, i%10) }

// randomOps changes one to three of n keys, each at most once.
func randomOps(r *rand.Rand, n, maxValue int) []op {
	var ops []op
	for _, i := range r.Perm(n)[:1+r.IntN(3)] {
		o := op{key: keyName(i)}
		if r.IntN(4) > 0 {
			o.value = make([]byte, 1+r.IntN(maxValue))
		}
		ops = append(ops, o)
	}
	return ops
}

func kvOf(key []byte) *mvccpb.KeyValue { return &mvccpb.KeyValue{Key: key} }
