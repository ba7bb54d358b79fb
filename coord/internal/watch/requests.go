package watch

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Watch ids with a meaning, as in etcd's client.
const (
	autoID = 0  // of a create request: the server chooses
	noID   = -1 // of a refusal, and of the progress of all watchers of a stream
)

// duplicateID is the cancel reason of a create request whose id is in use, etcd's text.
const duplicateID = "mvcc: duplicate watch ID provided on the WatchStream"

// open registers a stream.
func (h *Hub) open(s *stream) bool {
	return h.box.post(func() {
		h.streams[s] = struct{}{}
		h.count.streams.Add(1)
	})
}

// newStream makes a stream that hears of room for the events of all.
func (h *Hub) newStream() *stream {
	s := newStream(h.opts.StreamBytes, h.opts.Memory)
	s.roomy = func() {
		if s.room() {
			h.box.post(func() { h.drained(s) })
		}
	}
	return s
}

// release forgets a stream and its watchers. unsent is the number of events taken from it and not sent.
func (h *Hub) release(s *stream, unsent int) {
	h.count.pending.Add(-int64(unsent + s.shut()))
	h.box.post(func() {
		s.closed = true
		for _, w := range s.watchers {
			h.drop(w)
		}
		s.parked = nil
		delete(h.streams, s)
		h.count.streams.Add(-1)
	})
}

// drop ends a watcher.
func (h *Hub) drop(w *watcher) {
	h.setState(w, gone)
	delete(w.stream.watchers, w.id)
	delete(w.stream.notify, w.id)
	w.stream.charged.Give(w.cost())
}

// create answers a create request. refusal is the reason to cancel it at once, or empty.
func (h *Hub) create(s *stream, req *pb.WatchCreateRequest, refusal string) {
	if s.closed {
		return
	}
	if err := h.start(); err != nil {
		// The store is not open. Ending the stream makes the client try elsewhere; a refusal would end its watch.
		s.closed = true
		close(s.broken)
		return
	}
	w, err := newWatcher(req.Key, req.RangeEnd)
	if err != nil && refusal == "" {
		refusal = err.Error()
	}
	if refusal == "" && req.WatchId != autoID && s.watchers[req.WatchId] != nil {
		refusal = duplicateID
	}
	if refusal == "" {
		if err := s.charged.Take(w.cost()); err != nil {
			refusal = "etcdserver: too many requests: " + err.Error()
		}
	}
	r := response{revision: h.revision, created: true, size: responseOverhead, claim: true}
	if refusal != "" {
		r.id, r.canceled, r.reason = noID, true, refusal
		s.push(r)
		return
	}
	w.stream, w.id, w.start = s, s.newID(req.WatchId), req.StartRevision
	w.ask(req)
	r.id = w.id
	s.push(r)
	h.register(w)
}

// newID returns the id asked for, or the next free one.
func (s *stream) newID(asked int64) int64 {
	if asked != autoID {
		return asked
	}
	for s.watchers[s.nextID] != nil {
		s.nextID++
	}
	s.nextID++
	return s.nextID - 1
}

// ask sets the options of a watcher.
func (w *watcher) ask(req *pb.WatchCreateRequest) {
	w.prev, w.fragment, w.progress, w.idle = req.PrevKv, req.Fragment, req.ProgressNotify, true
	for _, f := range req.Filters {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			w.noPut = true
		case pb.WatchCreateRequest_NODELETE:
			w.noDelete = true
		}
	}
}

// register puts a new watcher into its first state.
func (h *Hub) register(w *watcher) {
	w.stream.watchers[w.id] = w
	if w.progress {
		w.stream.notify[w.id] = w
	}
	switch {
	case w.start == 0 || w.start > h.revision:
		h.setState(w, synced)
	case w.start < h.floor:
		h.tellCompacted(w, h.floor)
	default:
		w.cursor = w.start
		h.setState(w, behind)
	}
}

// cancelWatch answers a cancel request; one for an unknown id gets no answer, as in etcd.
func (h *Hub) cancelWatch(s *stream, id int64) {
	w := s.watchers[id]
	if w == nil {
		<-s.slots
		return
	}
	h.drop(w)
	s.push(response{id: id, revision: h.revision, canceled: true, size: responseOverhead, claim: true})
}

// progressAll answers a progress request for all watchers of a stream at once. As in etcd there is no answer unless the
// stream has watchers and all of them are synced and past their start.
func (h *Hub) progressAll(s *stream) {
	<-s.slots
	if len(s.watchers) == 0 {
		return
	}
	for _, w := range s.watchers {
		if !h.current(w) {
			return
		}
	}
	s.offer(response{id: noID, revision: h.revision, size: responseOverhead})
}

// tick sends the progress of the watchers that asked for it and got nothing since the last tick.
func (h *Hub) tick(s *stream) {
	for _, w := range s.notify {
		if w.idle && h.current(w) {
			s.offer(response{id: w.id, revision: h.revision, size: responseOverhead})
		}
		w.idle = true
	}
}

// current reports whether the hub's revision is w's progress.
func (h *Hub) current(w *watcher) bool { return w.state == synced && w.start <= h.revision }
