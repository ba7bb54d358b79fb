package watch

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/pkg/v3/adt"

	"github.com/coord-dev/coord/statemachine"
)

// state is where a watcher stands, see the package documentation.
type state uint8

const (
	fresh state = iota // in no index yet
	synced
	behind
	parked
	compacted // told that its history is gone; its id stays taken until the client cancels it, as in etcd
	gone      // cancelled, or its stream has ended
)

// slow is 1 for a watcher that is behind, for counting.
func (s state) slow() int64 {
	if s == behind || s == parked {
		return 1
	}
	return 0
}

// live is 1 for a watcher that may get events, for counting.
func (s state) live() int64 {
	if s == synced {
		return 1
	}
	return s.slow()
}

// watcher is one watch of a stream, or a subscription inside the process. It belongs to the hub goroutine.
type watcher struct {
	stream *stream        // nil for a subscription
	fn     func(Delivery) // nil for a watch of a stream
	id     int64

	key, end string // [key, end); an empty end of a range means no upper bound
	single   bool   // key alone

	start  statemachine.Revision // events before it are not wanted; 0: those after the creation are
	cursor statemachine.Revision // next revision wanted; only while behind or parked

	state    state
	queued   bool // is in Hub.order
	prev     bool // wants prev_kv
	noPut    bool // filters
	noDelete bool
	fragment bool // large responses may be cut
	progress bool // wants progress notifications
	idle     bool // nothing was sent since the last tick of the progress interval

	slot  int      // in its index's bucket
	batch []*event // events being collected for the next response; nil between tasks
}

// watcherCost is what a watcher costs in memory beside its key and its end: itself, and its places in the maps of its
// stream and in an index.
const watcherCost = 512

func (w *watcher) cost() int64 { return int64(watcherCost + len(w.key) + len(w.end)) }

func (w *watcher) interval() adt.Interval { return adt.NewStringAffineInterval(w.key, w.end) }

// filters reports whether w wants no events of a type.
func (w *watcher) filters(kind mvccpb.Event_EventType) bool {
	return w.noPut && kind == mvccpb.Event_PUT || w.noDelete && kind == mvccpb.Event_DELETE
}

// collect adds event i of c to the batch, unless a filter drops it, and reports whether it is the batch's first.
func (w *watcher) collect(c commit, i int) bool {
	e := c.events[i]
	if w.filters(e.Type) {
		return false
	}
	if w.batch == nil {
		w.batch = c.events[i : i+1 : i+1] // most revisions have one event: share, do not copy
		return true
	}
	w.batch = append(w.batch, e)
	return false
}

// setState takes w from the state that it is in to another. Where that is behind or parked, w.cursor must be set.
func (h *Hub) setState(w *watcher, to state) {
	switch w.state {
	case synced:
		h.synced.remove(w)
	case behind:
		h.behind.remove(w)
	}
	if w.fn == nil {
		h.count.watchers.Add(to.live() - w.state.live())
		h.count.slow.Add(to.slow() - w.state.slow())
	}
	w.state = to
	switch to {
	case synced:
		h.synced.add(w)
	case behind:
		h.behind.add(w)
		if !w.queued {
			w.queued = true
			h.order.push(w)
		}
	case parked:
		w.stream.parked = append(w.stream.parked, w)
	}
}
