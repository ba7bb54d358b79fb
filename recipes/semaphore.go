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

// KindSemaphore is what Attachment.Kind says of an entry.
const KindSemaphore = uint64(coordv1.QueueKind_QUEUE_SEMAPHORE)

// MaxPermits bounds the permits of one entry, and the limit.
const MaxPermits = 1e9

// Names of the procedures of semaphores.
const (
	SemaphoreAcquire = "semaphore-acquire.v1" // coordv1.SemaphoreAcquire, Acquired
	Resize           = "semaphore-resize.v1"  // coordv1.SemaphoreResize, SemaphoreResized
)

func semaphoreProcedures() []statemachine.Procedure {
	return []statemachine.Procedure{
		growing(requested(SemaphoreAcquire, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, semaphoreAcquire)),
		requested(Resize, coordv1.Kind_KIND_SEMAPHORE_RESIZE, semaphoreResize),
	}
}

// Refusals of semaphores.
var (
	// ErrTooManyPermits: more permits than the semaphore has in all.
	ErrTooManyPermits error = &refusal{
		reason: coordv1.Error_REASON_TOO_MANY_PERMITS, text: "more permits than the semaphore has",
	}
	// ErrLimitBelowHeld: a semaphore would have fewer permits than are held, or than somebody waits for.
	ErrLimitBelowHeld error = &refusal{
		reason: coordv1.Error_REASON_LIMIT_BELOW_HELD, text: "fewer permits than are held or waited for",
	}
)

// The semaphore; see service Semaphore for what it promises. A key beside its record says how many permits there are:
// recipesv1.SemaphoreState. An entry is let in when it and all before it fit into the limit. When that is lowered below
// what is held, it keeps the token of the last holder, up to which entries hold whatever the limit: so nothing is
// revoked, and who holds can be counted anew from the keys.

// byPermits is the rule of semaphores.
var byPermits = counted{
	inOrder: byCounts,
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
	a, err := newAcquisition(step, KindSemaphore, req, req.Try, req.LingerMs)
	if err != nil {
		return nil, err
	}
	a.entry.Permits, a.limit = req.Permits, req.Limit
	return a.acquired(step, enterSemaphore)
}

// enterSemaphore makes an entry. ErrNotSet, ErrTooManyPermits; ErrKeyTaken if there is one with other permits.
func enterSemaphore(step statemachine.Step, a *acquisition) (*ownersEntry, bool, error) {
	if n := a.entry.Permits; a.resumes == 0 && (n < 1 || n > MaxPermits) {
		return nil, false, invalid("%d permits, not between 1 and %d", n, int64(MaxPermits))
	}
	if a.limit < 0 || a.limit > MaxPermits {
		return nil, false, invalid("limit %d is not between 0 and %d", a.limit, int64(MaxPermits))
	}
	record := []byte(byPermits.limitKey(a.queue))
	state, ok := readLimit(step.Get(record))
	if !ok {
		return nil, false, statemachine.NewQueueBroken(a.queue, fmt.Errorf("what stands at %q is no limit: resize the "+
			"semaphore", record))
	}
	unset := state.Limit == 0
	if unset {
		state.Limit = a.limit
	}
	if state.Limit == 0 && a.resumes == 0 {
		return nil, false, refuse(ErrNotSet, "semaphore %q has no limit", layout.NameOf(a.queue))
	}
	admits := func(t *recipesv1.Tally, e Entry) bool {
		left := &permitRoom{state: state, held: t.InsidePermits}
		return t.Inside == t.Entries && left.admits(e)
	}
	own, err := findByCounts(step, a.queue, admits, a.entry)
	switch {
	case err != nil:
		return nil, false, err
	case own.exists && a.resumes == 0 && own.entry.Permits != a.entry.Permits:
		return nil, false, refuse(ErrKeyTaken, "%q has %d permits", own.key, own.entry.Permits)
	case !own.exists && a.entry.Permits > state.Limit:
		return nil, false, refuse(ErrTooManyPermits, "%d of %d", a.entry.Permits, state.Limit)
	}
	if unset && a.limit != 0 && (own.holds || !a.try) {
		if _, err := step.Put(record, encode(state), 0); err != nil {
			return nil, false, err
		}
	}
	made, err := a.take(step, own)
	return own, made, err
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
	counts, err := countsOf(step, queue)
	if err != nil {
		return nil, err
	}
	record := []byte(byPermits.limitKey(queue))
	before := semaphoreState(step.Get(record))
	if key, permits, ok := wantsMore(step, queue, counts, req.Limit); ok {
		return nil, refuse(ErrLimitBelowHeld, "limit %d, and %q waits for %d", req.Limit, key, permits)
	}
	if counts.InsidePermits > req.Limit && !req.Drain {
		return nil, refuse(ErrLimitBelowHeld, "limit %d, and %d are held", req.Limit, counts.InsidePermits)
	}
	next := &recipesv1.SemaphoreState{Limit: req.Limit}
	if counts.InsidePermits > req.Limit {
		next.Keep = counts.Last
	}
	resp := &coordv1.SemaphoreResized{Before: before.Limit, Held: counts.InsidePermits, Revision: step.Revision()}
	if proto.Equal(before, next) {
		return resp, nil
	}
	rev, err := step.Put(record, encode(next), 0)
	if err != nil {
		return nil, err
	}
	byPermits.letIn(step, queue, counts, step.Get(record))
	if resp.Held != counts.InsidePermits {
		if err := putCounts(step, queue, counts); err != nil {
			return nil, err
		}
	}
	resp.Held, resp.Revision = counts.InsidePermits, rev
	return resp, nil
}

// maxWaitersSeen is how many who wait a resize looks at. Only one that lowers the limit below what somebody wants, or
// wanted since the queue was empty, looks at any.
const maxWaitersSeen = 10_000

// wantsMore finds somebody who waits for more permits than a limit. Of very many who wait the last ones count as such.
func wantsMore(
	step statemachine.Step, queue string, t *recipesv1.Tally, limit int64,
) (key string, permits int64, found bool) {
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

// Semaphore is what the semaphore is whose queue was read, nil where it is another kind's.
func (s *Snapshot) Semaphore() *coordv1.SemaphoreInfo {
	if layout.KindOf(s.Queue) != coordv1.QueueKind_QUEUE_SEMAPHORE {
		return nil
	}
	info := &coordv1.SemaphoreInfo{Limit: semaphoreState(s.limit).Limit}
	for e := range s.Inside() {
		info.Held += e.Permits
	}
	for _, e := range s.Waiting() {
		info.Wanted += e.Permits
	}
	return info
}

// wantsPermits says whether what an entry wants can be had of any semaphore.
func wantsPermits(m *recipesv1.Member) bool { return m.Permits >= 1 && m.Permits <= MaxPermits }

// semaphoreRemains is the key of the limit, which stays when nobody holds or waits.
func semaphoreRemains(step statemachine.Step, name string) (string, error) {
	queue := layout.QueueOf(coordv1.QueueKind_QUEUE_SEMAPHORE, name)
	if anybody(step, queue) {
		return "", refuse(ErrLimitBelowHeld, "semaphore %q is in use", name)
	}
	return byPermits.limitKey(queue), nil
}
