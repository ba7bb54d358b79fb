package recipes_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// useRWLock acquires or downgrades.
func (c *crowd) useRWLock() {
	if c.rng.IntN(5) > 0 {
		c.acquire(coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{
			Name: "a", OwnerId: []string{"", "x"}[c.rng.IntN(2)], Write: c.rng.IntN(3) == 0, Try: c.rng.IntN(4) == 0,
			LingerMs: 1500 * (c.rng.Int64N(3) / 2),
		})
		return
	}
	q := c.snapshot()
	if len(q.Sorted) == 0 {
		return
	}
	e := q.Sorted[c.rng.IntN(min(len(q.Sorted), 2))]
	_, holds := q.Granted(e.Key)
	resp := &coordv1.RWDowngraded{}
	req := &coordv1.RWDowngrade{Entry: &coordv1.Guard{Name: "a", Key: e.Key, Token: e.Token}}
	_, refusal := c.ask(c.someone(), coordv1.Kind_KIND_RW_DOWNGRADE, req, resp)
	if (refusal == "") != holds || resp.Downgraded != (holds && e.Write) {
		c.broken("downgrade of %+v: %v, %q", e, resp, refusal)
	}
	if resp.Downgraded {
		c.did("downgraded", "%s", e.Key)
		if now, ok := c.snapshot().Granted(e.Key); !ok || now.Token != e.Token || now.Write {
			c.broken("downgraded %+v to %+v, holds: %v", e, now, ok)
		}
	}
}

// rwEvents is what histories must have reached.
var rwEvents = []string{
	"HOLDS", "WAITS", "NONE", "released", "released again", "withdrawn", "expired", "ended", "deleted", "crashed",
	"restored",
	"downgraded", "readers together", "kept", "refused",
}

// TestRWLockExclusion: at every index a writer holds alone, or readers do; who was granted holds until its entry is
// gone, and who is next does in the very commit that makes room.
func TestRWLockExclusion(t *testing.T) {
	var inside grants
	var index uint64
	crowds(t, coordv1.QueueKind_QUEUE_RWLOCK, rwEvents, (*crowd).useRWLock, func(c *crowd, q *recipes.Snapshot) {
		if c.index < index { // another history
			inside = nil
		}
		index = c.index
		inside.step(q, func(inside []recipes.Entry, next recipes.Entry) bool {
			writes := slices.ContainsFunc(inside, func(e recipes.Entry) bool { return e.Write })
			return len(inside) == 0 || !writes && !next.Write
		})
		c.compare(inside, q)
		holders := q.Holders()
		if len(holders) > 1 && slices.ContainsFunc(holders, func(e recipes.Entry) bool { return e.Write }) {
			c.broken("a writer does not hold alone: %+v", holders)
		}
		if len(holders) > 1 {
			c.seen["readers together"]++
		}
		if _, kept := q.Lingering(); kept {
			c.seen["kept"]++
		}
	})
}

// TestRWLockNoStarvation: at no index does anybody hold who came after somebody who waits: neither readers pass a
// waiting writer, nor the other way round (bypass 0).
func TestRWLockNoStarvation(t *testing.T) {
	crowds(t, coordv1.QueueKind_QUEUE_RWLOCK, rwEvents[:2], (*crowd).useRWLock, func(c *crowd, q *recipes.Snapshot) {
		waiting := q.Waiting()
		if len(waiting) == 0 {
			return
		}
		for _, h := range q.Holders() {
			if h.Token > waiting[0].Token {
				c.broken("%+v passed %+v", h, waiting[0])
			}
		}
	})
}

func (s *stage) rw(session int64, write bool) *coordv1.AcquiredEntry {
	s.Helper()
	e, err := s.tryRW(session, write, false)
	must(s.T, err)
	return e
}

func (s *stage) tryRW(session int64, write, try bool) (*coordv1.AcquiredEntry, error) {
	resp := &coordv1.Acquired{}
	if err := s.ask(session, coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "a", Write: write, Try: try},
		resp); err != nil {
		return nil, err
	}
	return resp.Entries[0], nil
}

func (s *stage) downgrade(session int64, e *coordv1.AcquiredEntry) error {
	return s.ask(session, coordv1.Kind_KIND_RW_DOWNGRADE, &coordv1.RWDowngrade{Entry: guard(e)},
		&coordv1.RWDowngraded{})
}

// TestRWLockStory: readers share; a writer waits for all of them, and later readers for it; downgrading lets those in
// that come before the next writer.
func TestRWLockStory(t *testing.T) {
	s := newStage(t, 1, 2, 3, 4, 5)
	r1, r2 := s.rw(1, false), s.rw(2, false)
	w3, r4, w5 := s.rw(3, true), s.rw(4, false), s.rw(5, true)
	s.wantHold(r1, r2)
	if w3.Position != 2 || !strings.HasSuffix(w3.Holder.GetKey(), "/2") || r4.Position != 3 {
		t.Errorf("%v; %v", w3, r4)
	}
	s.release(1, r1)
	s.wantHold(r2)
	if e, err := s.tryRW(1, false, true); err != nil || e.State != coordv1.AcquiredEntry_NONE {
		t.Errorf("a try of a reader behind a writer: %v, %v", e, err)
	}
	s.Delete(r2.Key)
	s.wantHold(w3)
	must(t, s.downgrade(3, w3))
	s.wantHold(w3, r4)
	must(t, s.downgrade(3, w3)) // again
	s.Revoke(3)
	s.wantHold(r4)
	s.release(4, r4)
	s.wantHold(w5)
}

// wantHold fails unless these and no others hold.
func (s *stage) wantHold(want ...*coordv1.AcquiredEntry) {
	s.Helper()
	q := recipes.Read(s, layout.QueueOf(coordv1.QueueKind_QUEUE_RWLOCK, "a"))
	if got := q.Holders(); len(got) != len(want) {
		s.Fatalf("%+v hold, want %v", got, want)
	}
	for _, e := range want {
		if !s.holds(e) {
			s.Fatalf("%v does not hold", e)
		}
	}
}

// TestRWLockLinger: the place of a dead reader keeps writers out and lets readers in; that of a writer keeps out
// everybody.
func TestRWLockLinger(t *testing.T) {
	for _, write := range []bool{false, true} {
		s := newStage(t, 1, 2, 3)
		must(t, s.ask(1, coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "a", Write: write, LingerMs: 1000},
			&coordv1.Acquired{}))
		s.Expire(1)
		r := s.rw(2, false)
		w := s.rw(3, true)
		if write {
			s.wantHold()
		} else {
			s.wantHold(r)
		}
		for lease := range s.Leases {
			if statemachine.Lingers(lease) {
				s.Expire(lease)
			}
		}
		s.wantHold(r)
		s.release(2, r)
		s.wantHold(w)
	}
}

func TestRWLockBadInput(t *testing.T) {
	s := newStage(t, 1, 2, 3)
	r := s.rw(1, false)
	_, err := s.tryRW(1, true, false)
	wantRefusal(t, "upgrade", err, recipes.ErrUpgrade, r.Key)
	w := s.rw(2, true)
	_, err = s.tryRW(2, false, false)
	wantRefusal(t, "read as who wants to write", err, recipes.ErrKeyTaken, "is a writer's")
	wantRefusal(t, "downgrade of who waits", s.downgrade(2, w), recipes.ErrNotHolder, w.Key)
	gone := &coordv1.AcquiredEntry{Name: "a", Key: r.Key, Token: r.Token - 1}
	wantRefusal(t, "downgrade by another token", s.downgrade(1, gone), recipes.ErrNotHolder, r.Key)
	lock := s.lock(3, "a")[0]
	wantRefusal(t, "downgrade of a lock", s.downgrade(3, lock), statemachine.ErrInvalid, "not one of a read-write lock")
	wantRefusal(t, "no entry", s.ask(1, coordv1.Kind_KIND_RW_DOWNGRADE, &coordv1.RWDowngrade{},
		&coordv1.RWDowngraded{}), statemachine.ErrInvalid, "name is empty")
	if !s.holds(r) || !s.holds(lock) {
		t.Error("others noticed")
	}
	err = s.ask(2, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", To: w.Key}, &coordv1.Transferred{})
	if !errors.Is(err, recipes.ErrWrongKind) {
		t.Errorf("transfer of a read-write lock: %v", err)
	}
	err = s.ask(1, coordv1.Kind_KIND_PROCLAIM, &coordv1.Proclaim{Entry: guard(r), Value: []byte("x")},
		&coordv1.Proclaimed{})
	if !errors.Is(err, recipes.ErrWrongKind) {
		t.Errorf("proclamation in a read-write lock: %v", err)
	}
}

// TestForceReleaseOfSeveral: where several hold, the token says which one goes.
func TestForceReleaseOfSeveral(t *testing.T) {
	s := newStage(t, 1, 2, 3)
	r1, r2, w := s.rw(1, false), s.rw(2, false), s.rw(3, true)
	force := func(token int64) error {
		req := &coordv1.ForceReleaseRequest{
			Name: "a", Kind: coordv1.QueueKind_QUEUE_RWLOCK, Token: token, Reason: "because",
		}
		return call(t, s.Store, recipes.ForceRelease, req, &coordv1.ForceReleaseResponse{})
	}
	wantRefusal(t, "no token", force(0), statemachine.ErrInvalid, "2 hold")
	wantRefusal(t, "a waiter's token", force(w.Token), recipes.ErrNotHolder, "a")
	must(t, force(r2.Token))
	s.wantHold(r1)
	must(t, force(0))
	s.wantHold(w)
}
