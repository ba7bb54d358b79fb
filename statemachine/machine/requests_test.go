package machine_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

func (d *driver) alarm(action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) {
	d.t.Helper()
	d.do(command(raftv1.KindAlarm, &pb.AlarmRequest{Action: action, MemberID: self, Alarm: kind}))
}

// A refusal is an outcome: sent again, the request is refused again, though it would not be now. But refusals that are
// of the moment leave no trace.
func TestRefusalIsTheOutcomeUnlessItPasses(t *testing.T) {
	d := newDriver(t, acquiring{})
	s := d.openSession(5, 1000, 9)
	leased := request(1, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("k"), Lease: 6})
	wantReason(t, s.do(leased)[0], coordv1.Error_REASON_LEASE_NOT_FOUND)
	own := acquireRequest(2, 0)
	if o := s.do(own)[0]; o.Refusal.GetReason() != coordv1.Error_REASON_NOT_HOLDER || o.Refusal.Message != "no names" {
		t.Errorf("a procedure's own refusal: %v", o)
	}
	d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 6, TtlMs: 1000}))
	d.reopen()
	wantReason(t, s.do(leased)[0], coordv1.Error_REASON_LEASE_NOT_FOUND)

	for _, c := range []struct {
		alarm pb.AlarmType
		want  coordv1.Error_Reason
	}{{pb.AlarmType_NOSPACE, coordv1.Error_REASON_NO_SPACE}, {pb.AlarmType_CORRUPT, coordv1.Error_REASON_CORRUPT}} {
		first := uint64(10 * (1 + int(c.alarm)))
		requests := []*coordv1.Request{
			putRequest(first, "k", "v"), acquireRequest(first+1, 0, "q"),
			request(first+2, coordv1.Kind_KIND_LEASE_GRANT, &pb.LeaseGrantRequest{ID: int64(first), TTL: 1}),
		}
		d.alarm(pb.AlarmRequest_ACTIVATE, c.alarm)
		rows := d.rowsOf(mvcc.SpaceOutcomes)
		for _, o := range s.do(requests...) {
			wantReason(t, o, c.want)
		}
		if n := d.rowsOf(mvcc.SpaceOutcomes); n != rows {
			t.Errorf("%d rows of outcomes, before %d", n, rows)
		}
		d.alarm(pb.AlarmRequest_DEACTIVATE, c.alarm)
		for _, o := range s.do(requests...) {
			if o.Refusal != nil {
				t.Errorf("after the alarm: %v", o)
			}
		}
	}
}

// A watermark at the end of all numbers is one like any other: the next number is past, and nothing is counted up to
// it.
func TestWatermarkAtTheEndOfAllNumbers(t *testing.T) {
	const last = math.MaxUint64
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	s.do(putRequest(1, "a", "1"))
	s.acknowledged = last - 3
	s.do(putRequest(last-2, "a", "2"), putRequest(last-1, "a", "3"), putRequest(last, "a", "4"))
	s.acknowledged = last
	wantReason(t, s.do(putRequest(last, "a", "5"))[0], coordv1.Error_REASON_SEQUENCE_PAST)
	if d.value("a", 0) != "4" {
		t.Errorf("a is %s", d.value("a", 0))
	}
	hash := d.hash()
	if d.reopen(); d.hash() != hash {
		t.Error("opened again, another state")
	}
}

// L8: an acquire that comes again makes no second entry, and a release or withdrawal that comes again frees nothing
// that was made after it.
func TestL8RetriesMakeNoGhostAndFreeNothingNew(t *testing.T) {
	d := newDriver(t, acquiring{})
	s := d.openSession(5, 1000, 9)
	acquire, release := acquireRequest(1, 0, "q"), withdrawRequest(2, 1)
	token := response[coordv1.Acquired](t, s.do(acquire)[0]).Entries[0].Token
	d.reopen()
	if got := response[coordv1.Acquired](t, s.do(acquire)[0]).Entries[0].Token; got != token || d.events() != "" {
		t.Errorf("acquired again: token %d, was %d; events %s", got, token, d.events())
	}
	first := s.do(release)[0]
	if got := response[coordv1.Withdrawn](t, first); !got.Removed ||
		d.events() != fmt.Sprintf("DELETE q @%d", got.Revision) {
		t.Errorf("withdrawn: %v, events %s", got, d.events())
	}
	wantToken := response[coordv1.Acquired](t, s.do(acquireRequest(3, 0, "q"))[0]).Entries[0].Token
	// The entry of request 3 stands at the same key, of the same session. Neither the old withdrawal nor a new one of
	// the old request is meant for it, nor does the old acquire run again.
	for _, again := range [][]*coordv1.Request{{release}, {withdrawRequest(4, 1)}, {acquire}} {
		s.do(again...)
		if d.events() != "" {
			t.Errorf("%v: events %s", again, d.events())
		}
	}
	if kv, _ := d.view().Get([]byte("q")); kv.GetCreateRevision() != wantToken {
		t.Errorf("the entry is %v, want the one created at %d", kv, wantToken)
	}
}

// A withdrawal that overtakes its acquire leaves word for it.
func TestWithdrawnRequestNeverRuns(t *testing.T) {
	d := newDriver(t, acquiring{})
	s := d.openSession(5, 1000, 9)
	if got := response[coordv1.Withdrawn](t, s.do(withdrawRequest(2, 1))[0]); got.Removed {
		t.Errorf("withdrawn: %v", got)
	}
	d.reopen()
	wantReason(t, s.do(acquireRequest(1, 0, "q"))[0], coordv1.Error_REASON_WITHDRAWN)
	if d.value("q", 0) != "-" {
		t.Error("it ran")
	}
	s.acknowledged = 4
	out := s.do(withdrawRequest(5, 1), withdrawRequest(6, 6), withdrawRequest(7, 5+statemachine.MaxSequenceLead),
		putRequest(8, "k", ""), withdrawRequest(9, 8))
	for i, want := range []coordv1.Error_Reason{
		coordv1.Error_REASON_SEQUENCE_PAST, coordv1.Error_REASON_INVALID, coordv1.Error_REASON_SEQUENCE_FUTURE,
	} {
		wantReason(t, out[i], want)
	}
	if got := response[coordv1.Withdrawn](t, out[4]); got.Removed || d.value("k", 0) != "" {
		t.Errorf("withdrawing a put: %v", got)
	}
}

// A withdrawal deletes what its own session holds, by that request, and nothing that looks like it.
func TestWithdrawDeletesOwnEntriesOfTheRequestOnly(t *testing.T) {
	d := newDriver(t, acquiring{})
	s, other := d.openSession(5, 1000, 9), d.openSession(6, 1000, 9)
	s.do(acquireRequest(1, 0, "mine", "overwritten", "taken", "deleted"))
	d.do(command(raftv1.KindPut, &pb.PutRequest{Key: []byte("overwritten"), Lease: 5}),
		command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("deleted")}))
	other.do(acquireRequest(1, 0, "taken"))
	if got := response[coordv1.Withdrawn](t, s.do(withdrawRequest(2, 1))[0]); !got.Removed {
		t.Errorf("withdrawn: %v", got)
	}
	if got, want := d.events(), fmt.Sprintf("DELETE mine @%d", d.last.Revision); got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

func TestGuardsHoldBeforeAnythingRuns(t *testing.T) {
	d := newDriver(t)
	d.guard = atToken
	d.reopen()
	s := d.openSession(5, 1000, 9)
	d.do(put("lock", ""))
	holds, lapsed := &coordv1.Guard{Key: "lock", Token: 2}, &coordv1.Guard{Key: "lock", Token: 1}
	guarded := func(sequence uint64, guards ...*coordv1.Guard) *coordv1.Request {
		r := putRequest(sequence, "k", fmt.Sprint(sequence))
		r.Guards = guards
		return r
	}
	out := s.do(guarded(1, holds), guarded(2, holds, lapsed))
	response[pb.PutResponse](t, out[0])
	wantReason(t, out[1], coordv1.Error_REASON_FENCED)
	if got := d.value("k", 0); got != "1" {
		t.Errorf("k is %q", got)
	}
	// The guard is of the moment in which the request ran, and that stands.
	d.do(command(raftv1.KindDeleteRange, &pb.DeleteRangeRequest{Key: []byte("lock")}))
	out = s.do(guarded(1, holds), guarded(3, holds))
	response[pb.PutResponse](t, out[0])
	wantReason(t, out[1], coordv1.Error_REASON_FENCED)
	bad := encode(guarded(4))
	bad = append(bad, 0x22, 1, 0xff) // a guard that does not parse
	r := d.do(command(raftv1.KindRequests, &raftv1.Requests{
		Session: s.id, Created: s.created, Epoch: 1, Requests: [][]byte{bad},
	}))[0]
	wantReason(t, outcomes(t, r)[0], coordv1.Error_REASON_INVALID)
}

// At the bound of stored outcomes new requests are refused, old ones are still answered, and nothing of that depends on
// whether the machine was restarted.
func TestBacklogRefusesAndForgetsNothing(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	read := func(sequence uint64) *coordv1.Request {
		return request(sequence, coordv1.Kind_KIND_PUT, &pb.PutRequest{
			Key: []byte("big"), Value: []byte(big), PrevKv: true,
		})
	}
	for _, reopen := range []bool{false, true} {
		d := newDriver(t)
		s := d.openSession(5, 1000, 9)
		d.do(put("big", big))
		first := s.do(read(1), read(2))
		s.do(read(3), read(4))
		if reopen {
			d.reopen()
		}
		out := s.do(read(5), putRequest(6, "k", ""), read(1))
		wantReason(t, out[0], coordv1.Error_REASON_BACKLOG)
		wantReason(t, out[1], coordv1.Error_REASON_BACKLOG)
		if !proto.Equal(out[2], first[0]) {
			t.Error("a stored outcome got lost")
		}
		s.acknowledged = 1 // three are left, with one of them in a row with what is acknowledged
		if reopen {
			s.do()
			d.reopen()
		}
		out = s.do(read(5), putRequest(6, "k", ""))
		response[pb.PutResponse](t, out[0])
		wantReason(t, out[1], coordv1.Error_REASON_BACKLOG)
	}
}

func TestBacklogIsBoundedInNumber(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	// Outcomes of the least size: that of a put at a small revision.
	var requests []*coordv1.Request
	for sequence := range uint64(statemachine.MaxOutcomes + 2) {
		requests = append(requests, putRequest(sequence+1, "k", ""))
	}
	out := s.do(requests[:statemachine.MaxOutcomes-1]...)
	response[pb.PutResponse](t, out[len(out)-1])
	d.reopen()
	out = s.do(requests[statemachine.MaxOutcomes-1:]...)
	response[pb.PutResponse](t, out[0])
	wantReason(t, out[1], coordv1.Error_REASON_BACKLOG)
	s.acknowledged = 1
	out = s.do(requests[statemachine.MaxOutcomes:]...)
	response[pb.PutResponse](t, out[0])
	wantReason(t, out[1], coordv1.Error_REASON_BACKLOG)
}

// A request that would read more than can be stored is refused before it writes.
func TestResponseTooLargeIsRefusedBeforeItWrites(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	value := strings.Repeat("x", 1<<20)
	for i := range 4 {
		d.do(put(fmt.Sprint("big", i), value))
	}
	all := &pb.RangeRequest{Key: []byte("big"), RangeEnd: []byte("bih")}
	get := func(r *pb.RangeRequest) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
	}
	write := func(key string) *pb.RequestOp {
		return &pb.RequestOp{
			Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}},
		}
	}
	remove := &pb.DeleteRangeRequest{Key: all.Key, RangeEnd: all.RangeEnd, PrevKv: true}
	nested := &pb.TxnRequest{Success: []*pb.RequestOp{get(all)}}
	first := func(n int64) *pb.RangeRequest {
		return &pb.RangeRequest{Key: all.Key, RangeEnd: all.RangeEnd, Limit: n}
	}
	for i, body := range []proto.Message{
		remove,
		&pb.TxnRequest{Success: []*pb.RequestOp{write("k"), get(all)}},
		&pb.TxnRequest{
			Success: []*pb.RequestOp{write("k"), {
				Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: remove},
			}},
		},
		&pb.TxnRequest{Success: []*pb.RequestOp{write("k"), {Request: &pb.RequestOp_RequestTxn{RequestTxn: nested}}}},
		&pb.TxnRequest{Success: []*pb.RequestOp{write("k"), get(first(2)), get(first(2))}},
		&pb.TxnRequest{Success: []*pb.RequestOp{ // what it writes itself, many times
			write("k"), get(&pb.RangeRequest{Key: []byte("k")}), get(&pb.RangeRequest{Key: []byte("k")}),
			get(&pb.RangeRequest{Key: []byte("j"), RangeEnd: []byte("l")}),
			get(&pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte{0}}),
		}},
	} {
		kind := coordv1.Kind_KIND_TXN
		if body == proto.Message(remove) {
			kind = coordv1.Kind_KIND_DELETE_RANGE
		}
		wantReason(t, s.do(request(uint64(i+1), kind, body))[0], coordv1.Error_REASON_TOO_LARGE)
		if d.events() != "" {
			t.Errorf("request %d wrote before it was refused", i+1)
		}
	}
	ok := &pb.TxnRequest{Success: []*pb.RequestOp{
		write("k"), get(first(1)), get(&pb.RangeRequest{Key: all.Key, RangeEnd: all.RangeEnd, KeysOnly: true}),
		get(&pb.RangeRequest{
			Key: all.Key, RangeEnd: all.RangeEnd, CountOnly: true,
		}), get(&pb.RangeRequest{Key: all.Key, RangeEnd: all.RangeEnd, Revision: 2}),
	}, Failure: []*pb.RequestOp{get(all)}}
	response[pb.TxnResponse](t, s.do(request(9, coordv1.Kind_KIND_TXN, ok))[0])
}

// A session that its own request ends takes the rest of the command with it.
func TestSessionThatEndsItselfRunsNothingMore(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	out := s.do(putRequest(1, "a", ""), request(2, coordv1.Kind_KIND_LEASE_REVOKE, &pb.LeaseRevokeRequest{ID: 5}),
		putRequest(3, "b", ""), putRequest(1, "a", ""))
	response[pb.PutResponse](t, out[0])
	response[pb.LeaseRevokeResponse](t, out[1])
	wantReason(t, out[2], coordv1.Error_REASON_SESSION_NOT_FOUND)
	wantReason(t, out[3], coordv1.Error_REASON_SESSION_NOT_FOUND)
	if d.value("b", 0) != "-" || d.rowsOf(mvcc.SpaceOutcomes) != 0 || d.rowsOf(mvcc.SpaceSessions) != 0 {
		t.Error("something is left of the session")
	}
}

func TestLeaseRequestsTakeIDAndTTLAsTheyAre(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	grant := func(sequence uint64, id, ttl int64) *coordv1.Request {
		return request(sequence, coordv1.Kind_KIND_LEASE_GRANT, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
	}
	out := s.do(grant(1, 6, 1), grant(2, 6, 1), grant(3, 0, 1), grant(4, 7, 0), grant(5, 7, 1<<62), grant(6, 7, -1<<62))
	if got := response[pb.LeaseGrantResponse](t, out[0]); got.ID != 6 || got.TTL != 1 || got.Header.Revision != 1 {
		t.Errorf("granted: %v", got)
	}
	wantReason(t, out[1], coordv1.Error_REASON_LEASE_EXISTS)
	for _, o := range out[2:] {
		wantReason(t, o, coordv1.Error_REASON_INVALID)
	}
	if l, _, ok := d.m.Lease(6); !ok || l.TTL != 1000 || len(d.m.Leases()) != 2 {
		t.Errorf("leases %+v", d.m.Leases())
	}
}

// Rows go with the last of their outcomes; the newest stays, because it carries the watermark.
func TestOutcomeRowsGoWithTheWatermark(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	for i := range uint64(4) {
		s.do(putRequest(2*i+1, "k", ""), putRequest(2*i+2, "k", ""))
	}
	for _, c := range []struct {
		acknowledged uint64
		rows         int
	}{{0, 4}, {1, 5}, {2, 4}, {2, 4}, {7, 2}, {100, 1}, {100, 1}} {
		s.acknowledged = c.acknowledged
		s.do()
		if got := d.rowsOf(mvcc.SpaceOutcomes); got != c.rows {
			t.Errorf("acknowledged up to %d: %d rows, want %d", c.acknowledged, got, c.rows)
		}
		d.reopen()
	}
	wantReason(t, s.do(putRequest(100, "k", ""))[0], coordv1.Error_REASON_SEQUENCE_PAST)
}

// A request whose encoding is broken has no number to store an outcome under.
func TestBrokenRequestHasNoOutcome(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	good := encode(putRequest(1, "k", ""))
	broken := good[:len(good)-1]
	c := &raftv1.Requests{Session: 5, Created: s.created, Epoch: 1, Requests: [][]byte{broken, good, bytes.Clone(good)}}
	out := outcomes(t, d.do(command(raftv1.KindRequests, c))[0])
	wantReason(t, out[0], coordv1.Error_REASON_INVALID)
	response[pb.PutResponse](t, out[1])
	if r := d.do(raftv1.Command{Kind: raftv1.KindRequests, Body: []byte("\xff")})[0]; refusal(
		r.Err) != statemachine.ErrInvalid.Error() {
		t.Errorf("a command that does not parse: %+v", r)
	}
}
