package machine_test

import (
	"fmt"
	"testing"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

func TestViewKnowsLeasesAndSessions(t *testing.T) {
	d := newDriver(t)
	for _, id := range []int64{5, -3, 9} {
		d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: id, TtlMs: 1000 + id}))
	}
	for _, id := range []int64{7, 2} {
		d.do(command(raftv1.KindSessionOpen, &raftv1.SessionOpen{
			Id: id, TtlMs: 1000 + id, Stream: 1, Identity: fmt.Appendf(nil, "i%d", id),
		}))
	}
	before, err := d.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	d.do(command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 7})) // no view that was taken before sees it

	list := func(after statemachine.LeaseID, sessions bool) (out string) {
		err := before.Leases(after, sessions, func(l statemachine.LeaseRow) bool {
			out += fmt.Sprintf(" %d/%d/%s/%v", l.ID, l.TTL, l.Identity, l.Created > 0)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, c := range []struct {
		after    statemachine.LeaseID
		sessions bool
		want     string
	}{
		{0, false, " 2/1002/i2/true 5/1005//false 7/1007/i7/true 9/1009//false -3/997//false"},
		{7, false, " 9/1009//false -3/997//false"},
		{-3, false, ""},
		{-1, false, ""},
		{0, true, " 2/1002/i2/true 7/1007/i7/true"},
		{2, true, " 7/1007/i7/true"},
	} {
		if got := list(c.after, c.sessions); got != c.want {
			t.Errorf("after %d, sessions %v:%s, want%s", c.after, c.sessions, got, c.want)
		}
	}
	if _, ok, err := before.Lease(6); ok || err != nil {
		t.Errorf("a lease that does not exist: %v, %v", ok, err)
	}
	after, err := d.m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if _, ok, err := after.Lease(7); ok || err != nil {
		t.Errorf("a session that ended: %v, %v", ok, err)
	}
}
