package watch

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/statemachine"
)

// ErrClosed: the hub was closed.
var ErrClosed = errors.New("watch hub is closed")

// Options of a Hub. Source is required; zero values of the others mean the defaults.
type Options struct {
	Source Source

	QueueBytes      int // events waiting for the hub goroutine, bytes; default 32 MiB
	StreamBytes     int // responses waiting for one client, bytes; one response may exceed it; default 1 MiB
	RecentBytes     int // commits kept for watchers that are a little behind, bytes; default 4 MiB
	RecentRevisions int // the same in revisions; default 4096
	ScanRevisions   int // revisions read from the store at once, and most revisions in one response; default 1000
	ScanBytes       int // the same in bytes of events, exceeded by at most one revision; default 1 MiB

	// StallTime is how long a client may take nothing while there is no room for the events of others, default 5 s.
	StallTime time.Duration
	// Memory bounds what all watchers hold together; nil: it is not bounded.
	Memory *limit.Member
	Logger *zap.Logger // default: none
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&o.QueueBytes, 32 << 20}, {&o.StreamBytes, 1 << 20}, {&o.RecentBytes, 4 << 20},
		{&o.RecentRevisions, 4096}, {&o.ScanRevisions, 1000}, {&o.ScanBytes, 1 << 20},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	if o.StallTime <= 0 {
		o.StallTime = 5 * time.Second
	}
	if o.Memory == nil {
		o.Memory = &limit.Member{}
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
}

// Hub hands the commits of one state machine to watchers. It is a statemachine.Observer. All methods are safe for
// concurrent use, but Applied and Recovered must be called in the order of the log.
type Hub struct {
	opts   Options
	box    *mailbox
	jobs   chan job
	count  counters
	cancel context.CancelFunc
	done   chan struct{} // closed by Close
	once   sync.Once
	wg     sync.WaitGroup

	// What follows belongs to the hub goroutine.

	started  bool                  // revision and floor are known
	revision statemachine.Revision // of the last commit handed out
	floor    statemachine.Revision // compacted revision, -1: never
	streams  map[*stream]struct{}
	subs     map[*watcher]struct{}
	synced   *index
	behind   *index
	order    queue // watchers behind, longest waiting first, and some that are no longer
	recent   recent
	scanning bool // a job is under way
	touched  []*watcher
	looks    bool // will look for streams to end
}

// New starts a hub. The caller must Close it.
func New(opts Options) *Hub {
	opts.EnsureDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hub{
		opts:    opts,
		box:     newMailbox(opts.QueueBytes),
		jobs:    make(chan job, 1),
		cancel:  cancel,
		done:    make(chan struct{}),
		streams: make(map[*stream]struct{}),
		subs:    make(map[*watcher]struct{}),
		synced:  newIndex(),
		behind:  newIndex(),
		recent:  recent{maxBytes: opts.RecentBytes, maxCommits: opts.RecentRevisions},
	}
	h.wg.Go(func() { guard.Loop(ctx, opts.Logger, "watch hub", h.run) })
	h.wg.Go(func() { guard.Loop(ctx, opts.Logger, "watch scan", func() { h.scanLoop(ctx) }) })
	return h
}

// Close ends all streams with rpctypes.ErrGRPCStopped and waits for the hub's goroutines, not for the handlers of the
// streams. Views are released before it returns. It is idempotent.
func (h *Hub) Close() {
	h.once.Do(func() {
		close(h.done)
		h.cancel()
		h.box.close()
	})
	h.wg.Wait()
}

// Applied takes over the events of one batch; it never blocks. It implements statemachine.Observer.
func (h *Hub) Applied(a *statemachine.Applied) {
	l := loss{a.Revision, a.Compacted}
	if h.box.postCommits(cost(a.Events), l, func() { h.applied(a) }) {
		h.count.overflows.Add(1)
	}
}

// Recovered makes all watchers read on from the store that a snapshot has put in place. It implements
// statemachine.Observer.
func (h *Hub) Recovered(a *statemachine.Applied, _ func(number uint64) bool) {
	l := loss{a.Revision, a.Compacted}
	h.box.post(func() { h.lose(l) })
}

// run is the hub goroutine.
func (h *Hub) run() {
	var spare []task
	more := false
	for {
		if !more {
			<-h.box.wake
		}
		tasks, open := h.box.take(spare)
		if !open {
			return
		}
		for i := range tasks {
			h.do(tasks[i])
		}
		clear(tasks) // hold no events
		spare = tasks
		more = h.catchUp()
	}
}

// catchUp is advance. A panic ends the streams.
func (h *Hub) catchUp() (more bool) {
	defer guard.Recover(h.opts.Logger, "watch hub", func(any) { h.restart(loss{h.revision, h.floor}) })
	return h.advance()
}

// do runs a task. A panic ends the streams, not the hub.
func (h *Hub) do(t task) {
	defer guard.Recover(h.opts.Logger, "watch hub", func(any) { h.restart(t.lost) })
	if t.run == nil {
		h.lose(t.lost)
		return
	}
	if t.cost > 0 {
		defer h.box.free(t.cost)
	}
	t.run()
}

// restart forgets what a panic may have left half-changed. All streams end with the error upon which clients come back
// and go on from the revision that they have seen; subscribers are told of a gap up to l and read anew.
func (h *Hub) restart(l loss) {
	h.skip(l)
	h.synced, h.behind, h.order = newIndex(), newIndex(), queue{}
	h.touched, h.scanning = nil, false
	for s := range h.streams {
		for _, w := range s.watchers {
			h.count.watchers.Add(-w.state.live())
			h.count.slow.Add(-w.state.slow())
			w.state, w.batch = gone, nil
		}
		clear(s.watchers)
		clear(s.notify)
		s.parked = nil
		if !s.closed {
			s.closed = true
			close(s.broken)
		}
	}
	for w := range h.subs {
		w.state, w.batch = fresh, nil
		h.setState(w, synced)
		func() {
			defer guard.Recover(h.opts.Logger, "watch subscriber")
			w.fn(Delivery{Revision: h.revision, Gap: true})
		}()
	}
}

// start learns the revision from the store, if no commit told it yet.
func (h *Hub) start() error {
	if h.started {
		return nil
	}
	v, err := h.opts.Source.View()
	if err != nil {
		return err
	}
	defer v.Close()
	h.started, h.revision, h.floor = true, v.Revision(), v.Compacted()
	h.recent.reset(h.revision + 1)
	return nil
}

// applied offers the events of a batch to the synced watchers they match.
func (h *Hub) applied(a *statemachine.Applied) {
	if len(h.streams) == 0 && len(h.subs) == 0 || !h.started {
		h.skip(loss{a.Revision, a.Compacted})
		return
	}
	for _, c := range split(a.Events, h.revision) {
		h.revision = c.revision
		if c.hasSweep() {
			h.publishSwept(c)
			h.recent.reset(c.revision + 1)
			continue
		}
		h.publish(c)
		h.recent.add(c)
	}
	h.revision, h.floor = max(h.revision, a.Revision), max(h.floor, a.Compacted)
}

// skip takes note of commits nobody watches.
func (h *Hub) skip(l loss) {
	if !h.started {
		h.started, h.floor = true, -1
	}
	h.revision, h.floor = max(h.revision, l.revision), max(h.floor, l.compacted)
	h.recent.reset(h.revision + 1)
}

// publish offers one commit to the synced watchers it matches, as one response each.
func (h *Hub) publish(c commit) {
	for i, e := range c.events {
		h.synced.match(e.Kv.Key, func(w *watcher) {
			if w.start <= c.revision && w.collect(c, i) {
				h.touched = append(h.touched, w)
			}
		})
	}
	h.deliver(c.revision)
}

// deliver offers their batches to the watchers touched by a commit.
func (h *Hub) deliver(revision statemachine.Revision) {
	for _, w := range h.touched {
		if w.fn != nil {
			w.fn(Delivery{Revision: revision, Events: w.take()})
		} else if !h.send(w, revision) {
			w.cursor = revision
			h.setState(w, parked)
		}
		w.batch = nil
	}
	clear(h.touched)
	h.touched = h.touched[:0]
}

// send offers w's batch to its stream as one response.
func (h *Hub) send(w *watcher, revision statemachine.Revision) bool {
	size := responseOverhead
	for _, e := range w.batch {
		e.encode(w.prev)
		size += len(e.wire(w.prev))
	}
	r := response{id: w.id, revision: revision, events: w.batch, prev: w.prev, fragment: w.fragment, size: size}
	h.count.pending.Add(int64(len(w.batch)))
	if !w.stream.offer(r) {
		h.count.pending.Add(-int64(len(w.batch)))
		h.endStalled()
		return false
	}
	h.count.events.Add(uint64(len(w.batch)))
	w.idle = false
	return true
}

// endStalled comes after an event found no room. It ends the streams whose clients have taken nothing for some seconds,
// so that others get theirs. It looks again soon as long as there may be such clients.
func (h *Hub) endStalled() {
	if h.looks {
		return
	}
	now, some := time.Now(), false
	for s := range h.streams {
		holds, stalled := s.stalled(now, h.opts.StallTime)
		switch {
		case s.ending:
		case stalled:
			s.ending = true
			s.pending.Refused()
			close(s.slow)
		case holds:
			some = true
		}
	}
	if h.looks = some; some {
		time.AfterFunc(h.opts.StallTime/5, func() {
			h.box.post(func() {
				h.looks = false
				h.endStalled()
			})
		})
	}
}

// lose goes on at a revision whose commits, or some of them, did not come as events: synced watchers are behind from
// the first revision that they may have missed.
func (h *Hub) lose(l loss) {
	from := h.revision + 1
	known := h.started
	h.skip(l)
	if !known || h.revision < from {
		return
	}
	for s := range h.streams {
		for _, w := range s.watchers {
			if w.state == synced && w.start <= h.revision {
				w.cursor = max(from, w.start)
				h.setState(w, behind)
			}
		}
	}
	for w := range h.subs {
		w.fn(Delivery{Revision: h.revision, Gap: true})
	}
}
