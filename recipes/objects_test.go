package recipes_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// answer is what a request of a session came to, or the test fails.
func answer[Resp proto.Message](s *stage, session int64, kind coordv1.Kind, req proto.Message, resp Resp) Resp {
	s.Helper()
	must(s.T, s.ask(session, kind, req, resp))
	return resp
}

func (s *stage) add(name string, delta int64) (int64, error) {
	s.Helper()
	resp := &coordv1.CounterValue{}
	err := s.ask(1, coordv1.Kind_KIND_COUNTER_ADD, &coordv1.CounterAdd{Name: name, Delta: delta}, resp)
	return resp.Value, err
}

func (s *stage) set(name string, value int64, expected *int64) error {
	s.Helper()
	return s.ask(1, coordv1.Kind_KIND_COUNTER_SET, &coordv1.CounterSet{Name: name, Value: value, Expected: expected},
		&coordv1.CounterValue{})
}

func TestCounter(t *testing.T) {
	s := newStage(t, 1)
	before := s.Rev
	if v, err := s.add("a", 0); v != 0 || err != nil || s.Rev != before || s.Len() != 0 {
		t.Errorf("nothing was added: %d, %v, at revision %d", v, err, s.Rev)
	}
	sum := int64(0)
	for _, delta := range []int64{5, -7, 0, 1 << 62, 1 << 62, -(1 << 62), math.MaxInt64, 1} {
		got, err := s.add("a", delta)
		if (delta > 0 && sum > math.MaxInt64-delta) || (delta < 0 && sum < math.MinInt64-delta) {
			wantRefusal(t, "too much", err, recipes.ErrOverflow, `"a" is `)
			continue
		}
		if sum += delta; err != nil || got != sum {
			t.Fatalf("added %d: %d, %v, want %d", delta, got, err, sum)
		}
	}
	if v, err := s.add("a/b", 1); v != 1 || err != nil {
		t.Errorf("another counter: %d, %v", v, err)
	}
	for _, edge := range []int64{math.MaxInt64, math.MinInt64} {
		must(t, s.set("edge", edge, nil))
		out := int64(1)
		if edge < 0 {
			out = -1
		}
		rev := s.Rev
		for _, delta := range []int64{out, edge} {
			_, err := s.add("edge", delta)
			wantRefusal(t, "beyond the edge", err, recipes.ErrOverflow, "cannot be added")
		}
		if v, err := s.add("edge", 0); v != edge || err != nil || s.Rev != rev {
			t.Errorf("after refusals: %d, %v, at revision %d, want %d at %d", v, err, s.Rev, edge, rev)
		}
		if v, err := s.add("edge", -out); v != edge-out || err != nil {
			t.Errorf("back from the edge: %d, %v", v, err)
		}
	}
	zero, one := int64(0), int64(1)
	wantRefusal(t, "another value", s.set("new", 9, &one), recipes.ErrValueMismatch, `"new" is 0, not 1`)
	must(t, s.set("new", 9, &zero))
	if v, _ := s.add("new", 1); v != 10 {
		t.Errorf("set to 9, and 1 added: %d", v)
	}
}

func (s *stage) next(name string, count int64) (*coordv1.SequenceRange, error) {
	s.Helper()
	resp := &coordv1.SequenceRange{}
	return resp, s.ask(1, coordv1.Kind_KIND_SEQUENCE_NEXT, &coordv1.SequenceNext{Name: name, Count: count}, resp)
}

func TestSequence(t *testing.T) {
	s := newStage(t, 1)
	first := int64(1)
	for _, count := range []int64{1, 1, 100, 1 << 32, 1} {
		r, err := s.next("ids", count)
		if err != nil || r.First != first || r.Count != count || r.Revision != s.Rev {
			t.Fatalf("next %d: %v, %v, want it from %d", count, r, err, first)
		}
		first += count
	}
	must(t, s.Put(layout.Sequence.Key("old"), sequenceValue(t, math.MaxInt64-2), 0))
	_, err := s.next("old", 3)
	wantRefusal(t, "too many", err, recipes.ErrOverflow, "2 numbers left, not 3")
	if r, err := s.next("old", 2); err != nil || r.First != math.MaxInt64-1 {
		t.Errorf("the last two: %v, %v", r, err)
	}
	_, err = s.next("old", 1)
	wantRefusal(t, "none left", err, recipes.ErrOverflow, "0 numbers left")
}

func (s *stage) latch(kind coordv1.Kind, req proto.Message) (*coordv1.LatchState, error) {
	s.Helper()
	resp := &coordv1.LatchState{}
	return resp, s.ask(1, kind, req, resp)
}

func (s *stage) countDown(name string, count, generation int64) (*coordv1.LatchState, error) {
	s.Helper()
	return s.latch(coordv1.Kind_KIND_LATCH_COUNT_DOWN,
		&coordv1.LatchCountDown{Name: name, Count: count, Generation: generation})
}

func (s *stage) setLatch(name string, count int64) (*coordv1.LatchState, error) {
	s.Helper()
	return s.latch(coordv1.Kind_KIND_LATCH_SET, &coordv1.LatchSet{Name: name, Count: count})
}

func TestLatch(t *testing.T) {
	s := newStage(t, 1)
	_, err := s.countDown("l", 1, 0)
	wantRefusal(t, "before it was set", err, recipes.ErrNotSet, `"l"`)
	set, err := s.setLatch("l", 3)
	if err != nil || set.Generation != s.Rev || set.Count != 3 || set.Remaining != 3 {
		t.Fatalf("set: %v, %v", set, err)
	}
	_, err = s.setLatch("l", 1)
	wantRefusal(t, "set while it counts", err, recipes.ErrLatchState, "3 remain")
	if l, err := s.countDown("l", 1, set.Generation); err != nil || l.Remaining != 2 || l.Generation != set.Generation {
		t.Errorf("down by one: %v, %v", l, err)
	}
	if l, err := s.countDown("l", 5, 0); err != nil || l.Remaining != 0 || l.Count != 3 {
		t.Errorf("down by more than there is: %v, %v", l, err)
	}
	rev := s.Rev
	if l, err := s.countDown("l", 1, 0); err != nil || l.Remaining != 0 || s.Rev != rev {
		t.Errorf("down at zero: %v, %v, at revision %d after %d", l, err, s.Rev, rev)
	}
	again, err := s.setLatch("l", 1)
	if err != nil || again.Generation <= set.Generation {
		t.Errorf("set again: %v, %v", again, err)
	}
	_, err = s.countDown("l", 1, set.Generation)
	wantRefusal(t, "of the generation before", err, recipes.ErrLatchState, "generation")
	s.Delete(layout.Latch.Key("l"))
	if third, err := s.setLatch("l", 0); err != nil || third.Generation <= again.Generation || third.Remaining != 0 {
		t.Errorf("set after its key was deleted: %v, %v", third, err)
	}
}

func (s *stage) gate(session int64, req *coordv1.GateClose) *coordv1.GateState {
	s.Helper()
	return answer(s, session, coordv1.Kind_KIND_GATE_CLOSE, req, &coordv1.GateState{})
}

func TestGate(t *testing.T) {
	s := newStage(t, 1, 2)
	open := func() *coordv1.GateState {
		return answer(s, 2, coordv1.Kind_KIND_GATE_OPEN, &coordv1.GateOpen{Name: "g"}, &coordv1.GateState{})
	}
	if g := open(); g.Changed || g.Closed || s.Rev != 1 {
		t.Errorf("opened what was not closed: %v", g)
	}
	first := s.gate(1, &coordv1.GateClose{Name: "g", Bound: true, Reason: "because"})
	if !first.Closed || !first.Changed || first.Since != s.Rev || first.Session != 1 || first.Reason != "because" {
		t.Errorf("closed: %v", first)
	}
	if g := s.gate(2, &coordv1.GateClose{Name: "g"}); g.Changed || g.Since != first.Since || g.Session != 0 ||
		g.Reason != "" {
		t.Errorf("closed anew: %v", g)
	}
	s.Expire(1)
	if s.Get([]byte(layout.Gate.Key("g"))) == nil {
		t.Error("open after the session ended that it is not bound to any more")
	}
	s.gate(2, &coordv1.GateClose{Name: "g", Bound: true})
	s.Expire(2)
	if s.Get([]byte(layout.Gate.Key("g"))) != nil {
		t.Error("closed after its session ended")
	}
	s.Leases[2], s.Sessions[2] = true, true
	if g := s.gate(2, &coordv1.GateClose{Name: "g"}); g.Since <= first.Since {
		t.Errorf("the next closing: %v", g)
	}
	if g := open(); !g.Changed || g.Revision != s.Rev || s.Get([]byte(layout.Gate.Key("g"))) != nil {
		t.Errorf("opened: %v", g)
	}
}

func (s *stage) join(session int64, group, id, data string) (*coordv1.GroupJoined, error) {
	s.Helper()
	resp := &coordv1.GroupJoined{}
	return resp, s.ask(session, coordv1.Kind_KIND_GROUP_JOIN,
		&coordv1.GroupJoin{Name: group, Member: id, Data: []byte(data)}, resp)
}

// members are the ids and data of a group's members, in order.
func (s *stage) members(group string) string {
	var list []string
	from, end := layout.Group.Range(group).Bytes()
	for _, m := range objects.Members(group, scanned(s, from, end)) {
		list = append(list, m.Id+"="+string(m.Data))
	}
	return strings.Join(list, " ")
}

func TestGroup(t *testing.T) {
	s := newStage(t, 1, 2, 3)
	for _, m := range []struct {
		session         int64
		group, id, data string
	}{{2, "g", "z", "1"}, {1, "g", "a", ""}, {1, "g", "b", "2"}, {3, "g/sub", "c", ""}} {
		if j, err := s.join(m.session, m.group, m.id, m.data); err != nil || j.Joined != s.Rev {
			t.Fatalf("%v: %v, %v", m, j, err)
		}
	}
	if got := s.members("g"); got != "z=1 a= b=2" {
		t.Errorf("members: %s", got)
	}
	_, err := s.join(3, "g", "a", "")
	wantRefusal(t, "another session's id", err, recipes.ErrMemberExists, "session 1")
	rev := s.Rev
	if j, err := s.join(1, "g", "b", "2"); err != nil || j.Joined >= rev || s.Rev != rev {
		t.Errorf("the same session again: %v, %v", j, err)
	}
	if j, err := s.join(1, "g", "b", "3"); err != nil || j.Joined >= rev || s.Rev != rev+1 {
		t.Errorf("the same session with other data: %v, %v", j, err)
	}
	update := &coordv1.GroupUpdate{Name: "g", Member: "z", Data: []byte("9")}
	answer(s, 2, coordv1.Kind_KIND_GROUP_UPDATE, update, &coordv1.GroupUpdated{})
	if got := s.members("g"); got != "z=9 a= b=3" {
		t.Errorf("members after updates: %s", got)
	}
	for _, other := range []struct {
		kind coordv1.Kind
		req  proto.Message
	}{{coordv1.Kind_KIND_GROUP_UPDATE, update}, {coordv1.Kind_KIND_GROUP_LEAVE,
		&coordv1.GroupLeave{Name: "g", Member: "z"}}} {
		wantRefusal(t, "of another session's member", s.ask(1, other.kind, other.req, &coordv1.GroupUpdated{}),
			recipes.ErrMemberExists, "session 2")
	}
	leave := &coordv1.GroupLeave{Name: "g", Member: "z"}
	if l := answer(s, 2, coordv1.Kind_KIND_GROUP_LEAVE, leave, &coordv1.GroupLeft{}); !l.Left || l.Revision != s.Rev {
		t.Errorf("left: %v", l)
	}
	if l := answer(s, 2, coordv1.Kind_KIND_GROUP_LEAVE, leave, &coordv1.GroupLeft{}); l.Left {
		t.Errorf("left twice: %v", l)
	}
	wantRefusal(t, "update after leaving", s.ask(2, coordv1.Kind_KIND_GROUP_UPDATE, update, &coordv1.GroupUpdated{}),
		recipes.ErrNotSet, "no member")
	rev = s.Rev
	s.Expire(1)
	if got := s.members("g"); got != "" || s.Rev != rev+1 {
		t.Errorf("members after the session's end: %s, at revision %d after %d", got, s.Rev, rev)
	}
	if j, err := s.join(3, "g", "a", ""); err != nil || j.Joined != s.Rev {
		t.Errorf("the id of who has gone: %v, %v", j, err)
	}
	if got := s.members("g/sub"); got != "c=" {
		t.Errorf("members of another group: %s", got)
	}
}

// TestObjectsRefuseBadRequests: each by name, without an effect.
func TestObjectsRefuseBadRequests(t *testing.T) {
	s := newStage(t, 1)
	must(t, s.Put(layout.Counter.Key("foreign"), "\xff", 0))
	must(t, s.Put(layout.Sequence.Key("foreign"), sequenceValue(t, -1), 0))
	must(t, s.Put(layout.Latch.Key("foreign"), "", 0))
	must(t, s.Put(layout.MemberKey("g", "foreign"), "", 0))
	invalid, wrong := statemachine.ErrInvalid, recipes.ErrWrongKind
	long := strings.Repeat("x", 129)
	for _, bad := range []struct {
		kind coordv1.Kind
		req  proto.Message
		want error
		text string
	}{
		{coordv1.Kind_KIND_COUNTER_ADD, &coordv1.CounterAdd{Delta: 1}, invalid, "name is empty"},
		{coordv1.Kind_KIND_COUNTER_ADD, &coordv1.CounterAdd{Name: "a/", Delta: 1}, invalid, "ends in a slash"},
		{coordv1.Kind_KIND_COUNTER_ADD, &coordv1.CounterAdd{Name: "_coord/x", Delta: 1}, invalid, "reserved"},
		{coordv1.Kind_KIND_COUNTER_ADD, &coordv1.CounterAdd{Name: strings.Repeat("n", 1025), Delta: 1}, invalid,
			"1025 bytes"},
		{coordv1.Kind_KIND_COUNTER_ADD, &coordv1.CounterAdd{Name: "foreign", Delta: 1}, wrong, "counters/foreign"},
		{coordv1.Kind_KIND_COUNTER_SET, &coordv1.CounterSet{Name: "foreign"}, wrong, "counters/foreign"},
		{coordv1.Kind_KIND_SEQUENCE_NEXT, &coordv1.SequenceNext{Name: "s"}, invalid, "a count of 0"},
		{coordv1.Kind_KIND_SEQUENCE_NEXT, &coordv1.SequenceNext{Name: "s", Count: -1}, invalid, "a count of -1"},
		{coordv1.Kind_KIND_SEQUENCE_NEXT, &coordv1.SequenceNext{Name: "s", Count: 1<<32 + 1}, invalid,
			"a count of 4294967297"},
		{coordv1.Kind_KIND_SEQUENCE_NEXT, &coordv1.SequenceNext{Name: "foreign", Count: 1}, wrong, "sequences/foreign"},
		{coordv1.Kind_KIND_LATCH_SET, &coordv1.LatchSet{Name: "l", Count: -1}, invalid, "a count of -1"},
		{coordv1.Kind_KIND_LATCH_SET, &coordv1.LatchSet{Name: "foreign", Count: 1}, wrong, "latches/foreign"},
		{coordv1.Kind_KIND_LATCH_COUNT_DOWN, &coordv1.LatchCountDown{Name: "l"}, invalid, "a count of 0"},
		{coordv1.Kind_KIND_LATCH_COUNT_DOWN, &coordv1.LatchCountDown{Name: "l", Count: 1, Generation: -1}, invalid,
			"generation -1"},
		{coordv1.Kind_KIND_GATE_CLOSE, &coordv1.GateClose{Name: "g", Reason: strings.Repeat("r", 1025)}, invalid,
			"1025 bytes"},
		{coordv1.Kind_KIND_GATE_CLOSE, &coordv1.GateClose{Name: "g", Bound: true, Lease: 2}, invalid, "lease 2"},
		{coordv1.Kind_KIND_GATE_CLOSE, &coordv1.GateClose{Name: "g", Lease: 1}, invalid, "not bound"},
		{coordv1.Kind_KIND_GATE_OPEN, &coordv1.GateOpen{}, invalid, "name is empty"},
		{coordv1.Kind_KIND_GROUP_JOIN, &coordv1.GroupJoin{Name: "g"}, invalid, "member id has 0 bytes"},
		{coordv1.Kind_KIND_GROUP_JOIN, &coordv1.GroupJoin{Name: "g", Member: long}, invalid, "member id has 129 bytes"},
		{coordv1.Kind_KIND_GROUP_JOIN, &coordv1.GroupJoin{Name: "g", Member: "a/b"}, invalid, `"a/b"`},
		{coordv1.Kind_KIND_GROUP_JOIN, &coordv1.GroupJoin{Name: "g/", Member: "a"}, invalid, "ends in a slash"},
		{coordv1.Kind_KIND_GROUP_JOIN, &coordv1.GroupJoin{Name: "g", Member: "m", Data: make([]byte, 65537)}, invalid,
			"65537 bytes"},
		{coordv1.Kind_KIND_GROUP_JOIN, &coordv1.GroupJoin{Name: "g", Member: "foreign"}, recipes.ErrKeyTaken,
			"groups/g/foreign"},
		{coordv1.Kind_KIND_GROUP_UPDATE, &coordv1.GroupUpdate{Name: "g", Member: "m"}, recipes.ErrNotSet, "no member"},
		{coordv1.Kind_KIND_GROUP_UPDATE, &coordv1.GroupUpdate{Name: "g", Member: "m", Data: make([]byte, 65537)},
			invalid, "65537 bytes"},
		{coordv1.Kind_KIND_GROUP_LEAVE, &coordv1.GroupLeave{Name: "g", Member: "m", Lease: 9}, invalid, "lease 9"},
	} {
		rev := s.Rev
		wantRefusal(t, bad.kind.String(), s.ask(1, bad.kind, bad.req, &coordv1.CounterValue{}), bad.want, bad.text)
		if s.Rev != rev {
			t.Errorf("%v %v had an effect", bad.kind, bad.req)
		}
	}
	// Without a session the request says whose it is.
	for what, c := range map[string]struct {
		procedure string
		req       proto.Message
		want      error
	}{
		"no lease": {recipes.GroupJoin, &coordv1.GroupJoin{Name: "g", Member: "m"}, invalid},
		"a dead lease": {recipes.GroupJoin, &coordv1.GroupJoin{Name: "g", Member: "m", Lease: 7},
			statemachine.ErrLeaseNotFound},
		"bound to nothing": {recipes.GateClose, &coordv1.GateClose{Name: "g", Bound: true}, invalid},
	} {
		if err := call(t, s.Store, c.procedure, c.req, &coordv1.GroupJoined{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, call(t, s.Store, recipes.GroupJoin, &coordv1.GroupJoin{Name: "g", Member: "m", Lease: 1},
		&coordv1.GroupJoined{}))
}

// TestWithoutSpaceWhatIsThereCanBeGivenUp: writes are refused, opening and leaving are not.
func TestWithoutSpaceWhatIsThereCanBeGivenUp(t *testing.T) {
	s := newStage(t, 1)
	s.gate(1, &coordv1.GateClose{Name: "g"})
	if _, err := s.join(1, "g", "m", "data"); err != nil {
		t.Fatal(err)
	}
	s.NoSpace = true
	if _, err := s.add("a", 1); !errors.Is(err, statemachine.ErrNoSpace) {
		t.Errorf("add: %v", err)
	}
	if _, err := s.join(1, "g", "m", "data"); err != nil {
		t.Errorf("the same member again: %v", err)
	}
	answer(s, 1, coordv1.Kind_KIND_GATE_OPEN, &coordv1.GateOpen{Name: "g"}, &coordv1.GateState{})
	answer(s, 1, coordv1.Kind_KIND_GROUP_LEAVE, &coordv1.GroupLeave{Name: "g", Member: "m"}, &coordv1.GroupLeft{})
	if s.Len() != 0 {
		t.Errorf("%d keys are left", s.Len())
	}
}
