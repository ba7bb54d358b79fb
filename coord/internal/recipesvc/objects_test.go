package recipesvc_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes/recipestest"
	"github.com/coord-dev/coord/statemachine"
)

func TestCounterAndSequence(t *testing.T) {
	f := start(t)
	counter, sequence := coordv1.NewCounterClient(f.conn), coordv1.NewSequenceClient(f.conn)
	if v, err := counter.Get(f.ctx, &coordv1.CounterGet{Name: "hits"}); err != nil || v.Value != 0 {
		t.Errorf("before it was written: %v, %v", v, err)
	}
	for _, delta := range []int64{5, -2} {
		if _, err := counter.Add(f.ctx, &coordv1.CounterAdd{Name: "hits", Delta: delta}); err != nil {
			t.Fatal(err)
		}
	}
	v, err := counter.Get(f.ctx, &coordv1.CounterGet{Name: "hits"})
	if err != nil || v.Value != 3 || v.Revision == 0 {
		t.Errorf("5-2: %v, %v", v, err)
	}
	_, err = counter.Add(f.ctx, &coordv1.CounterAdd{Name: "hits", Delta: math.MaxInt64})
	wantError(t, err, codes.OutOfRange, coordv1.Error_REASON_OVERFLOW, "is 3")
	expected := int64(4)
	_, err = counter.Set(f.ctx, &coordv1.CounterSet{Name: "hits", Expected: &expected})
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_VALUE_MISMATCH, "is 3, not 4")
	_, err = counter.Get(f.ctx, &coordv1.CounterGet{})
	wantError(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "name is empty")

	for first := int64(1); first < 40; first += 10 {
		r, err := sequence.Next(f.ctx, &coordv1.SequenceNext{Name: "ids", Count: 10})
		if err != nil || r.First != first {
			t.Fatalf("next: %v, %v, want %d", r, err, first)
		}
	}
	if s, err := sequence.Get(f.ctx, &coordv1.SequenceGet{Name: "ids"}); err != nil || s.Last != 40 {
		t.Errorf("last: %v, %v", s, err)
	}
	_, err = sequence.Next(f.ctx, &coordv1.SequenceNext{Name: "ids"})
	wantError(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "a count of 0")
	f.member.Do(func(s *recipestest.Store) { _ = s.Put(layout.Sequence.Key("foreign"), "\xff", 0) })
	_, err = sequence.Get(f.ctx, &coordv1.SequenceGet{Name: "foreign"})
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_WRONG_KIND, "foreign")
}

// TestLatchAwait: a thousand who wait go on by one commit; who comes later goes on at once; who names an earlier
// generation is not held up by the next one.
func TestLatchAwait(t *testing.T) {
	f := start(t)
	latch := coordv1.NewLatchClient(f.conn)
	_, err := latch.Await(f.ctx, &coordv1.LatchAwait{Name: "l"})
	wantError(t, err, codes.NotFound, coordv1.Error_REASON_NOT_SET, `"l"`)
	set, err := latch.Set(f.ctx, &coordv1.LatchSet{Name: "l", Count: 2})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	before := f.member.Views()
	const waiters = 1000
	for range waiters {
		group.Go(func() {
			if l, err := latch.Await(f.ctx, &coordv1.LatchAwait{Name: "l"}); err != nil || l.Remaining != 0 {
				t.Errorf("await: %v, %v", l, err)
			}
		})
	}
	f.eventually("all wait", func() bool { return f.member.Views() >= before+waiters })
	for want := range int64(2) {
		l, err := latch.CountDown(f.ctx, &coordv1.LatchCountDown{Name: "l", Count: 1})
		if err != nil || l.Remaining != 1-want {
			t.Errorf("down: %v, %v", l, err)
		}
	}
	group.Wait()
	if read := f.member.Views() - before; read != waiters {
		t.Errorf("%d reads of the store for %d who waited", read, waiters)
	}
	again, err := latch.Set(f.ctx, &coordv1.LatchSet{Name: "l", Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := latch.Await(f.ctx, &coordv1.LatchAwait{Name: "l", Generation: set.Generation}); err != nil ||
		l.Generation != again.Generation {
		t.Errorf("the generation before: %v, %v", l, err)
	}
	_, err = latch.Set(f.ctx, &coordv1.LatchSet{Name: "l", Count: 1})
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_LATCH_STATE, "counts")
	_, err = latch.Await(f.ctx, &coordv1.LatchAwait{Name: "l", Generation: -1})
	wantError(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "negative")
	if l, err := latch.Get(f.ctx, &coordv1.LatchGet{Name: "l"}); err != nil || l.Remaining != 1 || l.Count != 1 {
		t.Errorf("get: %v, %v", l, err)
	}
}

// awaiting calls Await beside the test, once the subscription to its key is there.
func awaiting[Resp any](f *fixture, await func(context.Context) (Resp, error)) <-chan error {
	f.Helper()
	before, done := f.member.Views(), make(chan error, 1)
	go func() {
		_, err := await(f.ctx)
		done <- err
	}()
	f.eventually("it waits", func() bool { return f.member.Views() > before })
	return done
}

func (f *fixture) receive(done <-chan error) error {
	f.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(long):
		f.Fatalf("nothing within %v", long)
		return nil
	}
}

// TestLatchAwaitThroughGaps: a generation whose end fell into what the member did not see of the store has ended; one
// whose key was deleted is not set.
func TestLatchAwaitThroughGaps(t *testing.T) {
	f := start(t)
	latch := coordv1.NewLatchClient(f.conn)
	set := func(count int64) {
		f.Helper()
		if _, err := latch.Set(f.ctx, &coordv1.LatchSet{Name: "l", Count: count}); err != nil {
			f.Fatal(err)
		}
	}
	await := func(ctx context.Context) (*coordv1.LatchState, error) {
		return latch.Await(ctx, &coordv1.LatchAwait{Name: "l"})
	}
	set(1)
	done := awaiting(f, await)
	f.member.Jump(func(s *recipestest.Store) {
		for _, step := range []func() error{
			func() error { return call(s, "latch.count-down.v1", &coordv1.LatchCountDown{Name: "l", Count: 1}) },
			func() error { return call(s, "latch.set.v1", &coordv1.LatchSet{Name: "l", Count: 1}) },
		} {
			if err := step(); err != nil {
				t.Error(err)
			}
		}
	})
	if err := f.receive(done); err != nil {
		t.Errorf("its end was not seen: %v", err)
	}
	done = awaiting(f, await)
	f.member.Do(func(s *recipestest.Store) { s.Delete(layout.Latch.Key("l")) })
	wantError(t, f.receive(done), codes.NotFound, coordv1.Error_REASON_NOT_SET, `"l"`)
}

// TestGateAwait: whatever removes the key opens the gate, its session's end too.
func TestGateAwait(t *testing.T) {
	f := start(t, 7)
	gate := coordv1.NewGateClient(f.conn)
	await := func(ctx context.Context) (*coordv1.GateState, error) {
		return gate.Await(ctx, &coordv1.GateAwait{Name: "g"})
	}
	if g, err := await(f.ctx); err != nil || g.Closed {
		t.Errorf("a gate that nobody closed: %v, %v", g, err)
	}
	for what, open := range map[string]func(){
		"open": func() {
			if g, err := gate.Open(f.ctx, &coordv1.GateOpen{Name: "g"}); err != nil || !g.Changed {
				t.Errorf("open: %v, %v", g, err)
			}
		},
		"expiry": func() {
			f.member.Do(func(s *recipestest.Store) {
				s.Expire(7)
				s.Leases[7] = true
			})
		},
		"a gap": func() {
			f.member.Jump(func(s *recipestest.Store) {
				s.Delete(layout.Gate.Key("g"))
				if err := call(s, "gate.close.v1", &coordv1.GateClose{Name: "g"}); err != nil {
					t.Error(err)
				}
			})
		},
	} {
		closed, err := gate.Close(f.ctx, &coordv1.GateClose{Name: "g", Bound: true, Lease: 7, Reason: "work"})
		if err != nil {
			t.Fatal(err)
		}
		if g, err := gate.Get(f.ctx, &coordv1.GateGet{Name: "g"}); err != nil || g.Since != closed.Since ||
			g.Session != 7 || g.Reason != "work" {
			t.Errorf("get: %v, %v", g, err)
		}
		done := awaiting(f, await)
		open()
		if err := f.receive(done); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := gate.Await(f.ctx, &coordv1.GateAwait{Name: "g", Since: closed.Since}); err != nil {
			t.Errorf("%s: the closing before: %v", what, err)
		}
		if _, err := gate.Open(f.ctx, &coordv1.GateOpen{Name: "g"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := gate.Close(f.ctx, &coordv1.GateClose{Name: "g", Bound: true, Lease: 8})
	wantError(t, err, codes.NotFound, coordv1.Error_REASON_SESSION_NOT_FOUND, "lease not found")
	_, err = gate.Await(f.ctx, &coordv1.GateAwait{Name: "g", Since: -1})
	wantError(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "negative")
}

// TestGoneWaitersLeaveNothing: who gives up waiting leaves no goroutine (TestMain looks) and no subscription; a member
// that stops says so.
func TestGoneWaitersLeaveNothing(t *testing.T) {
	f := start(t)
	gate := coordv1.NewGateClient(f.conn)
	if _, err := gate.Close(f.ctx, &coordv1.GateClose{Name: "g"}); err != nil {
		t.Fatal(err)
	}
	subscriptions := f.member.Subscriptions()
	ctx, cancel := context.WithCancel(f.ctx)
	done := awaiting(f, func(context.Context) (*coordv1.GateState, error) {
		return gate.Await(ctx, &coordv1.GateAwait{Name: "g"})
	})
	cancel()
	if err := f.receive(done); status.Code(err) != codes.Canceled {
		t.Errorf("given up: %v", err)
	}
	f.eventually("the subscription is gone", func() bool { return f.member.Subscriptions() == subscriptions })
	done = awaiting(f, func(ctx context.Context) (*coordv1.GateState, error) {
		return gate.Await(ctx, &coordv1.GateAwait{Name: "g"})
	})
	f.service.Close()
	wantError(t, f.receive(done), codes.Unavailable, coordv1.Error_REASON_OUTCOME_UNKNOWN, "stopping")
}

// text describes a change: +joined, -left, ~updated.
func text(c *coordv1.GroupChange) string {
	var parts []string
	for mark, list := range map[string][]*coordv1.GroupMember{"-": c.Left, "+": c.Joined, "~": c.Updated} {
		for _, m := range list {
			parts = append(parts, mark+m.Id+string(m.Data))
		}
	}
	if c.Gap {
		parts = append(parts, "gap")
	}
	return strings.Join(sorted(parts), " ")
}

// TestGroup: the whole membership, each change, all of a revision at once, and what was missed as one difference with
// the notice of a gap.
func TestGroup(t *testing.T) {
	f := start(t, 1, 2)
	group := coordv1.NewGroupClient(f.conn)
	join := func(lease int64, id, data string) error {
		_, err := group.Join(f.ctx, &coordv1.GroupJoin{Name: "g", Member: id, Data: []byte(data), Lease: lease})
		return err
	}
	for i, id := range []string{"b", "a"} {
		if err := join(int64(i+1), id, ""); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, join(2, "b", ""), codes.AlreadyExists, coordv1.Error_REASON_MEMBER_EXISTS, `"b"`)
	wantError(t, join(3, "c", ""), codes.NotFound, coordv1.Error_REASON_SESSION_NOT_FOUND, "lease not found")
	wantError(t, join(0, "c", ""), codes.InvalidArgument, coordv1.Error_REASON_INVALID, "lease 0")
	got, err := group.Members(f.ctx, &coordv1.GroupMembersRequest{Name: "g"})
	if err != nil || len(got.Members) != 2 || got.Members[0].Id != "b" || got.Members[1].Session != 2 {
		t.Errorf("members: %v, %v", got, err)
	}
	watch, err := group.Watch(f.ctx, &coordv1.GroupWatchRequest{Name: "g"})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want string) {
		t.Helper()
		c, err := watch.Recv()
		if err != nil || text(c) != want {
			t.Fatalf("%v, %v, want %s", c, err, want)
		}
	}
	next("+a +b")
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return join(1, "c", "1") }, "+c1"},
		{func() error { return join(1, "c", "2") }, "~c2"},
		{func() error {
			_, err := group.Update(f.ctx, &coordv1.GroupUpdate{Name: "g", Member: "a", Data: []byte("3"), Lease: 2})
			return err
		}, "~a3"},
		{func() error {
			_, err := group.Join(f.ctx, &coordv1.GroupJoin{Name: "g/sub", Member: "x", Lease: 1})
			return err
		}, ""},
		{func() error { f.member.Do(func(s *recipestest.Store) { s.Expire(1) }); return nil }, "-b -c2"},
		{func() error {
			f.member.Jump(func(s *recipestest.Store) {
				s.Expire(2)
				s.Leases[1] = true
				_ = call(s, "group.join.v1", &coordv1.GroupJoin{Name: "g", Member: "a", Lease: 1})
				_ = call(s, "group.join.v1", &coordv1.GroupJoin{Name: "g", Member: "d", Lease: 1})
			})
			return nil
		}, "+a +d -a3 gap"},
		{func() error {
			l, err := group.Leave(f.ctx, &coordv1.GroupLeave{Name: "g", Member: "d", Lease: 1})
			if err == nil && !l.Left {
				err = fmt.Errorf("%v", l)
			}
			return err
		}, "-d"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if step.want != "" {
			next(step.want)
		}
	}
	_, err = group.Update(f.ctx, &coordv1.GroupUpdate{Name: "g", Member: "nobody", Lease: 1})
	wantError(t, err, codes.NotFound, coordv1.Error_REASON_NOT_SET, "nobody")
}

// TestGroupWatchOfASlowReader: who does not read for long is told the difference, flagged, and nothing is missing after
// it.
func TestGroupWatchOfASlowReader(t *testing.T) {
	f := start(t, 1)
	group := coordv1.NewGroupClient(f.conn)
	watch, err := group.Watch(f.ctx, &coordv1.GroupWatchRequest{Name: "g"})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := watch.Recv(); err != nil || text(c) != "" {
		t.Fatalf("the first: %v, %v", c, err)
	}
	data := strings.Repeat("x", 8<<10) // so that what is sent does not fit into any buffer on the way
	const members, updates = 10, 4000
	delivered := make(chan struct{})
	seen := 0
	from, end := layout.Group.Range("g").Bytes()
	_, cancel := f.member.Subscribe(from, end, func(statemachine.Revision, []statemachine.Event, bool) {
		if seen++; seen == updates {
			close(delivered)
		}
	})
	defer cancel()
	f.member.Do(func(s *recipestest.Store) {
		for i := range updates {
			req := &coordv1.GroupJoin{
				Name: "g", Member: fmt.Sprint(i % members), Data: fmt.Append(nil, i, data), Lease: 1,
			}
			if err := call(s, "group.join.v1", req); err != nil {
				t.Error(err)
			}
		}
	})
	<-delivered
	known, gaps := map[string]string{}, 0
	for known[fmt.Sprint((updates-1)%members)] != fmt.Sprint(updates-1) {
		c, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if c.Gap {
			gaps++
		}
		for _, m := range append(c.Joined, c.Updated...) {
			known[m.Id] = strings.TrimRight(string(m.Data), "x ")
		}
	}
	if len(known) != members {
		t.Errorf("%d members, want %d", len(known), members)
	}
	for i := updates - members; i < updates; i++ {
		if id := fmt.Sprint(i % members); known[id] != fmt.Sprint(i) {
			t.Errorf("member %s: %s, want %d", id, known[id], i)
		}
	}
	if gaps == 0 {
		t.Error("everything was kept for who does not read")
	}
}
