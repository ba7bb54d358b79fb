package stream_test

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func (s *session) acquire(names ...string) *coordv1.Acquired {
	s.t.Helper()
	resp := &coordv1.Acquired{}
	if r := s.do(coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: names}, resp); r != nil {
		s.t.Fatalf("acquire %q: %v", names, r)
	}
	return resp
}

func (s *session) holds(name string) *coordv1.Guard {
	s.t.Helper()
	e := s.acquire(name).Entries[0]
	if e.State != coordv1.AcquiredEntry_HOLDS {
		s.t.Fatalf("%s: %v", name, e)
	}
	return guard(e)
}

func (s *session) waits(name string) *coordv1.Guard {
	s.t.Helper()
	e := s.acquire(name).Entries[0]
	if e.State != coordv1.AcquiredEntry_WAITS {
		s.t.Fatalf("%s: %v", name, e)
	}
	return guard(e)
}

func guard(e *coordv1.AcquiredEntry) *coordv1.Guard {
	return &coordv1.Guard{Name: e.Name, Key: e.Key, Token: e.Token}
}

func (s *session) release(guards ...*coordv1.Guard) {
	s.t.Helper()
	resp := &coordv1.Released{}
	if r := s.do(coordv1.Kind_KIND_RELEASE, &coordv1.Release{Entries: guards}, resp); r != nil ||
		resp.Removed != int64(len(guards)) {
		s.t.Fatalf("release: %v, %v", r, resp)
	}
}

func (s *session) wantGranted(g *coordv1.Guard) {
	s.t.Helper()
	if p := s.push(s.Id).GetGranted(); p.GetKey() != g.Key || p.GetToken() != g.Token || p.GetRevision() == 0 {
		s.t.Fatalf("granted %v, want %v", p, g)
	}
}

// quiet fails if anything was pushed to the session until the answer to another request.
func (s *session) quiet() {
	s.t.Helper()
	s.put("quiet", "")
	for _, p := range s.pushes {
		if p.Session == s.Id {
			s.t.Errorf("pushed: %v", p)
		}
	}
}

// Two members hand a lock to and fro, whatever removes the holder.
func TestGrantsArePushed(t *testing.T) {
	cluster := start(t, coordtest.Options{Members: 3})
	a, b := connect(t, cluster.Endpoints()[0]).open(time.Minute), connect(t, cluster.Endpoints()[1]).open(time.Minute)
	for range 5 {
		held := a.holds("l")
		waiting := b.waits("l")
		a.release(held)
		b.wantGranted(waiting)
		again := a.waits("l")
		b.release(waiting)
		a.wantGranted(again)
		a.release(again)
	}
	a.quiet()
	b.quiet()
	a.holds("l")
	waiting := b.waits("l")
	if r := a.ask(coordv1.Kind_KIND_SESSION_END, &coordv1.SessionEnd{Session: a.Id, Created: a.Created},
		&coordv1.SessionEnded{}); r != nil {
		t.Fatal(r)
	}
	b.wantGranted(waiting)
	b.put("fenced", "")
	if r := b.do(coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte(waiting.Key)},
		&pb.DeleteRangeResponse{}); r != nil {
		t.Fatal(r)
	}
	lost := b.push(b.Id).GetLost()
	if lost.GetKey() != waiting.Key || lost.GetToken() != waiting.Token || lost.GetName() != "l" || !lost.GetHeld() ||
		lost.GetCause() != coordv1.EntryLost_REMOVED {
		t.Errorf("lost: %v", lost)
	}
}

// Many sessions of one stream wait in one queue: each is granted once, in order, and hears nothing else.
func TestAQueueOfOneStream(t *testing.T) {
	c := connect(t, start(t, coordtest.Options{}).Endpoints()[0])
	const n = 50
	var sessions []*session
	var guards []*coordv1.Guard
	for i := range n {
		s := c.open(time.Minute)
		sessions = append(sessions, s)
		if i == 0 {
			guards = append(guards, s.holds("l"))
			continue
		}
		guards = append(guards, s.waits("l"))
	}
	for i := range n - 1 {
		sessions[i].release(guards[i])
		sessions[i+1].wantGranted(guards[i+1])
	}
	sessions[n-1].quiet()
	if len(c.pushes) > 0 {
		t.Errorf("pushes: %v", c.pushes)
	}
}

// What a session removes itself is answered, not pushed; what somebody else removes meanwhile is.
func TestWithdrawnWaitersHearNothing(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	c := connect(t, cluster.Endpoints()[0])
	holder, waiter := c.open(time.Minute), c.open(time.Minute)
	held := holder.holds("l")
	waiter.waits("l")
	withdrawn := &coordv1.Withdrawn{}
	if r := waiter.do(coordv1.Kind_KIND_WITHDRAW, &coordv1.Withdraw{Sequence: waiter.sequence}, withdrawn); r != nil ||
		!withdrawn.Removed {
		t.Fatalf("withdraw: %v, %v", r, withdrawn)
	}
	waiter.quiet()
	// Acquire and withdrawal together.
	frame := batch(waiter.Id,
		request(101, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"l", "m"}}),
		request(102, coordv1.Kind_KIND_WITHDRAW, &coordv1.Withdraw{Sequence: 101}))
	waiter.send(frame)
	waiter.sequence = 102
	waiter.response(waiter.Id, 101)
	if r := decode(t, waiter.response(waiter.Id, 102), withdrawn); r != nil {
		t.Fatal(r)
	}
	waiter.quiet()
	gone := waiter.waits("l")
	if r := holder.do(coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte(gone.Key)},
		&pb.DeleteRangeResponse{}); r != nil {
		t.Fatal(r)
	}
	if lost := waiter.push(waiter.Id).GetLost(); lost.GetKey() != gone.Key || lost.GetHeld() {
		t.Errorf("lost: %v", lost)
	}
	holder.release(held)
	holder.quiet()
	// A release that is refused removes nothing: what was kept back is told.
	held = holder.holds("l")
	wrong := &coordv1.Guard{Name: "l", Key: held.Key, Token: held.Token + 1000}
	wantRefusal(t, "a token that was never given", holder.do(coordv1.Kind_KIND_RELEASE,
		&coordv1.Release{Entries: []*coordv1.Guard{wrong}}, nil),
		coordv1.Error_REASON_TOKEN_MISMATCH, "never had")
	if r := waiter.do(coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte(held.Key)},
		&pb.DeleteRangeResponse{}); r != nil {
		t.Fatal(r)
	}
	if lost := holder.push(holder.Id).GetLost(); lost.GetKey() != held.Key || !lost.GetHeld() {
		t.Errorf("lost after a release that was refused: %v", lost)
	}
}

// After a reconnect the client announces what it knows, hears the truth, and later news.
func TestAnnouncedEntriesAreAnsweredWithTheTruth(t *testing.T) {
	cluster := start(t, coordtest.Options{Members: 3})
	first := connect(t, cluster.Endpoints()[0])
	other := connect(t, cluster.Endpoints()[1]).open(time.Minute)
	s := first.open(time.Minute)
	held, gone := s.holds("held"), s.holds("gone")
	mine := other.holds("queue")
	waits := s.waits("queue")
	theirs := other.holds("granted")
	granted := s.waits("granted")
	first.cancel()
	other.release(theirs) // granted while the session has no stream
	if r := other.do(coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte(gone.Key)},
		&pb.DeleteRangeResponse{}); r != nil {
		t.Fatal(r)
	}
	if r := other.do(coordv1.Kind_KIND_ASK_RELEASE, &coordv1.AskRelease{Name: "held", Reason: "please"},
		&coordv1.Asked{}); r != nil {
		t.Fatal(r)
	}
	second := &session{raw: connect(t, cluster.Endpoints()[2]), SessionOpened: s.SessionOpened, sequence: 100}
	foreign := &coordv1.Guard{Name: "queue", Key: mine.Key, Token: mine.Token}
	newer := &coordv1.Guard{Name: "held", Key: held.Key, Token: held.Token + 1}
	resp := &coordv1.SessionAttached{}
	if r := second.ask(coordv1.Kind_KIND_SESSION_ATTACH, &coordv1.SessionAttach{
		Session: s.Id, Created: s.Created, Epoch: 2, Entries: []*coordv1.Guard{held, gone, waits, granted, foreign,
			newer},
	}, resp); r != nil {
		t.Fatalf("attach: %v", r)
	}
	want := []coordv1.AcquiredEntry_State{
		coordv1.AcquiredEntry_HOLDS, coordv1.AcquiredEntry_NONE, coordv1.AcquiredEntry_WAITS,
		coordv1.AcquiredEntry_HOLDS,
		coordv1.AcquiredEntry_NONE, coordv1.AcquiredEntry_NONE,
	}
	if len(resp.Entries) != len(want) || resp.TtlMs != 60_000 {
		t.Fatalf("attached: %v", resp)
	}
	for i, e := range resp.Entries {
		if e.State != want[i] {
			t.Errorf("entry %d is %v, want %v", i, e, want[i])
		}
	}
	if e := resp.Entries[2]; e.Position != 1 || e.Holder.GetKey() != mine.Key || e.Token != waits.Token {
		t.Errorf("who waits: %v", e)
	}
	if p := second.push(s.Id).GetAsked(); p.GetKey() != held.Key || p.GetReason() != "please" {
		t.Errorf("what was asked while nobody heard it: %v", p)
	}
	other.release(mine)
	second.wantGranted(waits)
	if r := other.do(coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte(granted.Key)},
		&pb.DeleteRangeResponse{}); r != nil {
		t.Fatal(r)
	}
	if lost := second.push(s.Id).GetLost(); lost.GetKey() != granted.Key || !lost.GetHeld() {
		t.Errorf("lost: %v", lost)
	}
	second.quiet()
}

// A repeated acquire is answered by its first outcome, and what has become of the entry since then is pushed after it.
func TestARepeatedAcquireHearsWhatItMissed(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	first := connect(t, cluster.Endpoints()[0])
	other := connect(t, cluster.Endpoints()[0]).open(time.Minute)
	s := first.open(time.Minute)
	lost := s.holds("lost")
	theirs := other.holds("granted")
	granted := s.waits("granted")
	first.cancel()
	other.release(theirs)
	if r := other.do(coordv1.Kind_KIND_DELETE_RANGE, &pb.DeleteRangeRequest{Key: []byte(lost.Key)},
		&pb.DeleteRangeResponse{}); r != nil {
		t.Fatal(r)
	}
	second := &session{raw: connect(t, cluster.Endpoints()[0]), SessionOpened: s.SessionOpened}
	if r := second.attach(s, 2); r != nil {
		t.Fatal(r)
	}
	if again := second.holds("lost"); again.Token != lost.Token {
		t.Errorf("%v, want %v", again, lost)
	}
	if p := second.push(s.Id).GetLost(); p.GetKey() != lost.Key {
		t.Errorf("lost: %v", p)
	}
	if again := second.waits("granted"); again.Token != granted.Token {
		t.Errorf("%v, want %v", again, granted)
	}
	second.wantGranted(granted)
	second.quiet()
}

func TestAskedAndTransferred(t *testing.T) {
	cluster := start(t, coordtest.Options{})
	c := connect(t, cluster.Endpoints()[0])
	leader, between, target := c.open(time.Minute), c.open(time.Minute), c.open(time.Minute)
	campaign := func(s *session) *coordv1.AcquiredEntry {
		resp := &coordv1.Acquired{}
		if r := s.do(coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "e", Value: fmt.Append(nil, s.Id)},
			resp); r != nil {
			t.Fatal(r)
		}
		return resp.Entries[0]
	}
	first, second, third := campaign(leader), campaign(between), campaign(target)
	asked := &coordv1.Asked{}
	if r := target.do(coordv1.Kind_KIND_ASK_RELEASE, &coordv1.AskRelease{Name: "e", From: "me", Reason: "because"},
		asked); r != nil || asked.Holder.GetKey() != first.Key {
		t.Fatalf("ask: %v, %v", r, asked)
	}
	if p := leader.push(leader.Id).GetAsked(); p.GetKey() != first.Key || p.GetToken() != first.Token ||
		p.GetFrom() != "me" || p.GetReason() != "because" {
		t.Errorf("asked: %v", p)
	}
	transferred := &coordv1.Transferred{}
	if r := between.do(coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "e", To: third.Key}, transferred); r != nil {
		t.Fatalf("transfer: %v", r)
	}
	if p := leader.push(leader.Id).GetLost(); p.GetKey() != first.Key ||
		p.GetCause() != coordv1.EntryLost_TRANSFERRED || !p.GetHeld() {
		t.Errorf("the leader: %v", p)
	}
	if p := target.push(target.Id).GetGranted(); p.GetKey() != third.Key || p.GetToken() != transferred.Term {
		t.Errorf("the target: %v, %v", p, transferred)
	}
	p := between.push(between.Id).GetRequeued()
	if p.GetKey() != second.Key || p.GetOldToken() != second.Token || p.GetToken() <= second.Token {
		t.Errorf("who was between: %v", p)
	}
}
