package watch

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/statemachine"
)

// storm is a randomized run: a writer with compactions and snapshots, and clients that read slowly, leave and come
// back.
type storm struct {
	t      *testing.T
	seed   uint64
	h      *history // the truth
	store  store
	hub    *Hub
	server *Server
	calm   bool        // nothing is compacted, so that no prev_kv may be missing
	done   atomic.Bool // nothing is written any more
	seen   struct{ compacted, lives, fragments, bookmarks, prevs atomic.Int64 }
}

const stormKeys = 30

// TestStorm checks all guarantees on what clients saw in randomized runs.
func TestStorm(t *testing.T) {
	var compacted, fragments, bookmarks, prevs int64
	var overflows uint64
	var scans, keyScans int
	for i := range 4 {
		s := newStorm(t, rand.Uint64())
		s.calm = i == 0
		s.start(&historyStore{history: s.h})
		s.run(700)
		if s.h.open != 0 {
			s.t.Errorf("%d views left open", s.h.open)
		}
		compacted += s.seen.compacted.Load()
		fragments += s.seen.fragments.Load()
		bookmarks += s.seen.bookmarks.Load()
		prevs += s.seen.prevs.Load()
		overflows += s.hub.Stats().Overflows
		scans += s.h.scans
		keyScans += s.h.keyScans
	}
	t.Logf("compacted %d, fragments %d, bookmarks %d, prev_kvs %d, overflows %d, scans %d, key scans %d",
		compacted, fragments, bookmarks, prevs, overflows, scans, keyScans)
	if compacted == 0 || fragments == 0 || bookmarks == 0 || prevs == 0 || overflows == 0 || scans == 0 ||
		keyScans == 0 {
		t.Error("the runs did not reach everything they should test")
	}
}

// TestMachineStorm is the same on the real state machine, with real snapshots.
func TestMachineStorm(t *testing.T) {
	s := newStorm(t, rand.Uint64())
	s.start(newMachineStore(t, s.h))
	s.run(500)
	if s.seen.compacted.Load() == 0 || s.seen.prevs.Load() == 0 || s.seen.bookmarks.Load() == 0 {
		t.Error("the run did not reach everything it should test")
	}
}

func newStorm(t *testing.T, seed uint64) *storm {
	t.Logf("seed %d", seed)
	return &storm{t: t, seed: seed, h: newHistory()}
}

func (s *storm) start(st store) {
	s.store = st
	s.hub = New(Options{
		Source: st, QueueBytes: 16 << 10, StreamBytes: 6 << 10, RecentBytes: 8 << 10, RecentRevisions: 20,
		ScanRevisions: 25, ScanBytes: 8 << 10,
	})
	st.observe(s.hub)
	s.server = NewServer(s.hub, ServerOptions{
		Header: func(*pb.ResponseHeader) {}, FragmentBytes: 400, ProgressInterval: minProgressInterval,
	})
	s.t.Cleanup(s.hub.Close)
}

func (s *storm) run(steps int) {
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() { (&visitor{storm: s, rand: rand.New(rand.NewPCG(s.seed, uint64(i)))}).run() })
	}
	s.write(rand.New(rand.NewPCG(s.seed, 1000)), steps)
	s.done.Store(true)
	// A client that came back after the last revision waits for the next one, and gets no progress before it.
	s.store.apply([][]op{{{keyName(0), []byte("end")}}})
	clients.Wait()
	s.hub.settle()
	stats := s.hub.Stats()
	if stats.Streams != 0 || stats.Watchers != 0 || stats.Slow != 0 || stats.Pending != 0 || stats.QueueBytes != 0 {
		s.t.Errorf("left behind: %+v", stats)
	}
}

func (s *storm) write(r *rand.Rand, steps int) {
	batch := func() [][]op {
		var commits [][]op
		for range 1 + r.IntN(6) {
			commits = append(commits, randomOps(r, stormKeys, 300))
		}
		return commits
	}
	for range steps {
		switch p := r.IntN(1000); {
		case p < 12:
			if at := s.h.lastRevision() - int64(r.IntN(120)); at > s.h.compacted && !s.calm {
				s.store.compact(at)
			}
		case p < 22: // a snapshot brings changes that nobody tells
			var batches [][][]op
			for range 1 + r.IntN(30) {
				batches = append(batches, batch())
			}
			at := int64(-1)
			if last := s.h.lastRevision(); r.IntN(2) == 0 && last > s.h.compacted && !s.calm {
				at = last
			}
			s.store.snapshot(batches, at)
		case p < 500:
			time.Sleep(time.Duration(r.IntN(400)) * time.Microsecond) // at another pace than those who watch
		default:
			s.store.apply(batch())
		}
	}
}

// visitor is a client with some watchers, in life after life.
type visitor struct {
	*storm
	rand    *rand.Rand
	records []*record
	ids     map[int64]*record
	pending []pending // create requests without an answer, oldest first
	c       *client
}

// pending is a create request and whose it is.
type pending struct {
	record *record
	start  statemachine.Revision
}

func (v *visitor) run() {
	for range 10 {
		v.records = append(v.records, v.newRecord())
	}
	for !v.life() {
		v.seen.lives.Add(1)
	}
	for i, r := range v.records {
		if len(r.starts) == 0 {
			v.t.Errorf("watcher %d never lived", i)
		} else if err := check(v.h, r); err != nil {
			v.t.Errorf("seed %d, watcher %d of %q %q: %.400s", v.seed, i, r.key, r.end, err.Error())
		}
		for _, resp := range r.responses {
			if resp.Fragment {
				v.seen.fragments.Add(1)
			}
			if isBookmark(resp) {
				v.seen.bookmarks.Add(1)
			}
			if len(resp.Events) > 0 && resp.Events[0].PrevKv != nil {
				v.seen.prevs.Add(1)
			}
		}
	}
}

func (v *visitor) newRecord() *record {
	r := &record{key: keyName(v.rand.IntN(stormKeys)), prev: v.rand.IntN(2) == 0, fragmented: v.rand.IntN(3) == 0}
	switch v.rand.IntN(6) {
	case 0:
		r.end = []byte{0}
	case 1, 2:
		r.key, r.end = []byte("a/"), []byte("b0")
	case 3:
		r.end = append(append([]byte{}, r.key...), 'x')
	}
	r.noPut, r.noDelete = v.rand.IntN(5) == 0, v.rand.IntN(5) == 0
	return r
}

// life is one stream; it reports true when everything ever written has been seen.
func (v *visitor) life() bool {
	v.c = dial(v.server, v.rand.IntN(3))
	defer func() { v.c.close() }()
	v.ids, v.pending = make(map[int64]*record), nil
	for _, r := range v.records {
		v.create(r)
	}
	rest := 1 + v.rand.IntN(150)
	slow := v.rand.IntN(3) == 0
	poll := time.NewTicker(3 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(patience)
	for {
		select {
		case resp := <-v.c.responses:
			if v.take(resp) {
				return true
			}
			if rest--; rest == 0 && !v.done.Load() {
				return false
			}
			if slow && v.rand.IntN(4) == 0 && !v.done.Load() {
				time.Sleep(time.Duration(v.rand.IntN(3000)) * time.Microsecond) // it reads slowly
			}
		case <-poll.C:
			v.c.ask(progressRequest())
		case <-deadline:
			v.t.Errorf("seed %d: no end in sight; hub %+v", v.seed, v.hub.Stats())
			return true
		}
	}
}

// create opens a watcher where the record ends.
func (v *visitor) create(r *record) {
	req := &pb.WatchCreateRequest{
		Key: r.key, RangeEnd: r.end, PrevKv: r.prev, Fragment: r.fragmented, ProgressNotify: v.rand.IntN(2) == 0,
		StartRevision: r.next(v.rand),
	}
	if r.noPut {
		req.Filters = append(req.Filters, pb.WatchCreateRequest_NOPUT)
	}
	if r.noDelete {
		req.Filters = append(req.Filters, pb.WatchCreateRequest_NODELETE)
	}
	v.pending = append(v.pending, pending{r, req.StartRevision})
	v.c.ask(createRequest(req))
}

// created takes the answer to the oldest create request.
func (v *visitor) created(resp *pb.WatchResponse) {
	p := v.pending[0]
	v.pending = v.pending[1:]
	if p.start == 0 {
		p.start = resp.Header.Revision + 1
	}
	p.record.starts = append(p.record.starts, p.start)
	p.record.responses = append(p.record.responses, resp)
	v.ids[resp.WatchId] = p.record
}

// next is the revision after the last one seen, by event, bookmark or compaction; for a first life anything goes.
func (r *record) next(rnd *rand.Rand) statemachine.Revision {
	if len(r.starts) == 0 {
		return []int64{0, 1, 2, 40}[rnd.IntN(4)]
	}
	next := r.starts[len(r.starts)-1]
	for _, resp := range r.lives()[len(r.starts)-1] {
		switch {
		case len(resp.Events) > 0:
			next = resp.Events[len(resp.Events)-1].Kv.ModRevision + 1
		case resp.CompactRevision > 0:
			next = resp.CompactRevision
		case isBookmark(resp):
			next = max(next, resp.Header.Revision+1)
		}
	}
	return next
}

// take records a response and reports whether it says that this is the end of history.
func (v *visitor) take(resp *pb.WatchResponse) bool {
	if resp.Created {
		v.created(resp)
		return false
	}
	if resp.WatchId == noID {
		for _, r := range v.ids {
			r.responses = append(r.responses, resp)
			r.final = resp.Header.Revision
		}
		return v.done.Load() && resp.Header.Revision == v.h.lastRevision() && len(v.ids) == len(v.records)
	}
	r := v.ids[resp.WatchId]
	if r == nil {
		if !resp.Canceled {
			v.t.Errorf("seed %d: response for unknown watcher: %v", v.seed, resp)
		}
		return false
	}
	r.responses = append(r.responses, resp)
	for resp.Fragment { // a life does not end between fragments
		resp = <-v.c.responses
		r.responses = append(r.responses, resp)
	}
	if resp.CompactRevision > 0 {
		v.seen.compacted.Add(1)
		delete(v.ids, resp.WatchId)
		v.c.ask(cancelRequest(resp.WatchId)) // else it would block progress, as in etcd
		v.create(r)
	}
	return false
}

func (h *history) lastRevision() statemachine.Revision {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision()
}
