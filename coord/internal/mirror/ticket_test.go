package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes/recipestest"
	"github.com/coord-dev/coord/statemachine"
)

// long is how long a test waits for what must happen.
const long = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a member in memory with mirrors on it.
type fixture struct {
	*testing.T
	member   *recipestest.Member
	mirrors  *Mirrors
	sequence atomic.Uint64
}

func start(t *testing.T, sessions ...int64) *fixture {
	t.Helper()
	m := recipestest.NewMember()
	mirrors, err := New(Source{
		View: func(context.Context) (View, error) { return m.View(), nil },
		Subscribe: func(_ context.Context, key, end []byte, fn func(Delivery)) (statemachine.Revision, func(), error) {
			rev, cancel := m.Subscribe(key, end, func(rev statemachine.Revision, events []statemachine.Event,
				gap bool) {
				fn(Delivery{Revision: rev, Events: events, Gap: gap})
			})
			return rev, cancel, nil
		},
		Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mirrors.Close()
		m.Close()
	})
	m.Do(func(s *recipestest.Store) {
		for _, id := range sessions {
			s.Leases[id], s.Sessions[id] = true, true
		}
	})
	return &fixture{T: t, member: m, mirrors: mirrors}
}

// request runs a request of a session.
func (f *fixture) request(session int64, kind coordv1.Kind, req, resp proto.Message) {
	f.Helper()
	f.member.Do(func(s *recipestest.Store) {
		if err := s.Request(session, f.sequence.Add(1), kind, req, resp); err != nil {
			f.Errorf("%v of %d: %v", kind, session, err)
		}
	})
}

// listener is a ticket with all that it was told.
type listener struct {
	*fixture
	*Ticket
	key  string
	news chan Event
}

func (f *fixture) track(key string) *listener {
	l := &listener{fixture: f, key: key, news: make(chan Event, 100)}
	l.Ticket = f.mirrors.Track(key, func(ev Event) { l.news <- ev })
	f.Cleanup(l.Ticket.Close)
	return l
}

// campaign makes a candidate and follows it.
func (f *fixture) campaign(session, priority, lingerMS int64) (*listener, *coordv1.AcquiredEntry) {
	f.Helper()
	return f.enter(layout.ElectionQueue("a", priority), session,
		coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "a", Priority: priority, LingerMs: lingerMS})
}

// enter makes a session's entry in a queue and follows it.
func (f *fixture) enter(
	queue string, session int64, kind coordv1.Kind, req proto.Message,
) (*listener, *coordv1.AcquiredEntry) {
	f.Helper()
	l := f.track(layout.EntryKey(queue, session, ""))
	resp := &coordv1.Acquired{}
	f.request(session, kind, req, resp)
	e := resp.Entries[0]
	switch e.State {
	case coordv1.AcquiredEntry_HOLDS:
		l.Holds(e.Token)
	case coordv1.AcquiredEntry_WAITS:
		l.Waits(e.Token, resp.Revision)
	}
	return l, e
}

func (l *listener) next(want News) Event {
	l.fixture.Helper()
	select {
	case ev := <-l.news:
		if ev.News != want {
			l.Fatalf("%s was told %+v, want %d", l.key, ev, want)
		}
		return ev
	case <-time.After(long):
		l.Fatalf("%s was not told %d within %v", l.key, want, long)
		return Event{}
	}
}

// quiet says that nothing was told of what was committed until now.
func (l *listener) quiet() {
	l.fixture.Helper()
	l.settle()
	if len(l.news) > 0 {
		l.Fatalf("%s was told %+v", l.key, <-l.news)
	}
}

// settle returns when all that was committed until now has been delivered.
func (f *fixture) settle() {
	f.Helper()
	marker := f.track("marker/ffff")
	marker.Holds(1)
	f.member.Do(func(s *recipestest.Store) {
		s.Leases[0xffff] = true
		_ = s.Put("marker/ffff", "", 0xffff)
		s.Delete("marker/ffff")
	})
	marker.next(Lost)
	marker.Close()
}

// TestHolderCostsNothing: who holds at once is told of its end, whenever that was, and nothing is read for it.
func TestHolderCostsNothing(t *testing.T) {
	f := start(t, 1, 2)
	for _, early := range []bool{false, true} {
		l := f.track("a/1")
		resp := &coordv1.Acquired{}
		f.request(1, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"a"}}, resp)
		if !early {
			l.Holds(resp.Entries[0].Token)
			l.quiet()
		}
		f.member.Do(func(s *recipestest.Store) { s.Delete("a/1") })
		if early { // the outcome is slower than the hub
			f.settle()
			l.Holds(resp.Entries[0].Token)
		}
		if ev := l.next(Lost); !ev.Held || ev.Token != resp.Entries[0].Token || ev.Cause != coordv1.EntryLost_REMOVED {
			t.Errorf("early %v: %+v", early, ev)
		}
		f.member.Do(func(s *recipestest.Store) { _ = s.Put("a/1", "", 1); s.Delete("a/1") })
		l.quiet()
		l.Close()
	}
	if f.member.Views() > 0 || len(f.mirrors.mu.mirrors) > 0 || len(f.mirrors.mu.tracked) > 0 {
		t.Errorf("%d views, %d mirrors, %d tracked", f.member.Views(), len(f.mirrors.mu.mirrors),
			len(f.mirrors.mu.tracked))
	}
}

// TestTrackedHolderExpires: it lost what it held, though its key lingers.
func TestTrackedHolderExpires(t *testing.T) {
	f := start(t, 1)
	for _, priority := range []int64{0, 2} {
		f.member.Do(func(s *recipestest.Store) { s.Leases[1], s.Sessions[1] = true, true })
		a, e := f.campaign(1, priority, 500)
		f.member.Do(func(s *recipestest.Store) { s.Expire(1) })
		if ev := a.next(Lost); ev.Token != e.Token || !ev.Held {
			t.Errorf("priority %d: %+v", priority, ev)
		}
	}
}

// TestStaleChangesConcernNobody: what happened to an earlier entry of the same key is no news of this one.
func TestStaleChangesConcernNobody(t *testing.T) {
	f := start(t, 1)
	l := f.track("a/1")
	f.member.Do(func(s *recipestest.Store) { _ = s.Put("a/1", "", 1); s.Delete("a/1") })
	l.quiet()
	resp := &coordv1.Acquired{}
	f.request(1, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"a"}}, resp)
	l.Holds(resp.Entries[0].Token)
	f.request(1, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"a"}, Owner: "taken over"}, resp)
	l.quiet()
}

// TestGrantsInOrder: L4, L5, L7 and the causes, for both kinds of election.
func TestGrantsInOrder(t *testing.T) {
	for _, priority := range []int64{0, 3} {
		f := start(t, 1, 2, 3, 4)
		queue := layout.ElectionQueue("a", priority)
		a, ea := f.campaign(1, priority, 0)
		b, eb := f.campaign(2, priority, 700)
		c, _ := f.campaign(3, priority, 0)
		d, _ := f.campaign(4, priority, 0)
		if ahead, holder, _, err := c.Position(t.Context()); ahead != 2 || holder.Key != ea.Key ||
			holder.Token != ea.Token || err != nil {
			t.Errorf("place: %d, %+v, %v", ahead, holder, err)
		}
		f.request(1, coordv1.Kind_KIND_RELEASE, &coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "a", Key: ea.Key, Token: ea.Token}},
		}, &coordv1.Released{})
		a.next(Lost)
		grant := b.next(Granted)
		if grant.Token < eb.Token || grant.Token <= ea.Token || (priority == 0) != (grant.Token == eb.Token) {
			t.Errorf("L2: granted %+v after %v", grant, ea)
		}
		f.member.Do(func(s *recipestest.Store) { s.Delete(layout.EntryKey(queue, 4, "")) })
		if ev := d.next(Lost); ev.Held {
			t.Errorf("waiter: %+v", ev)
		}
		f.member.Do(func(s *recipestest.Store) { s.Expire(2) })
		if ev := b.next(Lost); !ev.Held || ev.Token != grant.Token {
			t.Errorf("expired holder: %+v", ev)
		}
		c.quiet() // the place is kept
		f.member.Do(func(s *recipestest.Store) { s.ExpirePlaces() })
		c.next(Granted)
		a.quiet()
		b.quiet()
	}
}

// TestTransfer: the leader is told why, who is moved has its new token, and who is away meanwhile hears of it later.
func TestTransfer(t *testing.T) {
	f := start(t, 1, 2, 3, 4, 5)
	a, ea := f.campaign(1, 0, 0)
	b, eb := f.campaign(2, 0, 0)
	c, ec := f.campaign(3, 0, 0)
	d, _ := f.campaign(4, 0, 0)
	away := f.track("a/2") // another one interested in the same entry, who joins later
	transfer := func(to string) {
		t.Helper()
		f.request(5, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", To: to}, &coordv1.Transferred{})
	}
	transfer("a/3")
	if ev := a.next(Lost); ev.Cause != coordv1.EntryLost_TRANSFERRED || !ev.Held || ev.Token != ea.Token {
		t.Errorf("leader: %+v", ev)
	}
	moved := b.next(Requeued)
	if moved.Previous != eb.Token || moved.Token <= ec.Token {
		t.Errorf("moved: %+v", moved)
	}
	c.next(Granted)
	d.quiet()
	transfer("a/4")
	if ev := c.next(Lost); ev.Cause != coordv1.EntryLost_TRANSFERRED {
		t.Errorf("leader by order: %+v", ev)
	}
	d.next(Granted)
	b.quiet()
	c, _ = f.campaign(3, 0, 0)
	transfer("a/3")
	again := b.next(Requeued)
	if again.Previous != moved.Token {
		t.Errorf("moved again: %+v after %+v", again, moved)
	}
	c.next(Granted)
	away.Waits(eb.Token, eb.Token)
	if ev := away.next(Requeued); ev.Previous != eb.Token || ev.Token != again.Token {
		t.Errorf("who was away: %+v", ev)
	}
	f.member.Do(func(s *recipestest.Store) { s.Delete("a/3") })
	if ev := c.next(Lost); ev.Cause != coordv1.EntryLost_REMOVED {
		t.Errorf("removed leader: %+v", ev)
	}
	b.next(Granted)
	away.next(Granted)

	p, ep := f.campaign(1, 4, 0)
	q, _ := f.campaign(2, 2, 0)
	r, er := f.campaign(3, 1, 0)
	f.request(5, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", To: er.Key, Priority: 1},
		&coordv1.Transferred{})
	if ev := p.next(Lost); ev.Cause != coordv1.EntryLost_TRANSFERRED || ev.Token != ep.Token {
		t.Errorf("leader by priority: %+v", ev)
	}
	r.next(Granted)
	q.quiet()
}

// TestSuperseded: a waiter whose entry a later request took over is told so, and the later one waits on.
func TestSuperseded(t *testing.T) {
	f := start(t, 1, 2)
	_, ea := f.campaign(1, 0, 0)
	first, _ := f.campaign(2, 0, 0)
	second, _ := f.campaign(2, 0, 0)
	first.next(Superseded)
	second.quiet()
	f.request(1, coordv1.Kind_KIND_RELEASE, &coordv1.Release{
		Entries: []*coordv1.Guard{{Name: "a", Key: ea.Key, Token: ea.Token}},
	}, &coordv1.Released{})
	second.next(Granted)
	first.quiet()
}

// TestAsked: a holder hears who asks, whether it held at once or has waited, and once; a waiter does not.
func TestAsked(t *testing.T) {
	f := start(t, 1, 2, 3)
	ask := func(from string) {
		f.request(3, coordv1.Kind_KIND_ASK_RELEASE, &coordv1.AskRelease{Name: "a", From: from, Reason: "now"},
			&coordv1.Asked{})
	}
	a, _ := f.campaign(1, 0, 0)
	b, eb := f.campaign(2, 0, 0)
	ask("x")
	if ev := a.next(Asked); ev.From != "x" || ev.Reason != "now" {
		t.Errorf("asked: %+v", ev)
	}
	a.Recheck()
	a.quiet()
	f.member.Do(func(s *recipestest.Store) { s.Delete("a/1") })
	a.next(Lost)
	b.next(Granted)
	ask("y")
	if ev := b.next(Asked); ev.From != "y" || ev.Token != eb.Token {
		t.Errorf("asked: %+v", ev)
	}
	back := f.track("a/2") // the session comes back through this member
	back.Holds(eb.Token)
	back.Recheck()
	if ev := back.next(Asked); ev.From != "y" {
		t.Errorf("who came back: %+v", ev)
	}
	f.member.Do(func(s *recipestest.Store) { s.Delete("a/2") })
	again, _ := f.campaign(2, 0, 0)
	again.Recheck() // the note that asked the holder before is still there
	last := f.track("a/1")
	last.Holds(1)
	last.Recheck()
	last.next(Lost) // so what was to be looked up before it was
	again.quiet()
	gone := f.track("a/1")
	gone.Holds(eb.Token - 1)
	gone.Recheck()
	gone.next(Lost)
}

// TestGap: what was missed is found out by reading, for mirrors and tracked holders, and for who has no outcome yet.
func TestGap(t *testing.T) {
	f := start(t, 1, 2, 3, 4, 5, 6)
	b1 := f.track("b/1")
	resp := &coordv1.Acquired{}
	f.request(1, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"b"}}, resp)
	b1.Holds(resp.Entries[0].Token)
	c1 := f.track("c/1")
	f.request(1, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"c"}}, resp)
	kept := f.track("d/1")
	f.request(1, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"d"}}, &coordv1.Acquired{})
	kept.Holds(resp.Entries[0].Token + 1)
	a, _ := f.campaign(1, 0, 0)
	b, _ := f.campaign(2, 0, 0)
	c, _ := f.campaign(3, 0, 0)
	d, ed := f.campaign(4, 0, 0)
	e, _ := f.campaign(5, 0, 0)
	f.settle()
	f.member.Jump(func(s *recipestest.Store) {
		s.Delete("b/1", "c/1")
		_ = s.Put("b/1", "another entry", 1)
		s.Delete("a/2")
		for i, to := range []string{"a/5", "a/3"} {
			if err := s.Request(6, 1000+uint64(i), coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", To: to},
				&coordv1.Transferred{}); err != nil {
				t.Error(err)
			}
		}
	})
	a.next(Lost)
	b.next(Lost)
	c.next(Requeued)
	c.next(Granted)
	if ev := d.next(Requeued); ev.Previous != ed.Token {
		t.Errorf("moved twice in a gap: %+v", ev)
	}
	e.next(Lost)
	if ev := b1.next(Lost); !ev.Held {
		t.Errorf("tracked: %+v", ev)
	}
	c1.Holds(resp.Entries[0].Token)
	c1.next(Lost)
	kept.quiet()
	f.member.Do(func(s *recipestest.Store) { s.Delete("a/3") })
	c.next(Lost)
	d.next(Granted)
}

// TestTenThousandWaiters: each is told once, in order, and a hand-off does not take longer for those who wait.
func TestTenThousandWaiters(t *testing.T) {
	const waiters = 10_000
	f := start(t)
	var told [waiters + 1]int
	var order []int
	granted := make(chan int, waiters) // the hub's goroutine sends
	key := func(i int) string { return layout.EntryKey("a", int64(i+1), "") }
	for i := range waiters + 1 {
		ticket := f.mirrors.Track(key(i), func(ev Event) {
			if ev.News == Granted {
				granted <- i
			}
			told[i]++
		})
		t.Cleanup(ticket.Close)
		var rev int64
		f.member.Do(func(s *recipestest.Store) {
			s.Leases[int64(i+1)] = true
			_ = s.Put(key(i), "", int64(i+1))
			rev = s.Rev
		})
		if i == 0 {
			ticket.Holds(rev)
		} else {
			ticket.Waits(rev, rev)
		}
	}
	f.settle()
	views := f.member.Views()
	const batch = 100
	quickest := func(from, to int) time.Duration {
		best := time.Hour
		for i := from; i < to; {
			began := time.Now()
			for range batch {
				f.member.Do(func(s *recipestest.Store) { s.Delete(key(i)) })
				select {
				case next := <-granted:
					order = append(order, next)
				case <-time.After(long):
					t.Fatalf("nobody was granted after %d", i)
				}
				i++
			}
			best = min(best, time.Since(began)/batch)
		}
		return best
	}
	full := quickest(0, 1000)
	quickest(1000, waiters-1000)
	few := quickest(waiters-1000, waiters)
	f.settle()
	if !slices.IsSorted(order) || len(order) != waiters {
		t.Errorf("L4: %d granted, sorted %v", len(order), slices.IsSorted(order))
	}
	for i, n := range told[1:waiters] {
		if n != 2 { // granted, and then lost
			t.Fatalf("waiter %d was told %d times", i+1, n)
		}
	}
	if f.member.Views() != views {
		t.Errorf("read %d times", f.member.Views()-views)
	}
	if full > 10*few {
		t.Errorf("a hand-off takes %v with %d waiting and %v with less than 1000", full, waiters, few)
	}
	t.Logf("a hand-off takes %v with %d waiting and %v with less than 1000", full, waiters, few)
}

// TestManyInTurn: owners on one lock at the same time, each through a ticket, are never two at once, and all get it.
func TestManyInTurn(t *testing.T) {
	const owners, rounds = 16, 60
	f := start(t)
	var inside atomic.Int32
	var group sync.WaitGroup
	for id := int64(1); id <= owners; id++ {
		f.member.Do(func(s *recipestest.Store) { s.Leases[id], s.Sessions[id] = true, true })
		group.Go(func() {
			for range rounds {
				news := make(chan Event, 10)
				ticket := f.mirrors.Track(layout.EntryKey("a", id, ""), func(ev Event) { news <- ev })
				resp := &coordv1.Acquired{}
				f.request(id, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"a"}}, resp)
				e := resp.Entries[0]
				if e.State == coordv1.AcquiredEntry_HOLDS {
					ticket.Holds(e.Token)
				} else {
					ticket.Waits(e.Token, resp.Revision)
					select {
					case ev := <-news:
						if ev.News != Granted || ev.Token != e.Token {
							t.Errorf("%d waits with %d: %+v", id, e.Token, ev)
						}
					case <-time.After(long):
						t.Errorf("L5: %d waits with %d for ever", id, e.Token)
					}
				}
				if inside.Add(1) != 1 {
					t.Error("L1: two inside")
				}
				inside.Add(-1)
				f.request(id, coordv1.Kind_KIND_RELEASE, &coordv1.Release{
					Entries: []*coordv1.Guard{{Name: "a", Key: e.Key, Token: e.Token}},
				}, &coordv1.Released{})
				ticket.Close()
			}
		})
	}
	group.Wait()
	f.mirrors.mu.Lock()
	defer f.mirrors.mu.Unlock()
	if len(f.mirrors.mu.mirrors) != 0 || len(f.mirrors.mu.tracked) != 0 {
		t.Errorf("left: %d mirrors, %d tracked", len(f.mirrors.mu.mirrors), len(f.mirrors.mu.tracked))
	}
}

// TestMirrorsThatCannotBeRead: who waits is told, and the next one tries again.
func TestMirrorsThatCannotBeRead(t *testing.T) {
	f := start(t, 1, 2)
	real := f.mirrors.source.View
	f.mirrors.source.View = func(context.Context) (View, error) { return nil, statemachine.ErrClosed }
	f.campaign(1, 0, 0)
	b, eb := f.campaign(2, 0, 0)
	if ev := b.next(Failed); ev.Err != statemachine.ErrClosed {
		t.Errorf("%+v", ev)
	}
	o := f.mirrors.Observe("a")
	<-o.Wake
	if _, err := o.Take(); err == nil {
		t.Error("an observer of what cannot be read")
	}
	o.Close()
	f.mirrors.work.Lock()
	f.mirrors.source.View = real
	f.mirrors.work.Unlock()
	again := f.track("a/2")
	again.Waits(eb.Token, eb.Token)
	if ahead, _, _, err := again.Position(t.Context()); ahead != 1 || err != nil {
		t.Errorf("place: %d, %v", ahead, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.mirrors.Close()
	if ev := again.next(Failed); ev.Err != ErrClosed {
		t.Errorf("%+v", ev)
	}
	late := f.track("z/2")
	late.Waits(5, 5)
	late.next(Failed)
	if _, _, _, err := late.Position(ctx); err == nil {
		t.Error("a position in a queue of a closed member")
	}
}

// TestObserveByPriority: observers see leaders with their terms.
func TestObserveByPriority(t *testing.T) {
	f := start(t, 1, 2)
	o := f.mirrors.Observe(layout.ElectionQueue("a", 1))
	defer o.Close()
	var got []string
	until := func(n int) {
		t.Helper()
		for len(got) < n {
			select {
			case <-o.Wake:
			case <-time.After(long):
				t.Fatalf("observed %q", got)
			}
			events, err := o.Take()
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events {
				got = append(got, fmt.Sprintf("%s:%d", strings.TrimPrefix(ev.Leader.GetKey(), "_coord/elections/a/"),
					ev.Leader.GetToken()))
			}
		}
	}
	until(1)
	_, e1 := f.campaign(1, 1, 0)
	second, _ := f.campaign(2, 9, 0)
	until(2)
	f.member.Do(func(s *recipestest.Store) { s.Revoke(1) })
	term := second.next(Granted).Token
	until(3)
	if want := []string{":0", fmt.Sprintf("1:%d", e1.Token), fmt.Sprintf("2:%d", term)}; !slices.Equal(got, want) {
		t.Errorf("observed %q, want %q", got, want)
	}
}
