package machine_test

import (
	"fmt"
	"strings"
	"testing"

	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// session is an open session of a driver.
type session struct {
	d                            *driver
	id                           int64
	created, epoch, acknowledged uint64
	unixMS                       int64
}

// openSession opens a session on a stream.
func (d *driver) openSession(id, ttl int64, stream uint64) *session {
	d.t.Helper()
	r := d.do(command(raftv1.KindSessionOpen, &raftv1.SessionOpen{
		Id: id, TtlMs: ttl, Stream: stream, Identity: []byte("me"),
	}))[0]
	opened, ok := r.Response.(statemachine.SessionOpened)
	if !ok || opened.Created != d.index || opened.Epoch != 1 || opened.TTL != ttl {
		d.t.Fatalf("open session: %+v", r)
	}
	return &session{d: d, id: id, created: opened.Created, epoch: 1}
}

// command is the command with some requests of the session.
func (s *session) command(requests ...*coordv1.Request) raftv1.Command {
	c := &raftv1.Requests{
		Session: s.id, Created: s.created, Epoch: s.epoch, Acknowledged: s.acknowledged, UnixMs: s.unixMS,
	}
	for _, r := range requests {
		c.Requests = append(c.Requests, encode(r))
	}
	return command(raftv1.KindRequests, c)
}

// do applies requests in one command and returns their outcomes.
func (s *session) do(requests ...*coordv1.Request) []*coordv1.Outcome {
	s.d.t.Helper()
	r := s.d.do(s.command(requests...))[0]
	if r.Err != nil {
		s.d.t.Fatalf("requests: %v", r.Err)
	}
	return outcomes(s.d.t, r)
}

func outcomes(t testing.TB, r statemachine.Result) []*coordv1.Outcome {
	t.Helper()
	done, ok := r.Response.(statemachine.RequestsDone)
	if !ok {
		t.Fatalf("%+v", r)
	}
	var out []*coordv1.Outcome
	for _, data := range done.Outcomes {
		o := &coordv1.Outcome{}
		if err := proto.Unmarshal(data, o); err != nil || (o.Response == nil) == (o.Refusal == nil) {
			t.Fatalf("outcome %x: %v", data, err)
		}
		out = append(out, o)
	}
	return out
}

func encode(m proto.Message) []byte {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

func request(sequence uint64, kind coordv1.Kind, body proto.Message) *coordv1.Request {
	return &coordv1.Request{Sequence: sequence, Kind: kind, Body: encode(body)}
}

func putRequest(sequence uint64, key, value string) *coordv1.Request {
	return request(sequence, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func withdrawRequest(sequence, of uint64) *coordv1.Request {
	return request(sequence, coordv1.Kind_KIND_WITHDRAW, &coordv1.Withdraw{Sequence: of})
}

// response decodes the response of a request that was executed.
func response[T any, M interface {
	*T
	proto.Message
}](t testing.TB, o *coordv1.Outcome) M {
	t.Helper()
	m := M(new(T))
	if o.Refusal != nil {
		t.Fatalf("refused: %v", o.Refusal)
	}
	if err := proto.Unmarshal(o.Response, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func wantReason(t testing.TB, o *coordv1.Outcome, want coordv1.Error_Reason) {
	t.Helper()
	if o.Refusal.GetReason() != want {
		t.Errorf("outcome %v, want refusal %s", o, want)
	}
}

// tick lets time pass, by a member that has seen all of the log.
func (d *driver) tick(delta int64) {
	d.t.Helper()
	d.tickSeen(delta, d.index)
}

func (d *driver) tickSeen(delta int64, seen uint64) {
	d.t.Helper()
	next := d.last.Leases.LastTick + 1
	r := d.do(command(raftv1.KindTick, &raftv1.Tick{Number: next, DeltaMs: delta, Seen: seen}))[0]
	if !r.Response.(statemachine.Ticked).Applied {
		d.t.Fatalf("tick %d was not applied", next)
	}
}

func (d *driver) renewStream(streams ...uint64) {
	d.t.Helper()
	d.do(command(raftv1.KindStreamRenew, &raftv1.StreamRenew{Streams: streams}))
}

// events shows the events of the last entry.
func (d *driver) events() string {
	var out []string
	for _, e := range d.last.Events {
		line := fmt.Sprintf("%s %s @%d", e.Type, e.Kv.Key, e.Kv.ModRevision)
		if e.Kv.CreateRevision > 0 {
			line += fmt.Sprintf(" created %d", e.Kv.CreateRevision)
		}
		out = append(out, line)
	}
	return strings.Join(out, ", ")
}

// reopen restarts the machine.
func (d *driver) reopen() {
	d.t.Helper()
	if err := d.m.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.open()
}

func TestRequestsRunOnceInOrderEachInItsRevision(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	out := s.do(putRequest(1, "a", "1"), putRequest(2, "a", "2"),
		request(3, coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte("a"), PrevKv: true}),
		request(4, coordv1.Kind_KIND_TXN, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
			RequestRange: &pb.RangeRequest{Key: []byte("a")}}}}}),
		request(5, coordv1.Kind_KIND_PUT, &pb.PutRequest{Key: []byte("b"), Lease: 5, PrevKv: true}))
	for i, want := range []int64{2, 3} {
		if got := response[pb.PutResponse](t, out[i]); got.Header.Revision != want || got.PrevKv != nil {
			t.Errorf("put %d: %v", i+1, got)
		}
	}
	if got := response[pb.DeleteRangeResponse](t, out[2]); got.Deleted != 1 || got.Header.Revision != 4 ||
		string(got.PrevKvs[0].Value) != "2" {
		t.Errorf("delete: %v", got)
	}
	if got := response[pb.TxnResponse](t, out[3]); !got.Succeeded || got.Header.Revision != 4 ||
		got.Responses[0].GetResponseRange() == nil {
		t.Errorf("txn: %v", got)
	}
	if got := d.last.Revision; got != 5 {
		t.Errorf("revision %d", got)
	}
	again := s.do(putRequest(2, "a", "9"), putRequest(1, "a", "9"))
	if !proto.Equal(again[0], out[1]) || !proto.Equal(again[1], out[0]) || len(d.last.Events) > 0 {
		t.Errorf("sent again: %v, events %s", again, d.events())
	}
}

// A retry gets the first outcome, over restarts and snapshots, until the client has acknowledged it.
func TestOutcomesSurviveRestartsUntilTheyAreAcknowledged(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	first := s.do(putRequest(1, "a", "1"), putRequest(3, "b", "1"), withdrawRequest(4, 4))
	wantReason(t, first[2], coordv1.Error_REASON_INVALID)
	d.reopen()
	again := s.do(putRequest(1, "a", "1"), putRequest(3, "b", "1"), withdrawRequest(4, 4))
	for i := range first {
		if !proto.Equal(first[i], again[i]) {
			t.Errorf("request %d: %v, then %v", i, first[i], again[i])
		}
	}
	s.acknowledged = 3
	s.do()
	d.reopen()
	s.acknowledged = 0 // an old frame changes nothing
	out := s.do(putRequest(3, "b", "2"), withdrawRequest(4, 4), putRequest(5, "c", ""),
		putRequest(3+statemachine.MaxSequenceLead, "d", ""),
		putRequest(4+statemachine.MaxSequenceLead, "e", ""))
	wantReason(t, out[0], coordv1.Error_REASON_SEQUENCE_PAST)
	wantReason(t, out[1], coordv1.Error_REASON_INVALID)
	response[pb.PutResponse](t, out[2])
	response[pb.PutResponse](t, out[3])
	wantReason(t, out[4], coordv1.Error_REASON_SEQUENCE_FUTURE)
}

func TestUnknownKindOfASessionStopsTheReplica(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	for _, kind := range []coordv1.Kind{-1, 0, 128, 1 << 30} {
		wantReason(t, s.do(&coordv1.Request{Sequence: 1 + s.acknowledged, Kind: kind})[0], coordv1.Error_REASON_INVALID)
		s.acknowledged++
	}
	e := d.entry(s.command(&coordv1.Request{Sequence: 9, Kind: 127}))
	if _, err := d.m.Update([]sm.Entry{e}); err == nil {
		t.Fatal("the replica goes on")
	}
}
