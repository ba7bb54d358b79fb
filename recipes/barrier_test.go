package recipes_test

import (
	"fmt"
	"slices"
	"testing"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// TestBarrierNobodyLeavesEnterEarly: nobody is inside before all parties are there, alive, at one index; generations
// are numbered one by one; while one is open nobody is added to it; and it is over in the very commit that removes its
// last party, whatever that was: a crash inside releases the others' leave.
func TestBarrierNobodyLeavesEnterEarly(t *testing.T) {
	var before *recipes.Snapshot
	var index uint64
	crowds(t, coordv1.QueueKind_QUEUE_BARRIER, []string{
		"HOLDS", "WAITS", "released", "released again", "withdrawn", "expired", "ended", "deleted", "crashed",
		"restored", "refused",
		"opened", "left one by one", "over: released", "over: expired", "over: ended", "over: deleted",
		"over: withdrawn", "fewer again",
	}, func(c *crowd) {
		c.acquire(coordv1.Kind_KIND_BARRIER_ENTER, &coordv1.BarrierEnter{
			Name: "a", OwnerId: []string{"", "x"}[c.rng.IntN(2)], Parties: []int64{3, 3, 3, 3, 4}[c.rng.IntN(5)],
		})
	}, func(c *crowd, q *recipes.Snapshot) {
		if c.index < index || before == nil { // another history
			before = &recipes.Snapshot{Queue: c.queue}
		}
		was, is, inside := before.Barrier(), q.Barrier(), keysOf(q.Holders())
		insideBefore := keysOf(before.Holders())
		switch {
		case is.Open && is.Arrived == 0:
			c.broken("it is open and empty: %v", is)
		case !is.Open && len(inside) > 0:
			c.broken("%q are inside: %v", inside, is)
		case is.Generation == was.Generation+1: // opens
			c.seen["opened"]++
			if was.Open || int64(len(inside)) != is.Parties || len(inside) != len(q.Sorted) || !c.allLive(q.Sorted) {
				c.broken("opened with %q, before %v, now %v", inside, was, is)
			}
		case is.Generation != was.Generation:
			c.broken("generation %d after %d", is.Generation, was.Generation)
		case is.Open:
			if !was.Open || slices.ContainsFunc(inside, func(key string) bool {
				return !slices.Contains(insideBefore, key)
			}) {
				c.broken("%q are inside, before %q", inside, insideBefore)
			}
			if len(inside) < len(insideBefore) {
				c.seen["left one by one"]++
			}
		case was.Open:
			c.seen["over: "+c.last]++
		case is.Arrived < was.Arrived:
			c.seen["fewer again"]++
		}
		before, index = q, c.index
	})
}

func (c *crowd) allLive(entries []recipes.Entry) bool {
	return !slices.ContainsFunc(entries, func(e recipes.Entry) bool { _, ok := c.sessions[e.Lease]; return !ok })
}

func (s *stage) enter(session int64, parties int64) (*coordv1.AcquiredEntry, error) {
	resp := &coordv1.Acquired{}
	if err := s.ask(session, coordv1.Kind_KIND_BARRIER_ENTER, &coordv1.BarrierEnter{Name: "a", Parties: parties},
		resp); err != nil {
		return nil, err
	}
	return resp.Entries[0], nil
}

// wantBarrier describes the barrier.
func (s *stage) wantBarrier(want string) {
	s.Helper()
	b := recipes.Read(s, layout.QueueOf(coordv1.QueueKind_QUEUE_BARRIER, "a")).Barrier()
	if got := fmt.Sprintf("%d: %d of %d, open %v", b.Generation, b.Arrived, b.Parties, b.Open); got != want {
		s.Fatalf("barrier is %q, want %q", got, want)
	}
}

// TestBarrierStory: who dies before it opens is not counted; who dies inside is as one that has left.
func TestBarrierStory(t *testing.T) {
	s := newStage(t, 1, 2, 3, 4, 5)
	first, err := s.enter(1, 3)
	if err != nil || first.State != coordv1.AcquiredEntry_WAITS || first.Position != 0 || first.Holder != nil {
		t.Fatalf("%v, %v", first, err)
	}
	second, _ := s.enter(2, 3)
	s.Expire(1)
	s.wantBarrier("0: 1 of 3, open false")
	third, _ := s.enter(3, 3)
	if s.holds(second) || s.holds(third) {
		t.Fatal("two of three are inside")
	}
	s.wantBarrier("0: 2 of 3, open false")
	fourth, _ := s.enter(4, 3)
	if fourth.State != coordv1.AcquiredEntry_HOLDS || !s.holds(second) || !s.holds(third) || !s.holds(fourth) {
		t.Fatalf("not all are inside: %v", fourth)
	}
	s.wantBarrier("1: 3 of 3, open true")
	if again, err := s.enter(4, 3); err != nil || again.State != coordv1.AcquiredEntry_HOLDS ||
		again.Token != fourth.Token {
		t.Fatalf("a repeated enter: %v, %v", again, err)
	}
	_, err = s.enter(5, 3)
	wantRefusal(t, "a fourth party", err, recipes.ErrBarrierFull, "generation 1")
	s.release(2, second)
	s.Expire(3)
	s.wantBarrier("1: 1 of 3, open true")
	s.release(4, fourth)
	s.wantBarrier("1: 0 of 0, open false")
	if e, err := s.enter(5, 1); err != nil || e.State != coordv1.AcquiredEntry_HOLDS {
		t.Fatalf("a barrier of one: %v, %v", e, err)
	}
	s.wantBarrier("2: 1 of 1, open true")
	s.Delete(layout.EntryKey(layout.QueueOf(coordv1.QueueKind_QUEUE_BARRIER, "a"), 5, ""))
	s.wantBarrier("2: 0 of 0, open false")
}

// TestBarrierOverdueSession: a session whose time is over, but which no tick has expired yet, is no party that is
// alive.
func TestBarrierOverdueSession(t *testing.T) {
	s := newStage(t, 1, 2, 3)
	dead, _ := s.enter(1, 2)
	s.Leases[1] = false
	e, err := s.enter(2, 2)
	if err != nil || e.State != coordv1.AcquiredEntry_WAITS || s.holds(dead) {
		t.Fatalf("a dead party counts: %v, %v", e, err)
	}
	if e, err = s.enter(3, 2); err != nil || e.State != coordv1.AcquiredEntry_HOLDS || s.Get([]byte(dead.Key)) != nil {
		t.Fatalf("two are alive: %v, %v", e, err)
	}
	s.wantBarrier("1: 2 of 2, open true")
}

func TestBarrierBadInput(t *testing.T) {
	s := newStage(t, 1, 2)
	enter := func(session, parties int64) error { _, err := s.enter(session, parties); return err }
	rev := s.Rev
	wantRefusal(t, "no parties", enter(1, 0), statemachine.ErrInvalid, "0 parties")
	wantRefusal(t, "too many parties", enter(1, recipes.MaxParties+1), statemachine.ErrInvalid, "100001 parties")
	if s.Rev != rev {
		t.Fatalf("refusals wrote: revision %d after %d", s.Rev, rev)
	}
	must(t, enter(1, 2))
	wantRefusal(t, "another number of parties", enter(2, 3), recipes.ErrPartiesMismatch,
		"3, and those who are there wait for 2")
	wantRefusal(t, "another number of its own", enter(1, 3), recipes.ErrPartiesMismatch, "wait for 2")
	s.wantBarrier("0: 1 of 2, open false")
}

// TestBarrierStateDeletedByHand: others can still come to who waits, and who is inside is so still.
func TestBarrierStateDeletedByHand(t *testing.T) {
	s := newStage(t, 1, 2)
	state := layout.QueueOf(coordv1.QueueKind_QUEUE_BARRIER, "a") + "/state"
	first, _ := s.enter(1, 2)
	s.Delete(state)
	second, err := s.enter(2, 2)
	if err != nil || second.State != coordv1.AcquiredEntry_HOLDS {
		t.Fatalf("the second of two: %v, %v", second, err)
	}
	s.Delete(state, first.Key)
	if !s.holds(second) {
		t.Fatal("who is inside does not hold any more")
	}
	s.wantBarrier("1: 1 of 2, open true")
	s.release(2, second)
	s.wantBarrier("1: 0 of 0, open false")
}
