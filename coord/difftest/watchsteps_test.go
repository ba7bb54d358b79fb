package difftest

import (
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// notifyInterval is the interval of progress notifications the servers are started with.
const notifyInterval = 400 * time.Millisecond

// slot returns one of the streams of the sequence that still takes requests.
func (r *run) slot() (*slot, error) {
	s, err := r.open(r.dice.IntN(slotCount))
	if err == nil && s.closed {
		return r.open(r.dice.IntN(askableSlots))
	}
	return s, err
}

func (r *run) watch() error {
	s, err := r.slot()
	if err != nil || len(s.live) >= maxSlotWatches {
		return err
	}
	return r.create(s, r.dice.watchCreate(r.env, s))
}

// watchInvalid creates watches that are refused, and sends requests that are ignored.
func (r *run) watchInvalid() error {
	s, err := r.slot()
	if err != nil {
		return err
	}
	req := r.dice.watchCreate(r.env, s)
	switch ids := s.ids(); {
	case len(ids) > 0 && r.dice.chance(40):
		req.WatchId = pick(r.dice, ids)
	case r.dice.chance(50):
		req.Key, req.RangeEnd = []byte("b"), []byte(pick(r.dice, []string{"a", "b"}))
	default:
		req.StartRevision = -1 - r.dice.Int64N(9)
	}
	if r.dice.chance(30) {
		for _, l := range s.logs {
			if err := l.send(&pb.WatchRequest{}); err != nil {
				return differ(err.Error())
			}
		}
	}
	return r.create(s, req)
}

func (r *run) cancelSomeWatch() error {
	s, err := r.slot()
	if err != nil {
		return err
	}
	id := int64(4711)
	if ids := s.ids(); len(ids) > 0 && r.dice.chance(80) {
		id = pick(r.dice, ids)
	}
	return r.cancelWatch(s, id)
}

// progress asks for progress: where it must be answered sync waits for the answer, where it must not be the end
// of the sequence finds out.
func (r *run) progress() error {
	s, err := r.slot()
	if err != nil {
		return err
	}
	switch {
	case len(s.live) == 0:
		// A stream without watches answers nothing.
		for _, l := range s.logs {
			if err := l.send(progressRequest()); err != nil {
				return differ(err.Error())
			}
		}
		return nil
	case s.askable():
		return r.sync()
	case s.silent(r.env.cur):
		r.logf("stream %d: progress request, must be silent", s.index)
		for _, l := range s.logs {
			if err := l.send(progressRequest()); err != nil {
				return differ(err.Error())
			}
		}
		r.cov.hit("watch/progress request/silent")
	}
	return nil
}

// closeSend closes the client's side of a stream, which goes on all the same.
func (r *run) closeSend() error {
	s, err := r.open(askableSlots + r.dice.IntN(slotCount-askableSlots))
	if err != nil || s.closed {
		return err
	}
	s.closed = true
	for _, l := range s.logs {
		if err := l.stream.CloseSend(); err != nil {
			return differ(err.Error())
		}
	}
	r.cov.hit("watch/client side closed")
	return r.sync()
}

// notification waits for a notification that comes by itself, after a quiet time.
func (r *run) notification() error {
	s, err := r.open(0)
	if err != nil {
		return err
	}
	req := &pb.WatchCreateRequest{
		Key: r.dice.key(), ProgressNotify: true, Filters: r.dice.watchCreate(r.env, s).Filters,
	}
	if err := r.create(s, req); err != nil {
		return err
	}
	if err := r.sync(); err != nil {
		return err
	}
	n := s.controls - 1
	for _, l := range s.logs {
		created, err := l.awaitControl(n, "the answer to create")
		if err != nil {
			return differ(err.Error())
		}
		what := fmt.Sprintf("a progress notification of watch %d at revision %d", created.WatchId, r.env.cur)
		err = l.wait(what, l.target.patience, func() bool {
			w := l.mu.watches[created.WatchId]
			return w != nil && w.notified > 0 && w.progress == r.env.cur
		})
		if err != nil {
			return differ(err.Error())
		}
	}
	r.cov.hit("watch/progress_notify/notified")
	return nil
}

// lostPrev watches from the compacted revision: the event there has a previous version that is gone.
func (r *run) lostPrev() error {
	s, err := r.open(r.dice.IntN(askableSlots))
	if err != nil {
		return err
	}
	if err := r.sync(); err != nil {
		return err
	}
	key := r.dice.key()
	for range 2 {
		if _, err := r.unary(pb.KV_Put_FullMethodName, &pb.PutRequest{Key: key, Value: r.dice.value()}); err != nil {
			return err
		}
	}
	at := r.env.cur
	if err := r.sync(); err != nil {
		return err
	}
	if _, err := r.unary(pb.KV_Compact_FullMethodName,
		&pb.CompactionRequest{Revision: at, Physical: r.dice.chance(50)}); err != nil {
		return err
	}
	return r.create(s, &pb.WatchCreateRequest{Key: key, PrevKv: true, StartRevision: at})
}

// bulk makes events of one revision too large for one response, watched with and without fragments, live and from
// the past.
func (r *run) bulk() error {
	s, err := r.open(r.dice.IntN(askableSlots))
	if err != nil {
		return err
	}
	watch := func(start int64, fragment bool) error {
		return r.create(s, &pb.WatchCreateRequest{
			Key: []byte("bulk"), RangeEnd: []byte("bull"), PrevKv: true, Fragment: fragment, StartRevision: start,
		})
	}
	start := r.env.cur + 1
	if err := watch(0, true); err != nil {
		return err
	}
	if err := watch(0, false); err != nil {
		return err
	}
	for i := range 3 {
		req := &pb.PutRequest{Key: fmt.Appendf(nil, "bulk%d", i), Value: r.dice.blob(1 << 20)}
		if _, err := r.unary(pb.KV_Put_FullMethodName, req); err != nil {
			return err
		}
	}
	del := &pb.DeleteRangeRequest{Key: []byte("bulk"), RangeEnd: []byte("bull"), PrevKv: true}
	if _, err := r.unary(pb.KV_DeleteRange_FullMethodName, del); err != nil {
		return err
	}
	if err := watch(start, true); err != nil {
		return err
	}
	return r.sync()
}
