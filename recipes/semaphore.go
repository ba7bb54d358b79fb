package recipes

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// The semaphore; see service Semaphore for what it promises. A key beside its record says how many permits there are:
// recipesv1.SemaphoreState. An entry is let in when it and all before it fit into the limit. When that is lowered below what is held,
// it keeps the token of the last holder, up to which entries hold whatever the limit: so nothing is revoked, and who holds can be
// counted anew from the keys.

// byPermits is the rule of semaphores.
var byPermits = counted{
	inOrder: byTally,
	limit:   layout.Limit,
	room: func(t *recipesv1.Tally, limit *mvccpb.KeyValue) room {
		return &permitRoom{state: semaphoreState(limit), held: t.InsidePermits}
	},
}

// permitRoom is for whose permits fit in.
type permitRoom struct {
	state *recipesv1.SemaphoreState
	held  int64
}

func (r *permitRoom) admits(e Entry) bool {
	return e.Token <= r.state.Keep || r.held+e.Permits <= r.state.Limit
}

func (r *permitRoom) add(e Entry) { r.held += e.Permits }

// semaphoreState reads what a semaphore's limit is. It is 0 if there is none.
func semaphoreState(limit *mvccpb.KeyValue) *recipesv1.SemaphoreState {
	s, ok := readLimit(limit)
	if !ok {
		return &recipesv1.SemaphoreState{}
	}
	return s
}

// readLimit reports false for what is no limit.
func readLimit(limit *mvccpb.KeyValue) (s *recipesv1.SemaphoreState, ok bool) {
	s = &recipesv1.SemaphoreState{}
	return s, limit == nil || proto.Unmarshal(limit.Value, s) == nil
}

// semaphoreAcquire takes permits, or waits for them.
func semaphoreAcquire(step statemachine.Step, req *coordv1.SemaphoreAcquire) (proto.Message, error) {
	w, err := newWish(step, KindSemaphore, req, req.Try, req.LingerMs)
	if err != nil {
		return nil, err
	}
	w.own.Permits, w.limit = req.Permits, req.Limit
	return w.acquired(step, enterSemaphore)
}

// enterSemaphore makes an entry. ErrNotSet, ErrTooManyPermits; ErrKeyTaken if there is one with other permits.
func enterSemaphore(step statemachine.Step, w *wish) (*place, bool, error) {
	if n := w.own.Permits; !w.resumes && (n < 1 || n > MaxPermits) {
		return nil, false, invalid("%d permits, not between 1 and %d", n, int64(MaxPermits))
	}
	if w.limit < 0 || w.limit > MaxPermits {
		return nil, false, invalid("limit %d is not between 0 and %d", w.limit, int64(MaxPermits))
	}
	record := []byte(byPermits.limitKey(w.queue))
	state, ok := readLimit(step.Get(record))
	if !ok {
		return nil, false, statemachine.NewQueueBroken(w.queue, fmt.Errorf("what stands at %q is no limit: resize the semaphore", record))
	}
	unset := state.Limit == 0
	if unset {
		state.Limit = w.limit
	}
	if state.Limit == 0 && !w.resumes {
		return nil, false, refuse(ErrNotSet, "semaphore %q has no limit", layout.NameOf(w.queue))
	}
	admits := func(t *recipesv1.Tally, e Entry) bool {
		left := &permitRoom{state: state, held: t.InsidePermits}
		return t.Inside == t.Entries && left.admits(e)
	}
	p, err := lookAt(step, w.queue, admits, w.own)
	switch {
	case err != nil:
		return nil, false, err
	case p.exists && !w.resumes && p.own.Permits != w.own.Permits:
		return nil, false, refuse(ErrKeyTaken, "%q has %d permits", p.key, p.own.Permits)
	case !p.exists && w.own.Permits > state.Limit:
		return nil, false, refuse(ErrTooManyPermits, "%d of %d", w.own.Permits, state.Limit)
	}
	if unset && w.limit != 0 && (p.holds || !w.try) {
		if _, err := step.Put(record, encode(state), 0); err != nil {
			return nil, false, err
		}
	}
	made, err := w.take(step, p)
	return p, made, err
}

// semaphoreResize changes the limit. ErrLimitBelowHeld.
func semaphoreResize(step statemachine.Step, req *coordv1.SemaphoreResize) (proto.Message, error) {
	if err := CheckName(req.Name); err != nil {
		return nil, err
	}
	if req.Limit < 1 || req.Limit > MaxPermits {
		return nil, invalid("limit %d is not between 1 and %d", req.Limit, int64(MaxPermits))
	}
	queue := layout.QueueOf(coordv1.QueueKind_QUEUE_SEMAPHORE, req.Name)
	if err := mended(step, queue); err != nil {
		return nil, err
	}
	tally, err := tallyOf(step, queue)
	if err != nil {
		return nil, err
	}
	record := []byte(byPermits.limitKey(queue))
	before := semaphoreState(step.Get(record))
	if key, permits, ok := wantsMore(step, queue, tally, req.Limit); ok {
		return nil, refuse(ErrLimitBelowHeld, "limit %d, and %q waits for %d", req.Limit, key, permits)
	}
	if tally.InsidePermits > req.Limit && !req.Drain {
		return nil, refuse(ErrLimitBelowHeld, "limit %d, and %d are held", req.Limit, tally.InsidePermits)
	}
	next := &recipesv1.SemaphoreState{Limit: req.Limit}
	if tally.InsidePermits > req.Limit {
		next.Keep = tally.Last
	}
	resp := &coordv1.SemaphoreResized{Before: before.Limit, Held: tally.InsidePermits, Revision: step.Revision()}
	if proto.Equal(before, next) {
		return resp, nil
	}
	rev, err := step.Put(record, encode(next), 0)
	if err != nil {
		return nil, err
	}
	byPermits.letIn(step, queue, tally, step.Get(record))
	if resp.Held != tally.InsidePermits {
		if err := putTally(step, queue, tally); err != nil {
			return nil, err
		}
	}
	resp.Held, resp.Revision = tally.InsidePermits, rev
	return resp, nil
}

// maxWaitersSeen is how many who wait a resize looks at. Only one that lowers the limit below what somebody wants, or wanted since
// the queue was empty, looks at any.
const maxWaitersSeen = 10_000

// wantsMore finds somebody who waits for more permits than a limit. Of very many who wait the last ones count as such.
func wantsMore(step statemachine.Step, queue string, t *recipesv1.Tally, limit int64) (key string, permits int64, found bool) {
	if t.Inside == t.Entries || t.Most <= limit {
		return "", 0, false
	}
	seen := 0
	step.ChildrenFrom([]byte(queue), t.Last+1, func(kv *mvccpb.KeyValue) bool {
		e, ok := ParseEntry(queue, kv)
		if !ok {
			return true
		}
		seen++
		if found = !e.Lingers && e.Permits > limit || seen > maxWaitersSeen; found {
			key, permits = e.Key, max(e.Permits, t.Most)
		}
		return !found
	})
	return key, permits, found
}

// Semaphore is what the semaphore is whose queue was read.
func (s *Snapshot) Semaphore() *coordv1.SemaphoreInfo {
	info := &coordv1.SemaphoreInfo{Limit: semaphoreState(s.limit).Limit}
	for e := range s.Inside() {
		info.Held += e.Permits
	}
	for _, e := range s.Waiting() {
		info.Wanted += e.Permits
	}
	return info
}
