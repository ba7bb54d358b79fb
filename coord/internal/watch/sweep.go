package watch

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/statemachine"
)

// A commit may delete a million keys by one sweep. To make their events for nobody, and to ask for each key who watches
// it, would cost more than the commit. So here each watcher is asked which of the keys it watches, and events are made
// for those alone.

const (
	// maxTold is how many events of such a commit a subscriber is told; where there are more it is to read anew.
	maxTold = 1 << 12
	// maxLooked is how many keys' versions before are looked up on the hub's goroutine for a watcher that wants them;
	// where there are more, they are read as those of the past are.
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
	view   View             // nil until open
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

// span is what a watcher is to be told of one event of a commit: itself, or of a sweep the keys [from, to).
type span struct{ event, from, to int }

// publishSwept is publish for a commit with sweeps.
func (h *Hub) publishSwept(c commit) {
	x := &expansion{commit: c, source: h.opts.Source, made: make(map[int][]*event)}
	defer x.close()
	var late []*watcher // they read it from the store
	wanted := h.wanted(c)
	for _, w := range wanted.watchers {
		spans, n := wanted.spans[w], 0
		for _, s := range spans {
			n += s.to - s.from
		}
		switch {
		case w.fn != nil && n > maxTold:
			w.fn(Delivery{Revision: c.revision, Gap: true})
		case w.prev && n > maxLooked && !x.forgotten():
			late = append(late, w)
		default:
			var err error
			if w.batch, err = x.collect(spans, n, w.prev && !x.forgotten()); err != nil {
				h.opts.Logger.Warn("cannot read what deleted keys were", zap.Error(err))
				late = append(late, w)
				w.batch = nil
			} else {
				h.touched = append(h.touched, w)
			}
		}
	}
	for _, w := range late {
		w.cursor = c.revision
		h.setState(w, behind)
	}
	h.deliver(c.revision)
}

// audience is who is to be told of a commit, and of what in it, in order.
type audience struct {
	watchers []*watcher
	spans    map[*watcher][]span
}

// wanted asks of each sweep all synced watchers, and of each other event those of its key.
func (h *Hub) wanted(c commit) audience {
	a := audience{spans: make(map[*watcher][]span)}
	add := func(w *watcher, s span) {
		if len(a.spans[w]) == 0 {
			a.watchers = append(a.watchers, w)
		}
		a.spans[w] = append(a.spans[w], s)
	}
	for i, e := range c.events {
		asks := func(w *watcher) bool { return w.start <= c.revision && !w.filters(e.Type) }
		if e.Sweep == nil {
			h.synced.match(e.Kv.Key, func(w *watcher) {
				if asks(w) {
					add(w, span{i, 0, 1})
				}
			})
			continue
		}
		h.synced.each(func(w *watcher) {
			key, end := w.bounds()
			if from, to := e.Sweep.Within(key, end); from < to && asks(w) {
				add(w, span{i, from, to})
			}
		})
	}
	return a
}

// collect returns the n events of spans.
func (x *expansion) collect(spans []span, n int, prev bool) (batch []*event, err error) {
	batch = make([]*event, 0, n)
	for _, s := range spans {
		if x.events[s.event].Sweep == nil {
			batch = append(batch, x.events[s.event])
			continue
		}
		for k := s.from; k < s.to; k++ {
			e, err := x.event(s.event, k, prev)
			if err != nil {
				return nil, err
			}
			batch = append(batch, e)
		}
	}
	return batch, nil
}

// event is that of the k-th key of the sweep that is event i of the commit.
func (x *expansion) event(i, k int, prev bool) (*event, error) {
	sweep := x.events[i].Sweep
	if x.made[i] == nil {
		x.made[i] = make([]*event, sweep.Len())
	}
	e := x.made[i][k]
	if e == nil {
		e = &event{
			Event: statemachine.Event{
				Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: sweep.Key(k), ModRevision: x.revision},
			},
		}
		x.made[i][k] = e
	}
	if !prev || e.PrevKv != nil {
		return e, nil
	}
	if err := x.open(); err != nil {
		return nil, err
	}
	err := x.view.KeyChanges(context.Background(), e.Kv.Key, x.revision, true,
		func(_ statemachine.Revision, changes []statemachine.Event) bool {
			for _, change := range changes { // of one revision, so they have the same version before
				if change.Type == mvccpb.Event_DELETE {
					e.PrevKv = change.PrevKv
				}
			}
			return false
		})
	return e, err
}

func (x *expansion) open() (err error) {
	if x.view == nil {
		x.view, err = x.source.View()
	}
	return err
}

// forgotten reports whether the history of the commit has been compacted by now. Then nobody can be told what the keys
// were, but those who heard of all before it are to hear of it still: as from etcd, with an empty prev_kv.
func (x *expansion) forgotten() bool { return x.open() == nil && x.view.Compacted() >= x.revision }

func (x *expansion) close() {
	if x.view != nil {
		x.view.Close()
	}
}
