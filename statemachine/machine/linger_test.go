package machine_test

import (
	"context"
	"errors"
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
		if statemachine.Lingers(k.Lease) {
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

// Who waits for the deletion of a key sees it when the linger is over, not when the session dies: until then it is put
// once more, the same but on a lease of its own.
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
	if e := d.last.Events[1]; e.PrevKv == nil || e.PrevKv.Lease != 5 || !statemachine.Lingers(e.Kv.Lease) ||
		e.Kv.Version != 2 || string(e.Kv.Value) != "entry" {
		t.Errorf("put again: %v", e)
	}
	lease := d.last.Events[1].Kv.Lease
	for _, want := range []string{
		"lingers b {Kind:7 Sequence:1 SinceUnixMS:77 LingerMS:0}",
		"lingers c {Kind:7 Sequence:3 SinceUnixMS:77 LingerMS:0}",
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

// A lingering lease is nobody's: no command grants its id, renews it, attaches a key or a session to it, or revokes it.
// It ends with its key.
func TestLingeringLeaseIsNobodys(t *testing.T) {
	d := newDriver(t, acquiring{})
	s := d.openSession(5, 1000, 9)
	s.do(acquireRequest(1, 300, "a"))
	d.tick(0)
	d.tick(1000)
	kept := d.last.Events[0].Kv.Lease
	if !statemachine.Lingers(kept) {
		t.Fatalf("the place stands on lease %d", kept)
	}
	d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 6, TtlMs: 1e6}))
	revision := d.last.Revision
	for _, id := range []int64{kept, statemachine.FirstLingering, statemachine.FirstLingering +
		statemachine.LingeringIDs - 1} {
		for what, c := range map[string]struct {
			command raftv1.Command
			want    error
		}{
			"grant": {command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: id, TtlMs: 1e6}),
				statemachine.ErrLeaseExist},
			"revoke": {command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: id}), statemachine.ErrLeaseNotFound},
			"attach": {command(raftv1.KindPut, &pb.PutRequest{Key: []byte("b"), Lease: id}),
				statemachine.ErrLeaseNotFound},
			"attach in a transaction": {command(raftv1.KindTxn, &pb.TxnRequest{Success: []*pb.RequestOp{{
				Request: &pb.RequestOp_RequestPut{
					RequestPut: &pb.PutRequest{Key: []byte("b"), Lease: id},
				}}}}), statemachine.ErrLeaseNotFound},
			"session": {command(raftv1.KindSessionOpen, &raftv1.SessionOpen{Id: id, TtlMs: 1e6, Stream: 9}),
				statemachine.ErrInvalid},
			"end": {command(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: id}), statemachine.ErrSessionNotFound},
		} {
			if r := d.do(c.command)[0]; !errors.Is(r.Err, c.want) {
				t.Errorf("%s of %d (it exists: %t): %v %v, want %v", what, id, id == kept, r.Response, r.Err, c.want)
			}
		}
		r := d.do(command(raftv1.KindLeaseRenew, &raftv1.LeaseRenew{Ids: []int64{id}}))[0]
		if renewed := r.Response.(statemachine.LeasesRenewed); renewed.TTLs[0] != 0 {
			t.Errorf("lease %d was renewed for %d ms", id, renewed.TTLs[0])
		}
		r = d.do(command(raftv1.KindSessionAttach, &raftv1.SessionAttach{
			Stream: 9, Items: []*raftv1.SessionAttach_Item{{Id: id, Epoch: 9}},
		}))[0]
		if attached := r.Response.(statemachine.SessionsAttached); attached.Outcomes[0] != statemachine.AttachNotFound {
			t.Errorf("lease %d was attached: %v", id, attached)
		}
	}
	if d.last.Revision != revision || d.last.Leases.Count != 2 {
		t.Errorf("revision %d after %d, leases %+v", d.last.Revision, revision, d.last.Leases)
	}
	d.tick(0)
	d.reopen()
	d.tick(299)
	if d.last.Leases.Count != 2 {
		t.Errorf("the place went before its time: %+v", d.last.Leases)
	}
	d.tick(1)
	if got := d.events(); !strings.HasPrefix(got, "DELETE a") || d.last.Leases.Count != 1 {
		t.Errorf("events %s, leases %+v", got, d.last.Leases)
	}
}

// A lingering lease goes in the commit in which its key does, or is put on another lease.
func TestLingeringLeaseEndsWithItsKey(t *testing.T) {
	for what, c := range map[string]raftv1.Command{
		"deleted": command(raftv1.KindDeleteRange,
			&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("b")}),
		"on no lease":         put("a", ""),
		"on another lease":    command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), Lease: 6}),
		"written, not moved":  command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), IgnoreLease: true}),
		"written by a recipe": call("rewrite"),
	} {
		d := newDriver(t, acquiring{}, procedure{name: "rewrite", run: func(s statemachine.Step) error {
			_, err := s.Touch([]byte("a"))
			return err
		}})
		s := d.openSession(5, 1000, 9)
		s.do(acquireRequest(1, 300, "a"))
		d.tick(0)
		d.tick(1000)
		d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 6, TtlMs: 1e6}), c)
		want := 1
		if strings.HasPrefix(what, "written") {
			want = 2
		}
		for range 2 {
			if d.last.Leases.Count != want {
				t.Errorf("%s: leases %+v, want %d", what, d.m.Leases(), want)
			}
			d.reopen()
		}
	}
}

// What was noted with an attachment is for that writing of the key: any other forgets it, but Touch.
func TestAttachmentLastsUntilTheKeyIsWritten(t *testing.T) {
	d := newDriver(t, acquiring{}, procedure{name: "touch", run: func(s statemachine.Step) error {
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
		{command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), Lease: 5}), "5 a {Kind:0 Sequence:0 SinceUnixMS:0 " +
			"LingerMS:0}"},
		{command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), IgnoreLease: true}), "5 a {Kind:0 Sequence:0 " +
			"SinceUnixMS:0 LingerMS:0}"},
		{command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), Lease: 6}), "6 a {Kind:0 Sequence:0 SinceUnixMS:0 " +
			"LingerMS:0}"},
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

func (reactor) QueueOf([]byte) string { return "q" }

func (r reactor) Deleted(s statemachine.Step, _ string, were []*mvccpb.KeyValue) error {
	for _, kv := range were {
		r(s, string(kv.Key))
	}
	return nil
}

// Whatever deletes a key below the reactor's prefix, the reaction is in the same revision, and what it deletes brings
// no further one.
func TestReactionSharesTheRevisionOfTheDeletion(t *testing.T) {
	var seen []string
	oneRevision := true
	d := newDriver(t, acquiring{}, procedure{name: "two", run: func(s statemachine.Step) error {
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
	d.do(command(raftv1.KindAlarm, &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: self, Alarm: pb.AlarmType_NOSPACE,
	}))
	d.tick(1000)
	check("expiry", "q/5@", "DELETE q/5@ PUT q/6@ DELETE q/deleted@ PUT q/last@")
	d.tick(0)
	d.tick(10)
	check("end of the linger", "q/6@", "DELETE q/6@ PUT q/last@")
}
