package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/statemachine"
)

// retryScan is how long the scan goroutine waits after the store refused a read.
const retryScan = 100 * time.Millisecond

// keyScanFactor decides between reading one key's history and a shared scan of everybody's: the shared scan is taken
// unless it is longer than this many revisions for each watcher that is behind, because one read of a key costs about
// as much as that many revisions of a scan.
const keyScanFactor = 32

// job asks for a chunk of history.
type job struct {
	from statemachine.Revision
	key  []byte // nil: of all keys
	prev bool   // with previous versions
}

// chunk is the history in [job.from, to], of one key or of all.
type chunk struct {
	job
	to        statemachine.Revision
	commits   []commit
	compacted statemachine.Revision // >= 0: the history before it is gone, and there is nothing in this chunk
	err       error
}

// serves reports whether the chunk has what w needs next.
func (c *chunk) serves(w *watcher) bool {
	return w.cursor >= c.from && w.cursor <= c.to && (c.prev || !w.prev) &&
		(c.key == nil || w.single && w.key == string(c.key))
}

// drained is told when the client of s has read half of its buffer.
func (h *Hub) drained(s *stream) {
	list := s.parked
	s.parked = nil
	for _, w := range list {
		if w.state == parked {
			h.setState(w, behind)
		}
	}
}

// advance lets the watchers that are behind catch up by one chunk: at once if memory has it, else by starting a scan.
// It reports whether there is more to do at once.
func (h *Hub) advance() bool {
	if h.scanning {
		return false
	}
	w := h.next()
	if w == nil {
		return false
	}
	// What is compacted is the store's to tell, even where memory still has it.
	if w.cursor > h.floor && h.recent.covers(w.cursor) {
		h.serve(h.remember(w.cursor))
		return true
	}
	h.scanning = true
	h.jobs <- h.jobFor(w)
	return false
}

// next returns the watcher that has waited longest and moves it to the end of the line. Watchers whose client does not
// read are parked on the way: no scan is made for them.
func (h *Hub) next() *watcher {
	for {
		w := h.order.pop()
		switch {
		case w == nil:
			return nil
		case w.state != behind:
			w.queued = false
		case w.stream.full():
			w.queued = false
			h.setState(w, parked)
		default:
			h.order.push(w)
			return w
		}
	}
}

// remember makes a chunk of recent commits.
func (h *Hub) remember(from statemachine.Revision) *chunk {
	c := &chunk{job: job{from: from, prev: true}, to: h.revision, compacted: -1}
	c.commits = h.recent.from(from, h.opts.ScanRevisions)
	if len(c.commits) == h.opts.ScanRevisions {
		c.to = c.commits[len(c.commits)-1].revision
	}
	return c
}

// jobFor decides what to read for w, and with it for all whom the same chunk serves.
func (h *Hub) jobFor(w *watcher) job {
	gap := int(h.revision - w.cursor)
	if w.single && gap > h.opts.ScanRevisions && gap > keyScanFactor*h.behind.size {
		return job{from: w.cursor, key: []byte(w.key), prev: w.prev}
	}
	for _, other := range h.order.all() {
		if other.state == behind && other.prev {
			return job{from: w.cursor, prev: true}
		}
	}
	return job{from: w.cursor}
}

// scanned takes over a chunk read from the store.
func (h *Hub) scanned(c *chunk) {
	h.scanning = false
	switch {
	case c.err != nil:
		h.opts.Logger.Warn("cannot read history for watchers", zap.Int64("from", c.from), zap.Error(c.err))
	case c.compacted >= 0:
		for _, w := range h.order.all() {
			if w.state == behind && w.cursor < c.compacted {
				h.tellCompacted(w, c.compacted)
			}
		}
	default:
		h.serve(c)
	}
}

// serve offers a chunk to all watchers behind that need it, as one response each, and moves their cursors. Those that
// have reached the hub's revision are synced.
func (h *Hub) serve(c *chunk) {
	c.to = min(c.to, h.revision) // what is newer comes as commits
	for _, commit := range c.commits {
		if commit.revision > c.to {
			break
		}
		for i, e := range commit.events {
			h.behind.match(e.Kv.Key, func(w *watcher) {
				if w.cursor <= commit.revision && c.serves(w) {
					w.collect(commit, i)
				}
			})
		}
	}
	for _, w := range h.order.all() {
		if w.state == behind && c.serves(w) {
			h.move(w, c.to)
		}
	}
}

// move sends w what was collected up to revision to.
func (h *Hub) move(w *watcher, to statemachine.Revision) {
	refused := w.batch != nil && !h.send(w, h.revision)
	w.batch = nil
	if !refused {
		w.cursor = to + 1
	}
	switch {
	case refused:
		h.setState(w, parked)
	case w.cursor > h.revision:
		h.setState(w, synced)
	}
}

// tellCompacted tells w that its history before floor is gone. As in etcd the header has no revision.
func (h *Hub) tellCompacted(w *watcher, floor statemachine.Revision) {
	h.setState(w, compacted)
	w.stream.push(response{id: w.id, canceled: true, compacted: floor, size: responseOverhead})
}

// scanLoop is the scan goroutine.
func (h *Hub) scanLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-h.jobs:
			c := h.guardedScan(ctx, j)
			if c.err != nil {
				select {
				case <-ctx.Done():
				case <-time.After(retryScan):
				}
			}
			h.box.post(func() { h.scanned(c) })
		}
	}
}

// guardedScan is scan. A panic is an error of the chunk, which the hub asks for again.
func (h *Hub) guardedScan(ctx context.Context, j job) (c *chunk) {
	defer guard.Recover(h.opts.Logger, "watch scan", func(cause any) {
		c = &chunk{job: j, compacted: -1, err: guard.Status(cause)}
	})
	return h.scan(ctx, j)
}

// scan reads one chunk from a fresh view.
func (h *Hub) scan(ctx context.Context, j job) *chunk {
	c := &chunk{job: j, compacted: -1}
	v, err := h.opts.Source.View()
	if err != nil {
		c.err = err
		return c
	}
	defer v.Close()
	c.to = v.Revision()
	if c.to < j.from {
		c.err = fmt.Errorf("view of revision %d is older than the hub", c.to)
		return c
	}
	bytes := 0
	fn := func(revision statemachine.Revision, events []statemachine.Event) bool {
		c.commits = append(c.commits, commit{revision, wrap(events)})
		bytes += cost(events)
		if len(c.commits) < h.opts.ScanRevisions && bytes < h.opts.ScanBytes {
			return true
		}
		c.to = revision
		return false
	}
	if j.key != nil {
		err = v.KeyChanges(ctx, j.key, j.from, j.prev, fn)
	} else {
		err = v.Changes(ctx, j.from, j.prev, fn)
	}
	switch {
	case errors.Is(err, statemachine.ErrCompacted):
		c.commits, c.compacted = nil, v.Compacted()
	case err != nil:
		c.err = err
	}
	return c
}
