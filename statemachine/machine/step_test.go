package machine_test

import (
	"errors"
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

// procedure is a Procedure made of a function.
type procedure struct {
	name string
	run  func(s statemachine.Step) error
	// frees says that it only gives something back.
	frees bool
}

func (p procedure) Name() string { return p.name }

func (p procedure) Kind() coordv1.Kind { return 0 }

func (procedure) Request() proto.Message { return nil }

func (p procedure) Frees() bool { return p.frees }

func (p procedure) Run(s statemachine.Step, _ []byte) ([]byte, error) {
	return []byte(p.name), p.run(s)
}

func call(name string) raftv1.Command {
	return command(raftv1.KindCall, &raftv1.Call{Procedure: name})
}

// runStep runs fn as a procedure on a store where "old" is "0", and returns its result.
func runStep(t *testing.T, fn func(statemachine.Step) error) (*driver, statemachine.Result) {
	d := newDriver(t, procedure{name: "test", run: fn})
	d.do(put("old", "0"))
	return d, d.do(call("test"))[0]
}

func mustPut(t *testing.T, s statemachine.Step, key, value string, want int64) {
	t.Helper()
	if rev, err := s.Put([]byte(key), []byte(value), 0); err != nil || rev != want {
		t.Errorf("put %s: revision %d, %v; want %d", key, rev, err, want)
	}
}

func TestStepWritesShareARevisionUntilTheNext(t *testing.T) {
	d, result := runStep(t, func(s statemachine.Step) error {
		s.NextRevision() // nothing was written: it does nothing
		mustPut(t, s, "a", "1", 3)
		if had, err := s.Delete([]byte("old")); !had || err != nil {
			t.Errorf("delete: %v %v", had, err)
		}
		if s.Revision() != 3 {
			t.Errorf("revision %d while the step writes 3", s.Revision())
		}
		s.NextRevision()
		s.NextRevision()
		mustPut(t, s, "a", "2", 4)
		if kv := s.Get([]byte("a")); kv.CreateRevision != 3 || kv.ModRevision != 4 || kv.Version != 2 {
			t.Errorf("the step reads %v", kv)
		}
		if kv := s.Get([]byte("old")); kv != nil {
			t.Errorf("the step reads %v, which it deleted", kv)
		}
		return nil
	})
	want := statemachine.Called{Response: []byte("test"), Revision: 4}
	if got, ok := result.Response.(statemachine.Called); !ok || string(got.Response) != string(want.Response) ||
		got.Revision != want.Revision {
		t.Fatalf("%+v, want %+v", result, want)
	}
	var events []string
	for _, e := range d.last.Events {
		events = append(events, fmt.Sprintf("%s %s %d", e.Type, e.Kv.Key, e.Kv.ModRevision))
	}
	if got := strings.Join(events, ", "); got != "PUT a 3, DELETE old 3, PUT a 4" {
		t.Errorf("events: %s", got)
	}
	if got := d.do(put("next", ""))[0].Response.(*pb.PutResponse).Header.Revision; got != 5 {
		t.Errorf("the next command has revision %d", got)
	}
}

func TestStepWithoutWritesHasNoRevision(t *testing.T) {
	d, result := runStep(t, func(s statemachine.Step) error {
		if had, err := s.Delete([]byte("missing")); had || err != nil {
			t.Errorf("delete of a missing key: %v %v", had, err)
		}
		return nil
	})
	if result.Err != nil || d.last.Revision != 2 || len(d.last.Events) != 0 {
		t.Fatalf("%+v, revision %d, events %v", result, d.last.Revision, d.last.Events)
	}
}

func TestStepRefusesASecondWriteOfAKey(t *testing.T) {
	_, result := runStep(t, func(s statemachine.Step) error {
		mustPut(t, s, "a", "1", 3)
		if _, err := s.Put([]byte("a"), nil, 0); !errors.Is(err, statemachine.ErrInvalid) {
			t.Errorf("a second put: %v", err)
		}
		if _, err := s.Delete([]byte("a")); !errors.Is(err, statemachine.ErrInvalid) {
			t.Errorf("a delete of what was put: %v", err)
		}
		if _, err := s.Delete([]byte("old")); err != nil {
			t.Error(err)
		}
		if _, err := s.Put([]byte("old"), nil, 0); !errors.Is(err, statemachine.ErrInvalid) {
			t.Errorf("a put of what was deleted: %v", err)
		}
		if _, err := s.Put(nil, nil, 0); !errors.Is(err, statemachine.ErrInvalid) {
			t.Errorf("a put without a key: %v", err)
		}
		if _, err := s.Put([]byte("leased"), nil, 77); !errors.Is(err, statemachine.ErrLeaseNotFound) {
			t.Errorf("a put on a missing lease: %v", err)
		}
		s.NextRevision()
		mustPut(t, s, "a", "2", 4)
		return nil
	})
	if result.Err != nil {
		t.Fatal(result.Err)
	}
}

func TestStepRefusesWithoutATrace(t *testing.T) {
	refusal := errors.New("not today")
	d, result := runStep(t, func(statemachine.Step) error { return refusal })
	if result.Err != refusal || result.Response != nil || d.last.Revision != 2 {
		t.Fatalf("%+v at revision %d", result, d.last.Revision)
	}
}

// What a procedure wrote before it refused is undone, at however many revisions that was, and what comes after it in
// the same entry sees nothing of it.
func TestRefusalAfterWritesLeavesNoTrace(t *testing.T) {
	procedures := func(refuse bool) []statemachine.Procedure {
		return []statemachine.Procedure{procedure{name: "test", run: func(s statemachine.Step) error {
			if !refuse {
				return errors.New("no")
			}
			for range 3 {
				s.Delete([]byte("old"))
				s.Put([]byte("old"), []byte("in vain"), 0)
				s.Put([]byte("new"), []byte("in vain"), 0)
				s.PutEntry([]byte("leased"), nil, 5, statemachine.Attachment{Kind: 3, LingerMS: 9})
				s.Touch([]byte("entry"))
				s.NextRevision()
			}
			s.Delete([]byte("entry"))
			s.Mend("q")
			return errors.New("no")
		}}}
	}
	var want string
	for _, refuse := range []bool{false, true} {
		d := newDriver(t, procedures(refuse)...)
		d.do(put("old", "0"), command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5, TtlMs: 10}),
			command(raftv1.KindPut, &pb.PutRequest{Key: []byte("entry"), Lease: 5}))
		results := d.do(put("before", ""), call("test"), put("after", "1"), call("test"))
		if fmt.Sprint(results[1].Err) != "no" || results[1].Response != nil {
			t.Fatalf("%+v", results[1])
		}
		got := fmt.Sprintf("revision %d, %d, events %v, hash %x", d.last.Revision,
			results[2].Response.(*pb.PutResponse).Header.Revision,
			d.last.Events, d.hash())
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%s\nwithout the writes %s", got, want)
		}
		d.reopen()
		if hash := d.hash(); !strings.HasSuffix(got, fmt.Sprintf("%x", hash)) {
			t.Errorf("opened again: hash %x, %s", hash, got)
		}
	}
}

// An attempt that fails is undone; the procedure goes on from there, at the revision it had.
func TestAttemptIsUndoneAlone(t *testing.T) {
	d, result := runStep(t, func(s statemachine.Step) error {
		mustPut(t, s, "a", "1", 3)
		failed := errors.New("failed")
		err := s.Attempt(func() error {
			mustPut(t, s, "b", "in vain", 3)
			s.Delete([]byte("old"))
			s.NextRevision()
			mustPut(t, s, "a", "in vain", 4)
			return failed
		})
		if err != failed {
			t.Errorf("the attempt returns %v", err)
		}
		if _, err := s.Put([]byte("a"), nil, 0); !errors.Is(err, statemachine.ErrInvalid) {
			t.Errorf("a second put of a at its revision: %v", err)
		}
		mustPut(t, s, "b", "2", 3)
		return s.Attempt(func() error {
			mustPut(t, s, "c", "3", 3)
			return nil
		})
	})
	if result.Err != nil || d.value("a", 0) != "1" || d.value("b", 0) != "2" || d.value("c", 0) != "3" ||
		d.value("old", 0) != "0" {
		t.Errorf("%v: a %q b %q c %q old %q", result.Err, d.value("a", 0), d.value("b", 0), d.value("c", 0),
			d.value("old", 0))
	}
	if len(d.last.Events) != 3 || d.last.Revision != 3 {
		t.Errorf("events %v, revision %d", d.last.Events, d.last.Revision)
	}
}

func TestUnknownProcedureStopsTheReplica(t *testing.T) {
	d := newDriver(t)
	if _, err := d.m.Update([]sm.Entry{d.entry(call("of.a.newer.version"))}); err == nil {
		t.Fatal("the replica goes on")
	}
}

func TestUnknownCommandStopsTheReplica(t *testing.T) {
	d := newDriver(t)
	if _, err := d.m.Update([]sm.Entry{d.entry(raftv1.Command{Kind: 100})}); err == nil {
		t.Fatal("the replica goes on")
	}
}

func TestStepWithoutSpaceDeletesOnly(t *testing.T) {
	d := newDriver(t, procedure{name: "test", run: func(s statemachine.Step) error {
		if _, err := s.Put([]byte("a"), nil, 0); !errors.Is(err, statemachine.ErrNoSpace) {
			t.Errorf("a put without space: %v", err)
		}
		_, err := s.Delete([]byte("old"))
		return err
	}})
	d.do(put("old", "0"), command(raftv1.KindAlarm, &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: self, Alarm: pb.AlarmType_NOSPACE,
	}))
	if r := d.do(call("test")); r[0].Err != nil || d.value("old", 0) != "-" {
		t.Errorf("%+v, old is %q", r[0], d.value("old", 0))
	}
}

// TestStepSeesLeasesAndTheBatch: what the commands before it in the same entry did, leases that are alive, and their
// keys.
func TestStepSeesLeasesAndTheBatch(t *testing.T) {
	var seen string
	d := newDriver(t, procedure{name: "test", run: func(s statemachine.Step) error {
		seen = fmt.Sprintf("%v %v %q %d:", s.LeaseAlive(5), s.LeaseAlive(6), s.LeaseKeys(5), s.ClockMS())
		s.Scan([]byte("a"), []byte("c"), func(kv *kv) bool {
			seen += fmt.Sprintf(" %s@%d", kv.Key, kv.ModRevision)
			return true
		})
		return nil
	}})
	grant := command(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 5, TtlMs: 10})
	leased := command(raftv1.KindPut, &pb.PutRequest{Key: []byte("b"), Lease: 5})
	d.do(put("c", ""), grant, leased, put("a", ""), call("test"))
	if want := `true false ["b"] 0: a@4 b@3`; seen != want {
		t.Errorf("the step sees %s, want %s", seen, want)
	}
	tick := func(n uint64, delta int64) raftv1.Command {
		return command(raftv1.KindTick, &raftv1.Tick{Number: n, DeltaMs: delta, Seen: d.index})
	}
	d.do(tick(1, 3))
	d.do(tick(2, 10), call("test"))
	if want := `false false [] 13: a@4`; seen != want {
		t.Errorf("after the expiry the step sees %s, want %s", seen, want)
	}
}
