package recipes_test

import (
	"slices"
	"strings"
	"testing"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// TestSemaphoreNeverMoreThanLimit: the permits that are held never exceed the limit at any index; who was granted holds
// until its entry is gone, whatever the limit becomes (resize never revokes silently); who waits is granted in order
// and in the very commit that makes room.
func TestSemaphoreNeverMoreThanLimit(t *testing.T) {
	var inside grants
	var index uint64
	var held int64
	crowds(t, coordv1.QueueKind_QUEUE_SEMAPHORE, []string{
		"HOLDS", "WAITS", "NONE", "released", "released again", "withdrawn", "expired", "ended", "deleted", "crashed",
		"restored",
		"resized", "resize refused", "drained", "above the limit", "kept",
	}, (*crowd).useSemaphore, func(c *crowd, q *recipes.Snapshot) {
		if c.index < index { // another history
			inside, held = nil, 0
		}
		index = c.index
		info := q.Semaphore()
		inside.step(q, func(inside []recipes.Entry, next recipes.Entry) bool {
			return sum(inside)+next.Permits <= info.Limit
		})
		c.compare(inside, q)
		if info.Held != sum(inside) {
			c.broken("%d held, want %d", info.Held, sum(inside))
		}
		switch {
		case info.Held > info.Limit && info.Held > held:
			c.broken("%d of %d permits are held, and before %d", info.Held, info.Limit, held)
		case info.Held > info.Limit:
			c.seen["above the limit"]++
		}
		if _, kept := q.Lingering(); kept {
			c.seen["kept"]++
		}
		held = info.Held
	})
}

func sum(entries []recipes.Entry) (permits int64) {
	for _, e := range entries {
		permits += e.Permits
	}
	return permits
}

// useSemaphore acquires or resizes.
func (c *crowd) useSemaphore() {
	if c.rng.IntN(4) > 0 {
		c.acquire(coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, &coordv1.SemaphoreAcquire{
			Name: "a", OwnerId: []string{"", "x"}[c.rng.IntN(2)], Permits: 1 + c.rng.Int64N(3), Limit: 4,
			Try:      c.rng.IntN(4) == 0,
			LingerMs: 1500 * (c.rng.Int64N(3) / 2),
		})
		return
	}
	before := c.snapshot()
	info := before.Semaphore()
	req := &coordv1.SemaphoreResize{Name: "a", Limit: 1 + c.rng.Int64N(7), Drain: c.rng.IntN(2) == 0}
	resp := &coordv1.SemaphoreResized{}
	_, refusal := c.ask(c.someone(), coordv1.Kind_KIND_SEMAPHORE_RESIZE, req, resp)
	refused := info.Held > req.Limit && !req.Drain ||
		slices.ContainsFunc(before.Waiting(), func(e recipes.Entry) bool { return e.Permits > req.Limit })
	switch {
	case (refusal != "") != refused:
		c.broken("%v with %v: %q", req, info, refusal)
	case refused:
		c.did("resize refused", "%v", req)
	case info.Held > req.Limit:
		c.did("drained", "%v", req)
	default:
		c.did("resized", "%v", req)
	}
}

// TestSemaphoreDeadSessionReturnsOnce: the permits of a session that ends come back in that commit, and a release that
// comes afterwards returns nothing again.
func TestSemaphoreDeadSessionReturnsOnce(t *testing.T) {
	s := newStage(t, 1, 2, 3)
	a := s.permits(1, 3, 4)
	b := s.permits(2, 2, 0)
	c := s.permits(3, 3, 0)
	s.wantPermits(3, a)
	s.Revoke(1)
	s.wantPermits(2, b)
	if n, err := s.release(2, a); n != 0 || err != nil {
		t.Errorf("release of what a dead session held: %d, %v", n, err)
	}
	s.wantPermits(2, b)
	if n, err := s.release(2, b); n != 1 || err != nil {
		t.Errorf("release: %d, %v", n, err)
	}
	if n, err := s.release(2, b); n != 0 || err != nil {
		t.Errorf("repeated release: %d, %v", n, err)
	}
	s.wantPermits(3, c)
}

// permits acquires.
func (s *stage) permits(session, permits, limit int64) *coordv1.AcquiredEntry {
	s.Helper()
	resp := &coordv1.Acquired{}
	must(s.T, s.ask(session, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE,
		&coordv1.SemaphoreAcquire{Name: "a", Permits: permits, Limit: limit}, resp))
	return resp.Entries[0]
}

func (s *stage) resize(limit int64, drain bool) (*coordv1.SemaphoreResized, error) {
	resp := &coordv1.SemaphoreResized{}
	return resp, s.ask(1, coordv1.Kind_KIND_SEMAPHORE_RESIZE,
		&coordv1.SemaphoreResize{Name: "a", Limit: limit, Drain: drain}, resp)
}

// wantPermits fails unless so many are held, by these grants and no others.
func (s *stage) wantPermits(held int64, by ...*coordv1.AcquiredEntry) {
	s.Helper()
	q := recipes.Read(s, layout.QueueOf(coordv1.QueueKind_QUEUE_SEMAPHORE, "a"))
	if got := q.Semaphore().Held; got != held || len(q.Holders()) != len(by) {
		s.Fatalf("%d permits held by %+v, want %d by %v", got, q.Holders(), held, by)
	}
	for _, e := range by {
		if !s.holds(e) {
			s.Fatalf("%v does not hold", e)
		}
	}
}

// TestSemaphoreStory: small requests wait behind a big one; growing grants at once; draining keeps who holds and lets
// nobody in until it fits.
func TestSemaphoreStory(t *testing.T) {
	s := newStage(t, 1, 2, 3, 4)
	a := s.permits(1, 3, 4)
	b := s.permits(2, 2, 9) // what it says of the limit does not count
	c := s.permits(3, 1, 0)
	if a.State != coordv1.AcquiredEntry_HOLDS || b.State != coordv1.AcquiredEntry_WAITS || b.Position != 1 ||
		b.Holder.GetPermits() != 3 || c.Position != 2 {
		t.Fatalf("%v; %v; %v", a, b, c)
	}
	s.wantPermits(3, a)
	if r, err := s.resize(5, false); err != nil || r.Before != 4 || r.Held != 5 || r.Revision != s.Rev {
		t.Fatalf("resize: %v, %v", r, err)
	}
	s.wantPermits(5, a, b)
	if _, err := s.resize(4, false); err == nil || !strings.Contains(err.Error(), "limit 4, and 5 are held") {
		t.Fatalf("resize below what is held: %v", err)
	}
	if r, err := s.resize(2, true); err != nil || r.Held != 5 {
		t.Fatalf("drain: %v, %v", r, err)
	}
	s.wantPermits(5, a, b)
	s.release(1, a)
	s.wantPermits(2, b) // c waits
	s.release(2, b)
	s.wantPermits(1, c)
	if r, err := s.resize(2, false); err != nil || r.Revision != s.Rev || r.Before != 2 {
		t.Fatalf("resize to what it is: %v, %v", r, err)
	}
}

// TestSemaphoreTry: a try that does not hold at once leaves nothing, also not a limit.
func TestSemaphoreTry(t *testing.T) {
	s := newStage(t, 1, 2)
	try := func(session, permits int64) *coordv1.AcquiredEntry {
		resp := &coordv1.Acquired{}
		req := &coordv1.SemaphoreAcquire{Name: "a", Permits: permits, Limit: 2, Try: true}
		must(t, s.ask(session, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, req, resp))
		return resp.Entries[0]
	}
	a := try(1, 2)
	rev := s.Rev
	if b := try(2, 1); b.State != coordv1.AcquiredEntry_NONE || b.Holder.GetKey() != a.Key || s.Rev != rev {
		t.Errorf("try: %v at %d, before %d", b, s.Rev, rev)
	}
	s.wantPermits(2, a)
}

func TestSemaphoreBadInput(t *testing.T) {
	s := newStage(t, 1, 2)
	acquire := func(session, permits, limit int64) error {
		req := &coordv1.SemaphoreAcquire{Name: "a", Permits: permits, Limit: limit}
		return s.ask(session, coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, req, &coordv1.Acquired{})
	}
	resize := func(limit int64) error { _, err := s.resize(limit, true); return err }
	rev := s.Rev
	wantRefusal(t, "no limit", acquire(1, 1, 0), recipes.ErrNotSet, `"a" has no limit`)
	wantRefusal(t, "no permits", acquire(1, 0, 3), statemachine.ErrInvalid, "0 permits")
	wantRefusal(t, "negative permits", acquire(1, -1, 3), statemachine.ErrInvalid, "-1 permits")
	wantRefusal(t, "negative limit", acquire(1, 1, -3), statemachine.ErrInvalid, "limit -3")
	wantRefusal(t, "more than the limit", acquire(1, 4, 3), recipes.ErrTooManyPermits, "4 of 3")
	wantRefusal(t, "resize to nothing", resize(0), statemachine.ErrInvalid, "limit 0")
	wantRefusal(t, "resize to too much", resize(recipes.MaxPermits+1), statemachine.ErrInvalid, "limit 1000000001")
	if s.Rev != rev {
		t.Fatalf("refusals wrote: revision %d after %d", s.Rev, rev)
	}
	s.permits(1, 2, 3)
	wantRefusal(t, "other permits of the same owner", acquire(1, 1, 0), recipes.ErrKeyTaken, "has 2 permits")
	s.permits(2, 3, 0)
	wantRefusal(t, "less than somebody waits for", resize(2), recipes.ErrLimitBelowHeld, "waits for 3")
}

// TestCountsHeal: somebody deletes the count, or all there is; who acquires then is not mistaken about who holds.
func TestCountsHeal(t *testing.T) {
	s := newStage(t, 1, 2, 3)
	a := s.permits(1, 2, 2)
	queue := layout.QueueOf(coordv1.QueueKind_QUEUE_SEMAPHORE, "a")
	s.Delete(queue + "/tally")
	if b := s.permits(2, 1, 0); b.State != coordv1.AcquiredEntry_WAITS {
		t.Errorf("two hold three of two: %v", b)
	}
	s.wantPermits(2, a)
	s.Delete(a.Key, queue+"/tally", layout.EntryKey(queue, 2, ""))
	c := s.permits(3, 2, 0)
	s.wantPermits(2, c)
	must(t, s.Put(c.Key, "by hand", 0))
	s.Delete(c.Key)
	c = s.permits(3, 2, 0)
	s.wantPermits(2, c)
	s.release(3, c)
	if s.Get([]byte(queue+"/tally")) != nil {
		t.Error("there is a count of no entries")
	}
}

// TestSemaphoreLimitDeletedByHand: who holds holds, and who waits waits for as many as before. With the last entry the
// limit can go.
func TestSemaphoreLimitDeletedByHand(t *testing.T) {
	s := newStage(t, 1, 2, 3)
	limit := layout.QueueOf(coordv1.QueueKind_QUEUE_SEMAPHORE, "a") + "/limit"
	a, b := s.permits(1, 2, 2), s.permits(2, 1, 2)
	s.Delete(limit)
	s.wantPermits(2, a)
	s.release(1, a)
	s.wantPermits(1, b)
	s.Delete(limit, b.Key)
	if s.Get([]byte(limit)) != nil {
		t.Fatal("a limit of nobody was put again")
	}
}
