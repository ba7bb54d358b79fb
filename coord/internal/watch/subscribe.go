package watch

import (
	"bytes"
	"errors"

	"github.com/coord-dev/coord/statemachine"
)

// ErrEmptyRange: the end of a range is not after its start.
var ErrEmptyRange = errors.New("mvcc: watcher range is empty")

// Delivery is what a subscriber gets: the events of one revision that match, or the notice of a gap.
type Delivery struct {
	Revision statemachine.Revision
	// Events of the revision that match, in order. They are shared: nobody may change them. Nil in case of a gap.
	Events []statemachine.Event
	// Gap says that events up to Revision may be missing, because the store was replaced by a snapshot or because the
	// hub was overrun: read the state anew. Everything after Revision is delivered again.
	Gap bool
}

// Subscribe calls fn for all changes of key, or of [key, end) if end is not empty ("\x00": all keys >= key), after the
// returned revision, in order. fn runs on the hub goroutine, on which all watchers wait: it must not block and must not
// call Subscribe. It may call cancel, which ends the subscription; one call of fn may be under way while cancel
// returns. The errors are ErrEmptyRange, ErrClosed and that of Source.View.
func (h *Hub) Subscribe(key, end []byte, fn func(Delivery)) (revision statemachine.Revision, cancel func(), err error) {
	w, err := newWatcher(key, end)
	if err != nil {
		return 0, nil, err
	}
	w.fn = fn
	type answer struct {
		revision statemachine.Revision
		err      error
	}
	answered := make(chan answer, 1)
	h.box.post(func() {
		if err := h.start(); err != nil {
			answered <- answer{err: err}
			return
		}
		h.setState(w, synced)
		h.subs[w] = struct{}{}
		h.count.subscriptions.Add(1)
		answered <- answer{revision: h.revision}
	})
	select {
	case a := <-answered:
		return a.revision, func() { h.box.post(func() { h.unsubscribe(w) }) }, a.err
	case <-h.done:
		return 0, nil, ErrClosed
	}
}

func (h *Hub) unsubscribe(w *watcher) {
	if w.state == gone {
		return
	}
	h.setState(w, gone)
	delete(h.subs, w)
	h.count.subscriptions.Add(-1)
}

// newWatcher makes a watcher of key or [key, end), given as in an etcd request.
func newWatcher(key, end []byte) (*watcher, error) {
	w := &watcher{key: string(key), single: len(end) == 0}
	if len(key) == 0 {
		w.key = "\x00" // the smallest key
	}
	if len(end) == 1 && end[0] == 0 {
		return w, nil // no upper bound
	}
	if !w.single && bytes.Compare([]byte(w.key), end) >= 0 {
		return nil, ErrEmptyRange
	}
	w.end = string(end)
	return w, nil
}

// take returns the batch as plain events.
func (w *watcher) take() []statemachine.Event {
	events := make([]statemachine.Event, len(w.batch))
	for i, e := range w.batch {
		events[i] = e.Event
	}
	return events
}
