package difftest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// The watch streams of a sequence. Whether a stream is complete can be asked by a progress request only while none of
// its watches starts in the future or was ended by compaction: etcd keeps silent then. So the first streams take the
// watches that start now or in the past, and the others those, with a watch on a sentinel key instead.
const (
	slotCount      = 4
	askableSlots   = 2
	sentinelID     = int64(1) << 40
	farFuture      = 100_000
	maxSlotWatches = 12
)

// slot is one watch stream to each server, in lockstep.
type slot struct {
	index int
	logs  [2]*watchLog
	// live holds the ids in use with their requests: those created and not cancelled by the client. A watch ended by
	// compaction keeps its id until the client cancels it.
	live map[int64]*slotWatch
	// controls counts the control answers taken from each log.
	controls int
	// closed is set when the client closed its side. The stream goes on without requests.
	closed bool
}

type slotWatch struct {
	req       *pb.WatchCreateRequest
	compacted bool
}

func (s *slot) askable() bool { return s.index < askableSlots }

// silent says that no progress request is answered now: a watch is not and will not be synced.
func (s *slot) silent(cur int64) bool {
	for _, w := range s.live {
		if w.compacted || w.req.StartRevision > cur+farFuture/2 {
			return true
		}
	}
	return false
}

func (s *slot) ids() []int64 {
	var ids []int64
	for id := range s.live {
		if id != sentinelID {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// open returns the i-th slot, opening its streams the first time.
func (r *run) open(i int) (*slot, error) {
	if r.slots[i] != nil {
		return r.slots[i], nil
	}
	s := &slot{index: i, live: map[int64]*slotWatch{}}
	r.slots[i] = s
	requireLeader := r.dice.chance(50)
	for j, t := range r.targets() {
		var err error
		if s.logs[j], err = openWatch(t, requireLeader); err != nil {
			return nil, differ(err.Error())
		}
	}
	if s.askable() {
		return s, nil
	}
	return s, r.create(s, &pb.WatchCreateRequest{Key: []byte(sentinelKey), WatchId: sentinelID})
}

func (r *run) closeSlots() {
	for _, s := range r.slots {
		if s == nil {
			continue
		}
		for _, l := range s.logs {
			if l != nil {
				l.close()
			}
		}
	}
}

// control takes the next control answer of both streams and compares them.
func (r *run) control(s *slot, what string) (*pb.WatchResponse, error) {
	var answers [2]*pb.WatchResponse
	var errs []string
	for j, l := range s.logs {
		var err error
		if answers[j], err = l.awaitControl(s.controls, what); err != nil {
			errs = append(errs, err.Error())
			continue
		}
		l.target.normalise(answers[j])
	}
	if len(errs) > 0 {
		return nil, differ(errs...)
	}
	s.controls++
	r.logf("   stream %d: %s", s.index, answers[0])
	if !proto.Equal(answers[0], answers[1]) {
		return nil, differ(diffMessages(what, answers[0], answers[1])...)
	}
	return answers[0], nil
}

// create creates a watch on both streams and waits for the answers, and for the end of a watch that starts compacted.
func (r *run) create(s *slot, req *pb.WatchCreateRequest) error {
	r.logf("stream %d: create %s", s.index, req)
	for _, l := range s.logs {
		if err := l.create(proto.Clone(req).(*pb.WatchCreateRequest)); err != nil {
			return differ(err.Error())
		}
	}
	answer, err := r.control(s, "the answer to create")
	if err != nil {
		return err
	}
	r.cov.watch(r.env, req, answer)
	if answer.Canceled {
		return nil
	}
	r.createdAt = r.env.cur
	w := &slotWatch{req: req}
	s.live[answer.WatchId] = w
	if req.StartRevision > 0 && req.StartRevision < r.env.compact {
		w.compacted = true
		if _, err = r.control(s, "the end of a watch that starts compacted"); err == nil {
			r.cov.hit("watch/start/compacted")
		}
	}
	return err
}

func (r *run) cancelWatch(s *slot, id int64) error {
	if err := r.sync(); err != nil {
		return err
	}
	r.logf("stream %d: cancel %d", s.index, id)
	for _, l := range s.logs {
		if err := l.send(cancelRequest(id)); err != nil {
			return differ(err.Error())
		}
	}
	w, known := s.live[id]
	if !known {
		r.cov.hit("watch/cancel/unknown")
		return nil
	}
	delete(s.live, id)
	_, err := r.control(s, "the answer to cancel")
	if err == nil {
		r.cov.hit("watch/cancel/known")
		if w.compacted {
			r.cov.hit("watch/cancel/compacted")
		}
	}
	return err
}

// sync waits until every open stream of both servers has delivered all events up to the current revision.
func (r *run) sync() error {
	// Progress that was told at this revision says nothing of a watch that was created since: move on, so that it must
	// be told again.
	if r.createdAt == r.env.cur {
		if err := r.writeSentinel(); err != nil {
			return err
		}
	}
	if err := r.putSentinel(); err != nil {
		return err
	}
	for _, s := range r.slots {
		if s == nil || !s.askable() || len(s.live) == 0 {
			continue
		}
		r.cov.hit("watch/progress request")
		for _, l := range s.logs {
			if err := l.awaitProgress(r.env.cur); err != nil {
				return differ(err.Error())
			}
		}
	}
	return nil
}

func (r *run) writeSentinel() error {
	r.env.sentinels++
	put := &pb.PutRequest{Key: []byte(sentinelKey), Value: fmt.Appendf(nil, "%d", r.env.sentinels)}
	_, err := r.unary(pb.KV_Put_FullMethodName, put)
	return err
}

// putSentinel writes the sentinel key if a stream needs it, and waits for the event on all that do.
func (r *run) putSentinel() error {
	var waiting []*slot
	for _, s := range r.slots {
		if s != nil && !s.askable() {
			waiting = append(waiting, s)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	if err := r.writeSentinel(); err != nil {
		return err
	}
	for _, s := range waiting {
		for _, l := range s.logs {
			err := l.wait(fmt.Sprintf("the event of revision %d", r.env.cur), l.target.patience, func() bool {
				return s.delivered(l, r.env.cur)
			})
			if err != nil {
				return differ(err.Error())
			}
		}
	}
	return nil
}

// delivered says that all watches of s that see the sentinel key have delivered its put at revision rev. Events
// of the other watches were sent before. The lock of l is held.
func (s *slot) delivered(l *watchLog, rev int64) bool {
	for id, w := range s.live {
		if w.compacted || !watches(w.req, sentinelKey, rev) {
			continue
		}
		if rules := l.mu.watches[id]; rules == nil || rules.lastRev < rev {
			return false
		}
	}
	return true
}

// watches says whether a watch reports a put of key at revision rev.
func watches(req *pb.WatchCreateRequest, key string, rev int64) bool {
	from := req.Key
	if len(from) == 0 {
		from = []byte{0}
	}
	return req.StartRevision <= rev && !slices.Contains(req.Filters, pb.WatchCreateRequest_NOPUT) &&
		contains(from, req.RangeEnd, []byte(key))
}

// compareSlots compares all that came out of the watch streams.
func (r *run) compareSlots() error {
	if err := r.sync(); err != nil {
		return err
	}
	for _, s := range r.slots {
		if s == nil {
			continue
		}
		if err := r.compareSlot(s); err != nil {
			return err
		}
	}
	return nil
}

// compareSlot compares one stream. A server may deliver to the watches of a stream in any order, so
// a difference counts only if it stays for a part of the patience.
func (r *run) compareSlot(s *slot) error {
	deadline := time.Now().Add(r.subject.patience / 15)
	for {
		diffs, items := s.diff()
		if len(diffs) == 0 {
			r.cov.events(s, items)
			return nil
		}
		if time.Now().After(deadline) {
			return differ(diffs...)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// diff returns the differences of the two streams and what came out of etcd's.
func (s *slot) diff() ([]string, map[int64][]proto.Message) {
	items, violations := s.logs[0].snapshot()
	others, more := s.logs[1].snapshot()
	diffs := append(violations, more...)
	for id := range others {
		items[id] = append([]proto.Message(nil), items[id]...)
	}
	for _, id := range slices.Sorted(maps.Keys(items)) {
		for _, line := range diffLists(items[id], others[id]) {
			diffs = append(diffs, fmt.Sprintf("stream %d watch %d %s", s.index, id, line))
		}
	}
	if s.askable() {
		return diffs, items
	}
	for _, l := range s.logs {
		if n := l.progressAnswers(); n > 0 {
			diffs = append(diffs, fmt.Sprintf("%s: stream %d: %d answers to progress requests that must be silent",
				l.target.name, s.index, n))
		}
	}
	return diffs, items
}

// watchCreate returns a create request for the kind of stream s is.
func (d dice) watchCreate(e *env, s *slot) *pb.WatchCreateRequest {
	req := &pb.WatchCreateRequest{PrevKv: d.chance(50), Fragment: d.chance(30), ProgressNotify: d.chance(30)}
	req.Key, req.RangeEnd = d.span()
	if d.chance(20) {
		req.Key, req.RangeEnd = []byte{0}, []byte{0}
	}
	switch n := d.IntN(100); {
	case n < 10:
		req.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}
	case n < 20:
		req.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE}
	case n < 24:
		req.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE, pb.WatchCreateRequest_NOPUT}
	case n < 26:
		req.Filters = []pb.WatchCreateRequest_FilterType{7}
	}
	switch n := d.IntN(100); {
	case n < 20:
		req.WatchId = pick(d, []int64{1, 2, 3, 7, 1 << 33, -7, math.MaxInt64})
	case n < 26 && len(s.ids()) > 0:
		req.WatchId = pick(d, s.ids())
	}
	if d.chance(4) {
		req.Key = nil
	}
	req.StartRevision = d.watchStart(e, s)
	return req
}

// watchStart returns a start revision that s may take.
func (d dice) watchStart(e *env, s *slot) int64 {
	if s.askable() {
		lowest := max(e.compact, 1)
		if d.chance(50) {
			return 0
		}
		return pick(d, []int64{lowest, lowest + d.Int64N(e.cur-lowest+1), max(lowest, e.cur-d.Int64N(10)), e.cur})
	}
	switch n := d.IntN(100); {
	case n < 20:
		return 0
	case n < 45:
		return e.cur + 1 + d.Int64N(8)
	case n < 60:
		return pick(d, []int64{e.cur + farFuture, math.MaxInt64})
	case n < 70:
		return pick(d, []int64{-1, math.MinInt64})
	default:
		if e.compact > 1 {
			return max(1, e.compact-1-d.Int64N(8))
		}
		return 0
	}
}
