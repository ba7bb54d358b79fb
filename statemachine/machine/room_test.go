package machine_test

import (
	"errors"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// roomy makes a driver whose sessions share some room.
func roomy(t *testing.T, room statemachine.Room) *driver {
	d := newDriver(t)
	d.room = room
	d.reopen()
	return d
}

// A put's outcome with the revision of a small store.
const putCost = statemachine.OutcomeOverhead + 6

func readRequest(sequence uint64, key string) *coordv1.Request {
	read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
	return request(sequence, coordv1.Kind_KIND_TXN, &pb.TxnRequest{Success: []*pb.RequestOp{read}})
}

// Below half of the room for outcomes every session gets what it asks for; from there on who holds more than its share
// is refused without a trace, and others go on. The bound of both is exact.
func TestOutcomesShareTheRoom(t *testing.T) {
	d := roomy(t, statemachine.Room{OutcomeBytes: 20 * putCost, SessionBytes: 1 << 20})
	greedy, modest := d.openSession(1, 1000, 1), d.openSession(2, 1000, 1)
	for sequence := range uint64(10) {
		if out := greedy.do(putRequest(sequence+1, "g", "v"))[0]; out.Refusal != nil {
			t.Fatalf("request %d: %v", sequence, out)
		}
	}
	if held, _ := d.m.Held(); held != 10*putCost {
		t.Errorf("%d bytes are held, not %d", held, 10*putCost)
	}
	before := d.value("g", 0)
	out := greedy.do(putRequest(11, "g", "more"))[0]
	wantReason(t, out, coordv1.Error_REASON_BACKLOG)
	for _, word := range []string{"1980", "3960", "acknowledge"} {
		if !strings.Contains(out.Refusal.Message, word) {
			t.Errorf("%q does not say %q", out.Refusal.Message, word)
		}
	}
	if refused, _ := d.m.Refused(); d.value("g", 0) != before || refused != 1 {
		t.Errorf("the refusal left %q, and %d are counted", d.value("g", 0), refused)
	}
	for sequence := range uint64(5) { // half of the other half: there are two
		if out := modest.do(putRequest(sequence+1, "m", "v"))[0]; out.Refusal != nil {
			t.Fatalf("of another session: %v", out)
		}
	}
	wantReason(t, modest.do(putRequest(6, "m", "v"))[0], coordv1.Error_REASON_BACKLOG)
	hash := d.hash()
	d.reopen()
	if held, _ := d.m.Held(); held != 15*putCost || d.hash() != hash {
		t.Errorf("after a restart %d bytes are held, not %d", held, 15*putCost)
	}
	wantReason(t, modest.do(putRequest(6, "m", "v"))[0], coordv1.Error_REASON_BACKLOG)
	greedy.acknowledged = 10 // always runs, and with it what there is room for now
	if out := greedy.do(putRequest(11, "g", "more"))[0]; out.Refusal != nil {
		t.Errorf("after it acknowledged: %v", out)
	}
	if out := modest.do(putRequest(6, "m", "v"))[0]; out.Refusal != nil { // refused above, and not stored
		t.Errorf("sent again: %v", out)
	}
	d.do(command(raftv1.KindSessionEnd, &raftv1.SessionEnd{Id: 1, Created: greedy.created}))
	d.do(command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 2}))
	if outcomes, sessions := d.m.Held(); outcomes != 0 || sessions != 0 {
		t.Errorf("%d and %d bytes are left", outcomes, sessions)
	}
}

// An answer that does not fit undoes its request, whatever it wrote.
func TestAnOutcomeThatDoesNotFitLeavesNoTrace(t *testing.T) {
	d := roomy(t, statemachine.Room{OutcomeBytes: 4000, SessionBytes: 1 << 20})
	d.do(put("large", strings.Repeat("x", 1500)))
	s, other := d.openSession(1, 1000, 1), d.openSession(2, 1000, 1)
	if out := s.do(readRequest(1, "large"))[0]; out.Refusal != nil {
		t.Fatal(out)
	}
	revision := d.view().Revision()
	write := request(2, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("large"), Value: []byte("y"), PrevKv: true})
	wantReason(t, s.do(write)[0], coordv1.Error_REASON_BACKLOG)
	if d.value("large", 0) == "y" || d.view().Revision() != revision || len(d.last.Events) != 0 {
		t.Error("it wrote")
	}
	if out := other.do(putRequest(1, "small", "v"))[0]; out.Refusal != nil {
		t.Errorf("of another session: %v", out)
	}
	s.acknowledged = 1
	if out := s.do(write)[0]; out.Refusal != nil || d.value("large", 0) != "y" {
		t.Errorf("sent again: %v", out)
	}
}

// What frees always runs. A quarter more room is kept for its outcomes, and beyond that for those of a session that
// acknowledges; where there is none left the outcome is not kept, and nothing runs twice.
func TestWhatFreesAlwaysRuns(t *testing.T) {
	d := roomy(t, statemachine.Room{OutcomeBytes: 8 * putCost, SessionBytes: 1 << 20})
	s := d.openSession(1, 1000, 1)
	for sequence := uint64(1); ; sequence++ {
		if s.do(putRequest(sequence, "k", "v"))[0].Refusal != nil {
			break
		}
	}
	freeing := func(sequence uint64) *coordv1.Request {
		return request(sequence, coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte("k")})
	}
	most := 0
	for sequence := uint64(10); sequence < 50; sequence++ {
		if out := s.do(freeing(sequence))[0]; out.Refusal != nil {
			t.Fatalf("freeing %d: %v", sequence, out)
		}
		held, _ := d.m.Held()
		most = max(most, held)
	}
	if most < 10*putCost || most > 11*putCost {
		t.Errorf("%d bytes are held, %d outcomes", most, most/putCost)
	}
	check := func(what string) {
		t.Helper()
		d.do(put("k", "again"))
		if out := s.do(freeing(10))[0]; out.Refusal != nil {
			t.Errorf("%s, the copy of one that was kept: %v", what, out)
		}
		wantReason(t, s.do(freeing(49))[0], coordv1.Error_REASON_SEQUENCE_PAST)
		wantReason(t, s.do(putRequest(48, "k", "never"))[0], coordv1.Error_REASON_SEQUENCE_PAST)
		if d.value("k", 0) != "again" {
			t.Errorf("%s, a copy ran: %q", what, d.value("k", 0))
		}
	}
	check("at once")
	hash := d.hash()
	if d.reopen(); d.hash() != hash {
		t.Error("another state after a restart")
	}
	check("after a restart")
	if out := s.do(withdrawRequest(50, 60))[0]; out.Refusal != nil { // of what has not come yet
		t.Errorf("withdraw: %v", out)
	}
	wantReason(t, s.do(putRequest(60, "k", "withdrawn"))[0], coordv1.Error_REASON_SEQUENCE_PAST)

	other := d.openSession(2, 1000, 1)
	wantReason(t, other.do(putRequest(1, "o", "v"))[0], coordv1.Error_REASON_BACKLOG)
	for n := range uint64(5) {
		if out := other.do(freeing(n + 2))[0]; out.Refusal != nil {
			t.Fatalf("freeing %d of one who acknowledges: %v", n, out)
		}
		if out := other.do(freeing(n + 2))[0]; out.Refusal != nil {
			t.Fatalf("the copy of %d of one who acknowledges: %v", n, out)
		}
		other.acknowledged = n + 2
	}
	large := request(9, coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte("big"), PrevKv: true})
	d.do(put("big", strings.Repeat("x", 2000)))
	if out := other.do(large)[0]; out.Refusal != nil || len(out.Response) < 2000 || d.value("big", 0) != "-" {
		t.Errorf("a deletion with a large answer: %d bytes, %v", len(out.Response), out.Refusal)
	}
	wantReason(t, other.do(large)[0], coordv1.Error_REASON_SEQUENCE_PAST)
	s.acknowledged = 60
	if out := s.do(putRequest(61, "k", "v"))[0]; out.Refusal != nil {
		t.Errorf("after it acknowledged: %v", out)
	}
}

// A session at its own bound frees, too.
func TestWhatFreesRunsAtTheSessionsBound(t *testing.T) {
	d := newDriver(t)
	d.do(put("large", strings.Repeat("x", statemachine.MaxOutcomeBytes/4)))
	s := d.openSession(1, 1000, 1)
	sequence := uint64(1)
	for ; s.do(readRequest(sequence, "large"))[0].Refusal == nil; sequence++ {
	}
	prev := func() *coordv1.Request {
		return request(sequence, coordv1.Kind_KIND_DELETE_RANGE,
			&pb.DeleteRangeRequest{Key: []byte("large"), PrevKv: true})
	}
	for range 4 { // beyond the quarter more
		if out := s.do(prev())[0]; out.Refusal != nil || len(out.Response) < statemachine.MaxOutcomeBytes/4 {
			t.Fatalf("deletion %d: %d bytes, %v", sequence, len(out.Response), out.Refusal)
		}
		sequence++
		d.do(put("large", strings.Repeat("x", statemachine.MaxOutcomeBytes/4)))
	}
	if held, _ := d.m.Held(); held > statemachine.MaxOutcomeBytes/4*6 {
		t.Errorf("%d bytes are held", held)
	}
	sequence--
	wantReason(t, s.do(prev())[0], coordv1.Error_REASON_SEQUENCE_PAST)
	if d.value("large", 0) == "-" {
		t.Error("a copy deleted again")
	}
}

// Sessions count with their identities. From three quarters on who has more than its share of streams is refused, and
// others go on.
func TestSessionsShareTheRoom(t *testing.T) {
	const cost = statemachine.SessionOverhead + 2
	d := roomy(t, statemachine.Room{OutcomeBytes: 1 << 20, SessionBytes: 16 * cost})
	for id := range int64(12) {
		d.openSession(id+1, 1000, 1)
	}
	open := func(id int64, stream uint64, identity string) error {
		return d.do(command(raftv1.KindSessionOpen, &raftv1.SessionOpen{
			Id: id, TtlMs: 1000, Stream: stream, Identity: []byte(identity),
		}))[0].Err
	}
	if err := open(20, 1, "me"); !errors.Is(err, statemachine.ErrTooManySessions) ||
		statemachine.RefusalOf(err).Reason != coordv1.Error_REASON_TOO_MANY_SESSIONS {
		t.Errorf("a thirteenth: %v", err)
	}
	d.openSession(21, 1000, 2)
	d.openSession(22, 1000, 2)
	if err := open(23, 2, "me"); !errors.Is(err, statemachine.ErrTooManySessions) {
		t.Errorf("a third of the second stream: %v", err)
	}
	d.reopen()
	if _, held := d.m.Held(); held != 14*cost {
		t.Errorf("%d bytes are held, not %d", held, 14*cost)
	}
	if err := open(23, 3, strings.Repeat("x", 600)); !errors.Is(err, statemachine.ErrTooManySessions) {
		t.Errorf("one with a long identity: %v", err)
	}
	d.openSession(23, 1000, 3)
	d.do(command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 1}), command(raftv1.KindLeaseRevoke,
		&raftv1.LeaseRevoke{Id: 2}),
		command(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 3}), command(raftv1.KindLeaseRevoke,
			&raftv1.LeaseRevoke{Id: 4}))
	if err := open(24, 1, "me"); err != nil {
		t.Errorf("after four ended: %v", err)
	}
}

// A session's TTL and identity are bounded, a lease's TTL is etcd's.
func TestSessionsAreBoundedInTimeAndIdentity(t *testing.T) {
	d := newDriver(t)
	d.openSession(1, statemachine.MaxSessionTTL, 1)
	for _, r := range []*raftv1.SessionOpen{
		{Id: 2, TtlMs: statemachine.MaxSessionTTL + 1, Stream: 1},
		{Id: 2, TtlMs: 1000, Stream: 1, Identity: make([]byte, statemachine.MaxIdentity+1)},
	} {
		if err := d.do(command(raftv1.KindSessionOpen, r))[0].Err; !errors.Is(err, statemachine.ErrInvalid) {
			t.Errorf("%d ms, %d bytes: %v", r.TtlMs, len(r.Identity), err)
		}
	}
	if err := d.do(command(raftv1.KindLeaseGrant,
		&raftv1.LeaseGrant{Id: 3, TtlMs: 9_000_000_000_000}))[0].Err; err != nil {
		t.Errorf("a lease of etcd's longest TTL: %v", err)
	}
}

// The text of a refusal is bounded, since it is kept.
func TestRefusalsAreShort(t *testing.T) {
	r := statemachine.RefusalOf(errors.New(strings.Repeat("é", 1<<20)))
	if len(r.Message) > statemachine.RefusalSize || !strings.HasPrefix(r.Message, "éé") ||
		!strings.HasSuffix(r.Message, "é…") {
		t.Errorf("%d bytes", len(r.Message))
	}
}
