package watch

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/statemachine"
)

// A commit may delete a million keys by one sweep. To make their events for nobody, and to ask for each key who watches it, would cost
// more than the commit. So here each watcher is asked which of the keys it watches, and events are made for those alone.

const (
	// maxTold is how many events of such a commit a subscriber is told; where there are more it is to read anew.
	maxTold = 1 << 12
	// maxLooked is how many keys' versions before are looked up on the hub's goroutine for a watcher that wants them; where there are
	// more, they are read as those of the past are.
	maxLooked = 1 << 12
)

// hasSweep reports whether single events are missing in c.
func (c commit) hasSweep() bool {
	return slices.ContainsFunc(c.events, func(e *event) bool { return e.Sweep != nil })
}

// expansion makes the events of a commit with sweeps, each once.
type expansion struct {
	commit
	source Source
	view   View             // nil until it is needed
	made   map[int][]*event // of sweeps: by their event in the commit, then by key; nil where nobody wanted it
}

// bounds are what w watches as etcd's requests say it.
func (w *watcher) bounds() (key, end []byte) {
	switch {
	case w.single:
		return []byte(w.key), nil
	case w.end == "":
		return []byte(w.key), []byte{0}
	}
	return []byte(w.key), []byte(w.end)
}

func (w *watcher) watches(key []byte) bool {
	if w.single {
		return string(key) == w.key
	}
	return string(key) >= w.key && (w.end == "" || string(key) < w.end)
}

// publishSwept is publish for a commit with sweeps.
func (h *Hub) publishSwept(c commit) {
	x := &expansion{commit: c, source: h.opts.Source, made: make(map[int][]*event)}
	defer x.close()
	var late []*watcher // they read it from the store
	h.synced.each(func(w *watcher) {
		n := 0
		if w.start <= c.revision {
			n = x.count(w)
		}
		switch {
		case n == 0:
		case w.fn != nil && n > maxTold:
			w.fn(Delivery{Revision: c.revision, Gap: true})
		case w.prev && n > maxLooked:
			late = append(late, w)
		default:
			var err error
			if w.batch, err = x.collect(w, n); err != nil {
				h.opts.Logger.Warn("cannot read what deleted keys were", zap.Error(err))
				late = append(late, w)
				w.batch = nil
			} else {
				h.touched = append(h.touched, w)
			}
		}
	})
	for _, w := range late {
		w.cursor = c.revision
		h.place(w, behind)
	}
	h.deliver(c.revision)
}

// count is how many events are for w.
func (x *expansion) count(w *watcher) (n int) {
	x.each(w, func(int) { n++ }, func(_, from, to int) { n += to - from })
	return n
}

// each calls one for the events that are for w, in order, and many for the keys of sweeps.
func (x *expansion) each(w *watcher, one func(event int), many func(event, from, to int)) {
	key, end := w.bounds()
	for i, e := range x.events {
		switch {
		case w.noPut && e.Type == mvccpb.Event_PUT || w.noDelete && e.Type == mvccpb.Event_DELETE:
		case e.Sweep != nil:
			if from, to := e.Sweep.Within(key, end); from < to {
				many(i, from, to)
			}
		case w.watches(e.Kv.Key):
			one(i)
		}
	}
}

// collect returns the n events that are for w.
func (x *expansion) collect(w *watcher, n int) (batch []*event, err error) {
	batch = make([]*event, 0, n)
	x.each(w, func(i int) { batch = append(batch, x.events[i]) }, func(i, from, to int) {
		for k := from; k < to && err == nil; k++ {
			var e *event
			e, err = x.event(i, k, w.prev)
			batch = append(batch, e)
		}
	})
	return batch, err
}

// event is that of the k-th key of the sweep that is event i of the commit.
func (x *expansion) event(i, k int, prev bool) (*event, error) {
	sweep := x.events[i].Sweep
	if x.made[i] == nil {
		x.made[i] = make([]*event, sweep.Len())
	}
	e := x.made[i][k]
	if e == nil {
		e = &event{Event: statemachine.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: sweep.Key(k), ModRevision: x.revision}}}
		x.made[i][k] = e
	}
	if !prev || e.PrevKv != nil {
		return e, nil
	}
	if x.view == nil {
		view, err := x.source.View()
		if err != nil {
			return nil, err
		}
		x.view = view
	}
	err := x.view.KeyChanges(context.Background(), e.Kv.Key, x.revision, true, func(_ statemachine.Revision, changes []statemachine.Event) bool {
		for _, change := range changes { // of one revision, so they have the same version before
			if change.Type == mvccpb.Event_DELETE {
				e.PrevKv = change.PrevKv
			}
		}
		return false
	})
	return e, err
}

func (x *expansion) close() {
	if x.view != nil {
		x.view.Close()
	}
}
