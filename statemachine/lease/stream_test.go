package lease

import (
	"slices"
	"testing"
)

// scene is a table to which things happen, one log index after the other.
type scene struct {
	t     *testing.T
	table *Table
	index uint64
}

func (s *scene) grant(id ID, ttl int64, stream uint64) {
	s.t.Helper()
	s.index++
	_, granted := s.table.Grant(id, ttl, s.index, "")
	if !granted {
		s.t.Fatalf("lease %d was not granted", id)
	}
	if stream != 0 {
		s.attach(id, stream)
	}
}

func (s *scene) attach(id ID, stream uint64) {
	s.t.Helper()
	s.index++
	if _, ok := s.table.Attach(id, stream, s.index); !ok {
		s.t.Fatalf("lease %d was not attached", id)
	}
}

func (s *scene) renew(stream uint64) []Lease {
	s.index++
	left, _ := s.table.RenewStream(stream, s.index)
	return left
}

// tick lets time pass; its proposer has seen all before.
func (s *scene) tick(delta int64) {
	seen := s.index
	s.index++
	_, last := s.table.Clock()
	s.table.Tick(last+1, delta, seen)
}

func (s *scene) wantDue(want ...ID) {
	s.t.Helper()
	if got := s.table.Due(10); !slices.Equal(got, want) {
		s.t.Errorf("due are %v, want %v", got, want)
	}
}

// A lease of a small TTL that joins a stream becomes due by its own time, though the others of the stream are far from
// it, and those stay due by theirs.
func TestDueOfAStreamWhereASmallTTLJoined(t *testing.T) {
	s := &scene{t: t, table: NewTable(nil)}
	s.grant(1, 100, 9)
	s.tick(0)
	s.renew(9)
	s.tick(10) // R = 10: lease 1 lasts until 110
	s.grant(2, 5, 9)
	s.tick(40) // lease 2 lasts until 55
	s.tick(10)
	s.wantDue(2)
	s.table.Remove(2)
	s.tick(49)
	s.wantDue()
	s.tick(1)
	s.wantDue(1)
}

// S4: a renewal revives nobody, neither who joined late nor who was renewed with the stream before; they leave it with
// the deadline that they had there, and are deleted in its order.
func TestS4OverdueLeasesLeaveTheStreamFirst(t *testing.T) {
	s := &scene{t: t, table: NewTable(nil)}
	s.grant(1, 100, 9)
	s.grant(2, 60, 9)
	s.grant(4, 67, 0)
	s.tick(0)
	s.renew(9)
	s.tick(10) // R = 10: leases 1 and 2 last until 110 and 70
	s.grant(3, 5, 9)
	s.tick(0)  // until 15
	s.tick(55) // 65
	if left := s.renew(9); len(left) != 1 || left[0].ID != 3 || left[0].Deadline != 15 || left[0].Stream != 0 {
		t.Errorf("left: %+v", left)
	}
	s.wantDue(3)
	s.tick(0) // R = 65: leases 1 and 2 last until 165 and 125
	s.tick(60)
	if left := s.renew(9); len(left) != 1 || left[0].ID != 2 || left[0].Deadline != 125 {
		t.Errorf("left: %+v", left)
	}
	s.wantDue(3, 4, 2)
	s.tick(1000) // settles the renewal of lease 1 alone
	s.wantDue(3, 4, 2)
	s.tick(100)
	s.wantDue(3, 4, 2, 1)
}

// Ties are in the order of the ids, whether the leases are attached to streams or not.
func TestTiesOfStreamsAreByID(t *testing.T) {
	s := &scene{t: t, table: NewTable(nil)}
	for _, id := range []ID{3, -5, 1} {
		s.grant(id, 10, 9)
	}
	for _, id := range []ID{2, -3, 4} {
		s.grant(id, 10, 0)
	}
	s.renew(9)
	s.tick(0)
	s.tick(10)
	s.wantDue(-5, -3, 1, 2, 3, 4)
}

// However many leases a stream has and however often it is renewed, a renewal costs one entry at most.
func TestRenewalOfAStreamDoesNotListItsLeases(t *testing.T) {
	s := &scene{t: t, table: NewTable(nil)}
	const leases = 5000
	for id := range ID(leases) {
		s.grant(id+1, 1000, 9)
	}
	s.tick(0)
	for n := range 1000 {
		s.renew(9)
		s.tick(300)
		s.wantDue()
		if len(s.table.due) > leases+n+1 {
			t.Fatalf("%d entries after %d renewals", len(s.table.due), n+1)
		}
		if n > 10 && len(s.table.due) > leases/2 {
			t.Fatalf("%d entries: the deadlines of the beginning are still there", len(s.table.due))
		}
	}
}
