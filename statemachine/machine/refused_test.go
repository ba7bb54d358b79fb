package machine_test

import (
	"errors"
	"testing"

	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// TestRefusedCommand: a machine that ends at a command applies the log once the operator has refused it: it was not
// executed, and who asked is told so, a session for good.
func TestRefusedCommand(t *testing.T) {
	boom := procedure{name: "boom", run: func(statemachine.Step) error { panic("boom") }}
	d := newDriver(t, boom, acquiring{})
	d.guard = func(_ statemachine.Step, g *coordv1.Guard) bool {
		if g.Key == "boom" {
			panic("boom")
		}
		return true
	}
	d.reopen()
	s := d.openSession(5, 1000, 9)
	guarded := putRequest(2, "b", "")
	guarded.Guards = []*coordv1.Guard{{Key: "boom"}}
	log := []sm.Entry{d.entry(put("a", "1"), call("boom"), put("c", "1")),
		d.entry(s.command(putRequest(1, "d", ""), guarded, putRequest(3, "e", "")))}
	end := func() string {
		d.ended = ""
		if _, err := d.m.Update(log); err == nil {
			return ""
		}
		d.m.Close()
		return d.ended
	}
	refuse := func(command string, want error) {
		t.Helper()
		r, err := statemachine.ParseRefused(command)
		if err != nil || r.String() != command {
			t.Fatal(r, err)
		}
		if err := machine.RefuseCommand(d.fs, "db", r, nil, zap.NewNop()); !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", command, err, want)
		}
	}
	before := d.hash()
	for _, command := range []string{"2.2", "3.1.2"} {
		if end() == "" {
			t.Fatalf("the machine goes on at %s", command)
		}
		refuse(command, nil)
		refuse(command, machine.ErrRefusedBefore)
		d.open()
		if d.hash() == before {
			t.Error("the list is not part of the state")
		}
		before = d.hash()
	}
	if line := end(); line != "" {
		t.Fatal(line)
	}
	results := d.last.Entries[0].Results
	if !errors.Is(results[1].Err, statemachine.ErrRefusedByOperator) || results[0].Err != nil ||
		results[2].Err != nil || d.value("c", 0) != "1" {
		t.Errorf("%+v", results)
	}
	for range 2 { // sent again, it is refused again
		out := s.do(guarded, putRequest(3, "e", ""))
		wantReason(t, out[0], coordv1.Error_REASON_REFUSED_BY_OPERATOR)
		if out[1].Refusal != nil || d.value("b", 0) != "-" || d.value("e", 0) != "" {
			t.Errorf("%v", out)
		}
		d.reopen()
	}
	d.m.Close()
	var late *machine.RefusalTooLateError
	if err := machine.RefuseCommand(d.fs, "db", statemachine.Refused{Index: 2, Command: 1}, nil,
		zap.NewNop()); !errors.As(err, &late) || late.Applied < 3 {
		t.Errorf("a command that was applied: %v", err)
	}
	d.open()
	for _, text := range []string{"", "1", "0.1", "1.0", "1.2.3.4", "1.x", "1.2.0", "-1.2", "99999999999999999999.1"} {
		if r, err := statemachine.ParseRefused(text); err == nil {
			t.Errorf("%q is read as %v", text, r)
		}
	}
}

// TestRefusedCommandAcknowledgesNothing: of a command with requests that is refused as a whole nothing is done at which
// a member may have ended: its watermark neither.
func TestRefusedCommandAcknowledgesNothing(t *testing.T) {
	d := newDriver(t)
	s := d.openSession(5, 1000, 9)
	s.do(putRequest(1, "a", "1"))
	d.m.Close()
	if err := machine.RefuseCommand(d.fs, "db", statemachine.Refused{Index: d.index + 1, Command: 1}, nil,
		zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	d.open()
	s.acknowledged = 1
	wantReason(t, s.do(putRequest(2, "a", "2"))[0], coordv1.Error_REASON_REFUSED_BY_OPERATOR)
	s.acknowledged = 0
	if out := s.do(putRequest(1, "a", "3"))[0]; out.Refusal != nil || d.value("a", 0) != "1" {
		t.Errorf("sent again: %v, a is %q", out, d.value("a", 0))
	}
}

// panicking is a reactor that panics.
type panicking struct{ reactor }

func (panicking) Deleted(statemachine.Step, string, []*mvccpb.KeyValue) error { panic("boom") }

// TestRefusedTick: where members end at what follows from an expiry, the lease goes all the same once its tick is
// refused, and the queue is broken; else they would end at it at each tick.
func TestRefusedTick(t *testing.T) {
	d := newDriver(t)
	d.reactor = panicking{}
	d.reopen()
	d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5, TtlMs: 10}))
	d.do(command(raftv1.KindPut, &pb.PutRequest{Key: []byte("q/1"), Lease: 5}))
	d.do(command(raftv1.KindTick, &raftv1.Tick{Number: 1, DeltaMs: 1, Seen: d.index}))
	tick := []sm.Entry{d.entry(command(raftv1.KindTick, &raftv1.Tick{Number: 2, DeltaMs: 100, Seen: d.index}))}
	if _, err := d.m.Update(tick); err == nil {
		t.Fatal("the machine goes on")
	}
	d.m.Close()
	if err := machine.RefuseCommand(d.fs, "db", statemachine.Refused{Index: d.index, Command: 1}, nil,
		zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	d.open()
	if _, err := d.m.Update(tick); err != nil {
		t.Fatal(err)
	}
	if _, _, there := d.m.Lease(5); there || d.value("q/1", 0) != "-" || !d.m.QueueBroken("q") {
		t.Errorf("lease 5 is there: %t, its key is %q, the queue is broken: %t", there, d.value("q/1", 0),
			d.m.QueueBroken("q"))
	}
	d.do(command(raftv1.KindTick, &raftv1.Tick{Number: 3, DeltaMs: 100, Seen: d.index}))
}

// TestRefusedLease: where members end at what is done for a lease that expires, that lease alone lives a day longer
// once it is refused, with its keys; another one of the same tick goes, and time passes.
func TestRefusedLease(t *testing.T) {
	d := newDriver(t)
	d.do(command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5, TtlMs: 10}),
		command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 6, TtlMs: 10}))
	d.do(command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), Lease: 5}),
		command(raftv1.KindPut, &pb.PutRequest{Key: []byte("b"), Lease: 6}))
	d.do(command(raftv1.KindTick, &raftv1.Tick{Number: 1, DeltaMs: 1, Seen: d.index}))
	d.m.Close()
	if err := machine.RefuseCommand(d.fs, "db", statemachine.Refused{Index: d.index + 1, Command: 1, Request: 1}, nil,
		zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	d.open()
	d.do(command(raftv1.KindTick, &raftv1.Tick{Number: 2, DeltaMs: 100, Seen: d.index}))
	for range 2 {
		l, _, there := d.m.Lease(5)
		if _, _, other := d.m.Lease(6); !there || other || d.value("a", 0) == "-" || d.value("b", 0) != "-" {
			t.Fatalf("lease 5 is there: %t, 6: %t, their keys are %q and %q", there, other, d.value("a", 0),
				d.value("b", 0))
		}
		if l.DeadlineMS != 101+24*60*60*1000 {
			t.Errorf("its deadline is %d", l.DeadlineMS)
		}
		d.reopen()
	}
	d.do(command(raftv1.KindTick, &raftv1.Tick{Number: 3, DeltaMs: 24*60*60*1000 - 1, Seen: d.index}))
	if _, _, there := d.m.Lease(5); !there {
		t.Error("the lease has gone early")
	}
	d.do(command(raftv1.KindTick, &raftv1.Tick{Number: 4, DeltaMs: 1, Seen: d.index}))
	if _, _, there := d.m.Lease(5); there || d.value("a", 0) != "-" {
		t.Error("the lease is there after its day")
	}
}
