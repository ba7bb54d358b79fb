package statemachine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

func acquireRequest(sequence uint64, lingerMS int64, names ...string) *coordv1.Request {
	return request(sequence, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Acquire{Names: names, LingerMs: lingerMS})
}

// attached shows all attached keys.
func (d *driver) attached() string {
	d.t.Helper()
	var out []string
	v, err := d.m.View()
	if err != nil {
		d.t.Fatal(err)
	}
	defer v.Close()
	err = v.AttachedKeys(context.Background(), 0, nil, func(k statemachine.AttachedKey) bool {
		lease := fmt.Sprint(k.Lease)
		if k.Lease < 0 {
			lease = "lingers"
		}
		out = append(out, fmt.Sprintf("%s %s %+v", lease, k.Key, k.Attachment))
		if a, err := v.Attachment(k.Lease, k.Key); err != nil || a != k.Attachment {
			d.t.Errorf("attachment of %q: %+v %v", k.Key, a, err)
		}
		return true
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.Join(out, "; ")
}

// Who waits for the deletion of a key sees it when the linger is over, not when the session dies: until then it is put once
// more, the same but on a lease of its own.
func TestLingeringKeyOutlivesAnExpiryOnly(t *testing.T) {
	d := newDriver(t, acquiring{})
	s := d.openSession(5, 1000, 9)
	s.unixMS = 77
	s.do(acquireRequest(1, 300, "b"), acquireRequest(2, 0, "a"), acquireRequest(3, 200, "c"))
	d.tick(0)
	d.tick(1000)
	if got, want := d.events(), "DELETE a @5, PUT b @5 created 2, PUT c @5 created 4"; got != want {
		t.Fatalf("events %s, want %s", got, want)
	}
	if e := d.last.Events[1]; e.PrevKv == nil || e.PrevKv.Lease != 5 || e.Kv.Lease >= 0 || e.Kv.Version != 2 || string(e.Kv.Value) != "entry" {
		t.Errorf("put again: %v", e)
	}
	lease := d.last.Events[1].Kv.Lease
	for _, want := range []string{
		"lingers b {Kind:7 Sequence:1 SinceUnixMS:77 LingerMS:0}", "lingers c {Kind:7 Sequence:3 SinceUnixMS:77 LingerMS:0}",
	} {
		if got := d.attached(); !strings.Contains(got, want) {
			t.Errorf("attached: %s, want %s", got, want)
		}
	}
	if got := d.remaining(lease); got != -1 {
		t.Errorf("the linger has %d left before a tick has seen it", got)
	}
	d.tick(50)
	d.reopen()
	d.tick(200)
	if got, want := d.events(), "DELETE c @6"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	d.tick(100)
	if got, want := d.events(), "DELETE b @7"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	if d.last.Leases.Count != 0 {
		t.Errorf("leases %+v", d.m.Leases())
	}
}

func TestLingerIsNotForWhoEndsByWill(t *testing.T) {
	for name, end := range map[string]func(d *driver, s *session){
		"revoked": func(d *driver, s *session) { d.do(command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: s.id})) },
		"ended": func(d *driver, s *session) {
			d.do(command(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: s.id, Created: s.created}))
		},
		"withdrawn": func(d *driver, s *session) { s.do(withdrawRequest(2, 1)) },
	} {
		d := newDriver(t, acquiring{})
		s := d.openSession(5, 1000, 9)
		s.do(acquireRequest(1, 300, "a"))
		end(d, s)
		if got, want := d.events(), "DELETE a @3"; got != want {
			t.Errorf("%s: events %s, want %s", name, got, want)
		}
	}
}

// A taken id of a lingering lease makes it take the next one.
func TestLingeringLeasesNeverMeet(t *testing.T) {
	linger := func(before func(d *driver)) int64 {
		d := newDriver(t, acquiring{})
		before(d)
		s := d.openSession(5, 1000, 9)
		s.do(acquireRequest(1, 300, "a"))
		d.tick(0)
		d.tick(1000)
		return d.last.Events[0].Kv.Lease
	}
	first := linger(func(*driver) {})
	next := linger(func(d *driver) { d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: first, TtlMs: 1e6})) })
	if first >= 0 || next != first+1 {
		t.Errorf("leases %d and %d", first, next)
	}
}

// What was noted with an attachment is for that writing of the key: any other forgets it, but Touch.
func TestAttachmentLastsUntilTheKeyIsWritten(t *testing.T) {
	d := newDriver(t, acquiring{}, procedure{"touch", func(s statemachine.Step) error {
		_, err := s.Touch([]byte("a"))
		return err
	}})
	s := d.openSession(5, 1000, 9)
	d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 6, TtlMs: 1000}))
	noted := "5 a {Kind:7 Sequence:%d SinceUnixMS:0 LingerMS:0}"
	for i, c := range []struct {
		write raftv1.Command
		want  string
	}{
		{call("touch"), fmt.Sprintf(noted, 1)},
		{command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), Lease: 5}), "5 a {Kind:0 Sequence:0 SinceUnixMS:0 LingerMS:0}"},
		{command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), IgnoreLease: true}), "5 a {Kind:0 Sequence:0 SinceUnixMS:0 LingerMS:0}"},
		{command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), Lease: 6}), "6 a {Kind:0 Sequence:0 SinceUnixMS:0 LingerMS:0}"},
		{command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("a")}), ""},
	} {
		s.do(acquireRequest(uint64(i+1), 0, "a"))
		if got, want := d.attached(), fmt.Sprintf(noted, i+1); got != want {
			t.Fatalf("attached %s, want %s", got, want)
		}
		if i == 0 {
			d.reopen()
		}
		if d.do(c.write); d.attached() != c.want {
			t.Errorf("after write %d: attached %s, want %s", i, d.attached(), c.want)
		}
	}
}

// reactor is a Reactor made of a function.
type reactor func(s statemachine.Step, key string)

func (reactor) Prefix() []byte { return []byte("q/") }

func (r reactor) Deleted(s statemachine.Step, were []*mvccpb.KeyValue) {
	for _, kv := range were {
		r(s, string(kv.Key))
	}
}

// Whatever deletes a key below the reactor's prefix, the reaction is in the same revision, and what it deletes brings no
// further one.
func TestReactionSharesTheRevisionOfTheDeletion(t *testing.T) {
	var seen []string
	oneRevision := true
	d := newDriver(t, acquiring{}, procedure{"two", func(s statemachine.Step) error {
		s.Delete([]byte("q/1"))
		s.NextRevision()
		s.Delete([]byte("q/2"))
		return nil
	}})
	d.reactor = reactor(func(s statemachine.Step, key string) {
		seen = append(seen, fmt.Sprintf("%s@%d", key, s.Revision()))
		if s.Session() != 0 || s.Get([]byte(key)) != nil {
			t.Errorf("the reaction to %s sees session %d, key %v", key, s.Session(), s.Get([]byte(key)))
		}
		if _, err := s.Put([]byte(key), nil, 0); err == nil && oneRevision {
			t.Errorf("a reaction wrote %s twice in a revision", key)
		}
		s.Delete([]byte("q/deleted"))
		s.Put([]byte("q/last"), []byte(key), 0)
	})
	d.reopen()
	s := d.openSession(5, 1000, 9)
	fill := func() {
		d.do(put("p", ""), put("q/1", ""), put("q/2", ""), put("q/deleted", ""), put("r", ""))
	}
	events := func(format string) string {
		return strings.ReplaceAll(format, "@", fmt.Sprintf("@%d", d.last.Revision))
	}
	check := func(what, wantSeen, wantEvents string) {
		t.Helper()
		if got := strings.Join(seen, " "); got != events(wantSeen) {
			t.Errorf("%s: reactions %s, want %s", what, got, events(wantSeen))
		}
		var got []string
		for _, e := range d.last.Events {
			got = append(got, fmt.Sprintf("%s %s@%d", e.Type, e.Kv.Key, e.Kv.ModRevision))
		}
		if got := strings.Join(got, " "); got != events(wantEvents) {
			t.Errorf("%s: events %s, want %s", what, got, events(wantEvents))
		}
		seen = nil
	}
	all := &pb.DeleteRangeRequest{Key: []byte("p"), RangeEnd: []byte("q/3")}
	fill()
	d.do(command(raftv1.KindDeleteRange, all))
	check("delete", "q/1@ q/2@", "DELETE p@ DELETE q/1@ DELETE q/2@ DELETE q/deleted@ PUT q/last@")
	fill()
	s.do(request(1, coordv1.Kind_KIND_DELETE_RANGE, all))
	check("request", "q/1@ q/2@", "DELETE p@ DELETE q/1@ DELETE q/2@ DELETE q/deleted@ PUT q/last@")
	fill()
	oneRevision = false
	d.do(call("two"))
	oneRevision = true
	if got, want := strings.Join(seen, " "), events("q/1@ q/2@"); got != want {
		t.Errorf("a call of two revisions: reactions %s, want %s", got, want)
	}
	seen = nil
	d.do(put("q/deleted", ""))
	s.do(acquireRequest(2, 0, "q/5"), acquireRequest(3, 10, "q/6"))
	d.tick(0)
	// There is no space: that stops no reaction.
	d.do(command(raftv1.KindAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: self, Alarm: pb.AlarmType_NOSPACE}))
	d.tick(1000)
	check("expiry", "q/5@", "DELETE q/5@ PUT q/6@ DELETE q/deleted@ PUT q/last@")
	d.tick(0)
	d.tick(10)
	check("end of the linger", "q/6@", "DELETE q/6@ PUT q/last@")
}
