package machine_test

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// rowsOf counts the rows of a space.
func (d *driver) rowsOf(space byte) int {
	n := 0
	for k := range backupRows(d.t, d.m) {
		if k[0] == space {
			n++
		}
	}
	return n
}

// remaining is how long a lease has left on the lease clock, -1 if it is pending, 0 if it is due or there is none.
func (d *driver) remaining(id int64) int64 {
	l, _, ok := d.m.Lease(id)
	switch {
	case !ok:
		return 0
	case l.Pending:
		return -1
	}
	return max(l.DeadlineMS-d.m.LeaseClockMS(), 0)
}

// One row renews all sessions of a stream, and a tick that has seen it gives each its own full TTL.
func TestStreamRenewalRenewsAllItsSessionsByOneRow(t *testing.T) {
	d := newDriver(t)
	const sessions = 50
	for id := range int64(sessions) {
		d.openSession(id+1, 1000+id, 9)
	}
	d.openSession(100, 1000, 8)
	d.tick(0)
	d.tick(900)
	before := backupRows(t, d.m)
	d.renewStream(9)
	changed := 0
	for k, v := range backupRows(t, d.m) {
		if k[0] != mvcc.SpaceMeta && k[0] != mvcc.SpaceExecuted && before[k] != v {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("the renewal wrote %d rows", changed)
	}
	if got := [...]int64{d.remaining(1), d.remaining(100)}; got != [...]int64{-1, 100} {
		t.Errorf("remaining %v while the renewal is pending", got)
	}
	d.tickSeen(50, d.index-1) // has not seen it
	if got := d.remaining(1); got != -1 {
		t.Errorf("remaining %d after a tick that had not seen the renewal", got)
	}
	d.tick(0)
	d.reopen()
	if got := [...]int64{d.remaining(1), d.remaining(sessions), d.remaining(100)}; got != [...]int64{1000, 1000 +
		sessions - 1, 50} {
		t.Errorf("remaining %v", got)
	}
	d.tick(1000)
	if d.remaining(1) != 0 || d.remaining(2) != 1 || d.remaining(100) != 0 {
		t.Errorf("remaining %d %d %d", d.remaining(1), d.remaining(2), d.remaining(100))
	}
}

// S4: a session that is overdue is dead, and no renewal of its stream brings it back, though nothing has deleted it
// yet.
func TestS4StreamRenewalRevivesNobody(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		d := newDriver(t)
		late := d.openSession(1500, 500, 9) // due after a thousand others, of which a tick deletes no more
		d.openSession(1501, 5000, 9)
		for id := range int64(1000) {
			d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: id + 1, TtlMs: 400}))
		}
		d.tick(0)
		d.tick(500)
		if !d.last.Leases.Overdue {
			t.Fatalf("facts %+v", d.last.Leases)
		}
		if reopen {
			d.reopen()
		}
		d.renewStream(9)
		r := d.do(late.command(putRequest(1, "x", "")),
			command(raftv1.KindLeaseRenew, &raftv1.LeaseRenew{Ids: []int64{late.id}}),
			command(raftv1.KindPut, &pb.PutRequest{Key: []byte("x"), Lease: late.id}),
			command(raftv1.KindSessionAttach, &raftv1.SessionAttach{
				Stream: 7, Items: []*raftv1.SessionAttach_Item{{Id: late.id, Created: late.created, Epoch: 2}},
			}))
		if r[0].Err != statemachine.ErrSessionNotFound || r[1].Response.(statemachine.LeasesRenewed).TTLs[0] != 0 ||
			r[2].Err != statemachine.ErrLeaseNotFound ||
			r[3].Response.(statemachine.SessionsAttached).Outcomes[0] != statemachine.AttachNotFound {
			t.Errorf("an overdue session lives: %+v", r)
		}
		if got := d.remaining(1501); got != -1 {
			t.Errorf("the other session has %d left", got)
		}
		d.tick(0)
		if got := d.remaining(1501); got != 5000 {
			t.Errorf("the other session has %d left", got)
		}
		if len(d.last.Sessions) != 1 || d.last.Sessions[0] != (statemachine.SessionChange{
			ID: late.id, Created: late.created, Stream: 9, Ended: true,
		}) {
			t.Errorf("said of sessions: %+v", d.last.Sessions)
		}
	}
}

// A keep-alive of etcd's API works on a session, too.
func TestSessionIsRenewedAsALease(t *testing.T) {
	d := newDriver(t)
	d.openSession(5, 1000, 9)
	d.tick(0)
	d.renewStream(9)
	d.tick(0)
	d.tick(800)
	d.do(command(raftv1.KindLeaseRenew, &raftv1.LeaseRenew{Ids: []int64{5}}))
	d.tick(100)
	d.tick(999)
	d.reopen()
	if got := d.remaining(5); got != 1 {
		t.Errorf("remaining %d", got)
	}
}

func TestStreamsWithoutSessionsHaveNoRow(t *testing.T) {
	d := newDriver(t)
	for _, how := range []struct {
		name string
		end  func(s *session)
	}{
		{"revoked", func(s *session) { d.do(command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: s.id})) }},
		{"ended", func(s *session) {
			d.do(command(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: s.id, Created: s.created}))
		}},
		{"expired", func(s *session) { d.tick(0); d.tick(1000) }},
		{"moved", func(s *session) { s.attach(8, 2) }},
	} {
		s := d.openSession(5, 1000, 9)
		d.renewStream(9, 10)
		if got := d.rowsOf(mvcc.SpaceStreams); got != 1 {
			t.Errorf("%d rows of streams", got)
		}
		how.end(s)
		if got := d.rowsOf(mvcc.SpaceStreams); got != 0 {
			t.Errorf("%s: %d rows of streams are left", how.name, got)
		}
		d.renewStream(9)
		if got := d.rowsOf(mvcc.SpaceStreams); got != 0 {
			t.Errorf("%s: %d rows of streams after the next renewal", how.name, got)
		}
	}
}

// attach attaches the session and returns what became of it.
func (s *session) attach(stream, epoch uint64) statemachine.SessionsAttached {
	s.d.t.Helper()
	r := s.d.do(command(raftv1.KindSessionAttach, &raftv1.SessionAttach{Stream: stream,
		Items: []*raftv1.SessionAttach_Item{
			{Id: s.id, Created: s.created, Epoch: epoch},
		}}))[0]
	attached := r.Response.(statemachine.SessionsAttached)
	if attached.Outcomes[0] == statemachine.Attached {
		s.epoch = epoch
	}
	return attached
}

// Attaching takes a greater epoch, renews, and ends the rights of the stream before: nothing that it sent comes to
// pass.
func TestAttachTakesTheSessionFromTheStreamBefore(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	d.tick(0)
	d.tick(900)
	delayed := s.command(putRequest(1, "ghost", ""))
	if got := s.attach(8, 1); got.Outcomes[0] != statemachine.AttachEpochPast || got.TTLs[0] != 0 {
		t.Errorf("attached with the same epoch: %+v", got)
	}
	if got := s.attach(8, 5); got.Outcomes[0] != statemachine.Attached || got.TTLs[0] != 1000 {
		t.Errorf("attached: %+v", got)
	}
	want := statemachine.SessionChange{ID: 5, Created: s.created, Stream: 9}
	if len(d.last.Sessions) != 1 || d.last.Sessions[0] != want {
		t.Errorf("said of sessions: %+v", d.last.Sessions)
	}
	for range 2 {
		if r := d.do(delayed)[0]; r.Err != statemachine.ErrSessionElsewhere || d.value("ghost", 0) != "-" {
			t.Errorf("a delayed request: %+v", r)
		}
		if got := s.attach(9, 5); got.Outcomes[0] != statemachine.AttachEpochPast {
			t.Errorf("a delayed attach: %+v", got)
		}
		d.reopen()
		if !d.m.Attached(8, 5, s.created) || d.m.Attached(9, 5, s.created) {
			t.Error("the session is not where it was attached last")
		}
	}
	if got := s.attach(8, 6); got.Outcomes[0] != statemachine.Attached || len(d.last.Sessions) != 0 {
		t.Errorf("attached again to the same stream: %+v, said %+v", got, d.last.Sessions)
	}
	d.renewStream(9)
	d.tick(0)
	if got := d.remaining(5); got != 1000 {
		t.Errorf("remaining %d", got)
	}
	s.do(putRequest(1, "k", ""))
}

// A session is named by its id and its creation: a later one of the same id is another.
func TestSessionOfALaterCreationIsAnother(t *testing.T) {
	d := newDriver(t)
	old := d.openSession(5, 1000, 9)
	d.do(command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 5}))
	d.openSession(5, 1000, 9)
	r := d.do(old.command(putRequest(1, "k", "")),
		command(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: 5, Created: old.created}))
	if r[0].Err != statemachine.ErrSessionNotFound || r[1].Err != statemachine.ErrSessionNotFound {
		t.Errorf("%+v", r)
	}
	if got := old.attach(8, 9); got.Outcomes[0] != statemachine.AttachNotFound {
		t.Errorf("attached: %+v", got)
	}
	if info, ok := d.m.Session(5); !ok || info.Epoch != 1 || info.Stream != 9 || string(info.Identity) != "me" ||
		info.TTL != 1000 {
		t.Errorf("session %+v %v", info, ok)
	}
}

func TestSessionOpenRefusesWhatIsNoSession(t *testing.T) {
	d := newDriver(t)
	d.openSession(5, 1000, 9)
	open := func(id, ttl int64, stream uint64) string {
		r := d.do(command(raftv1.KindSessionOpen, &raftv1.SessionOpen{Id: id, TtlMs: ttl, Stream: stream}))[0]
		return refusal(r.Err)
	}
	for _, c := range []struct {
		id, ttl int64
		stream  uint64
		want    error
	}{
		{5, 1000, 9, statemachine.ErrLeaseExist}, {0, 1000, 9, statemachine.ErrInvalid},
		{-6, 1000, 9, statemachine.ErrInvalid},
		{6, 0, 9, statemachine.ErrInvalid}, {6, 1000, 0, statemachine.ErrInvalid},
	} {
		if got := open(c.id, c.ttl, c.stream); got != fmt.Sprint(c.want) {
			t.Errorf("open %d for %d ms on %d: %s, want %v", c.id, c.ttl, c.stream, got, c.want)
		}
	}
	if got := d.m.Sessions(0, 10); len(got) != 1 {
		t.Errorf("sessions %+v", got)
	}
}

// S3: whatever drops the lease of a session, its keys, its outcomes and itself go in one revision, and that is said.
func TestS3SessionEndsWithAllItHasInOneRevision(t *testing.T) {
	for name, end := range map[string]func(d *driver, s *session){
		"revoked": func(d *driver, s *session) { d.do(command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: s.id})) },
		"ended": func(d *driver, s *session) {
			d.do(command(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: s.id, Created: s.created}))
		},
		"expired": func(d *driver, s *session) { d.tick(0); d.tick(1000) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, acquiring{})
			s := d.openSession(5, 1000, 9)
			s.do(acquireRequest(1, 0, "b", "a"), putRequest(2, "c", ""))
			s.do(putRequest(3, "c", ""))
			revision := d.last.Revision
			end(d, s)
			if got, want := d.events(), fmt.Sprintf("DELETE a @%d, DELETE b @%d", revision+1, revision+1); got != want {
				t.Errorf("events %s, want %s", got, want)
			}
			if len(d.last.Sessions) != 1 ||
				d.last.Sessions[0] != (statemachine.SessionChange{ID: 5, Created: s.created, Stream: 9, Ended: true}) {
				t.Errorf("said of sessions: %+v", d.last.Sessions)
			}
			for _, space := range []byte{mvcc.SpaceSessions, mvcc.SpaceOutcomes, mvcc.SpaceLeases, mvcc.SpaceLeaseKeys,
				mvcc.SpaceStreams} {
				if n := d.rowsOf(space); n != 0 {
					t.Errorf("%d rows of space %x are left", n, space)
				}
			}
			if _, ok := d.m.Session(5); ok || d.m.Attached(9, 5, s.created) {
				t.Error("the session is still known")
			}
		})
	}
}
