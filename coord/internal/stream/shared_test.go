package stream_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// enter sends a request for one entry and expects it in this state.
func (s *session) enter(kind coordv1.Kind, req proto.Message, want coordv1.AcquiredEntry_State) *coordv1.Guard {
	s.t.Helper()
	resp := &coordv1.Acquired{}
	if r := s.do(kind, req, resp); r != nil || len(resp.Entries) != 1 || resp.Entries[0].State != want {
		s.t.Fatalf("%v: %v, %v", req, r, resp)
	}
	return guard(resp.Entries[0])
}

const (
	holds = coordv1.AcquiredEntry_HOLDS
	waits = coordv1.AcquiredEntry_WAITS
)

// What a writer, a big request or an incomplete barrier keeps waiting is told of its grant together, on whatever
// member.
func TestSharedGrantsArePushed(t *testing.T) {
	cluster := start(t, coordtest.Options{Members: 3})
	a, b := connect(t, cluster.Endpoints()[0]).open(time.Minute), connect(t, cluster.Endpoints()[1]).open(time.Minute)

	rw := coordv1.Kind_KIND_RW_ACQUIRE
	writer := a.enter(rw, &coordv1.RWAcquire{Name: "x", Write: true}, holds)
	first := b.enter(rw, &coordv1.RWAcquire{Name: "x"}, waits)
	second := a.enter(rw, &coordv1.RWAcquire{Name: "x", OwnerId: "2"}, waits)
	last := b.enter(rw, &coordv1.RWAcquire{Name: "x", OwnerId: "3", Write: true}, waits)
	down := &coordv1.RWDowngraded{}
	if r := a.do(coordv1.Kind_KIND_RW_DOWNGRADE, &coordv1.RWDowngrade{Entry: writer}, down); r != nil ||
		!down.Downgraded {
		t.Fatalf("downgrade: %v, %v", r, down)
	}
	b.wantGranted(first)
	a.wantGranted(second)
	b.release(first)
	a.release(writer, second)
	b.wantGranted(last)

	take := coordv1.Kind_KIND_SEMAPHORE_ACQUIRE
	two := a.enter(take, &coordv1.SemaphoreAcquire{Name: "x", Permits: 2, Limit: 2}, holds)
	big := b.enter(take, &coordv1.SemaphoreAcquire{Name: "x", Permits: 2}, waits)
	small := b.enter(take, &coordv1.SemaphoreAcquire{Name: "x", OwnerId: "2", Permits: 1}, waits)
	resized := &coordv1.SemaphoreResized{}
	if r := a.do(coordv1.Kind_KIND_SEMAPHORE_RESIZE, &coordv1.SemaphoreResize{Name: "x", Limit: 4},
		resized); r != nil || resized.Held != 4 {
		t.Fatalf("resize: %v, %v", r, resized)
	}
	b.wantGranted(big)
	a.release(two)
	b.wantGranted(small)

	enter := coordv1.Kind_KIND_BARRIER_ENTER
	one := a.enter(enter, &coordv1.BarrierEnter{Name: "x", Parties: 2}, waits)
	other := b.enter(enter, &coordv1.BarrierEnter{Name: "x", Parties: 2}, holds)
	a.wantGranted(one)
	if r := a.do(enter, &coordv1.BarrierEnter{Name: "x", OwnerId: "2", Parties: 2},
		&coordv1.Acquired{}); r.GetReason() != coordv1.Error_REASON_BARRIER_FULL {
		t.Errorf("a third party: %v", r)
	}
	a.quiet()
	b.quiet()

	for _, held := range []*coordv1.Guard{last, big, small, one, other} {
		check := &coordv1.CheckTokenResponse{}
		req := &coordv1.CheckTokenRequest{Name: held.Name, Key: held.Key, Token: held.Token}
		if r := a.ask(coordv1.Kind_KIND_CHECK_TOKEN, req, check); r != nil || !check.Holds {
			t.Errorf("check of %v: %v, %v", held, r, check)
		}
	}
	describe := func(kind coordv1.QueueKind) *coordv1.DescribeResponse {
		resp := &coordv1.DescribeResponse{}
		if r := a.ask(coordv1.Kind_KIND_DESCRIBE, &coordv1.DescribeRequest{Name: "x", Kind: kind}, resp); r != nil {
			t.Fatal(r)
		}
		return resp
	}
	if d := describe(coordv1.QueueKind_QUEUE_SEMAPHORE); d.Semaphore.GetLimit() != 4 || d.Semaphore.GetHeld() != 3 ||
		d.Holding != 2 || d.Holder.GetPermits() != 2 {
		t.Errorf("semaphore: %v", d)
	}
	if d := describe(coordv1.QueueKind_QUEUE_RWLOCK); d.Holding != 1 || !d.Holder.GetWrite() || d.Semaphore != nil {
		t.Errorf("read-write lock: %v", d)
	}
	if d := describe(coordv1.QueueKind_QUEUE_BARRIER); !d.Barrier.GetOpen() || d.Barrier.GetGeneration() != 1 ||
		d.Holding != 2 {
		t.Errorf("barrier: %v", d)
	}
}

// Who comes back through another member is told of what it holds and waits for, in queues with several holders, too.
func TestSharedEntriesAnnounced(t *testing.T) {
	cluster := start(t, coordtest.Options{Members: 3})
	a := connect(t, cluster.Endpoints()[0]).open(time.Minute)
	take := coordv1.Kind_KIND_SEMAPHORE_ACQUIRE
	one := a.enter(take, &coordv1.SemaphoreAcquire{Name: "x", Permits: 1, Limit: 2}, holds)
	two := a.enter(take, &coordv1.SemaphoreAcquire{Name: "x", OwnerId: "2", Permits: 1}, holds)
	three := a.enter(take, &coordv1.SemaphoreAcquire{Name: "x", OwnerId: "3", Permits: 1}, waits)
	b := *a
	b.raw = connect(t, cluster.Endpoints()[1])
	resp := &coordv1.SessionAttached{}
	req := &coordv1.SessionAttach{
		Session: a.Id, Created: a.Created, Epoch: a.Epoch + 1, Entries: []*coordv1.Guard{one, two, three},
	}
	if r := b.ask(coordv1.Kind_KIND_SESSION_ATTACH, req, resp); r != nil {
		t.Fatal(r)
	}
	attached := resp.Entries
	if len(attached) != 3 || attached[0].State != holds || attached[1].State != holds || attached[2].State != waits ||
		attached[2].Position != 2 {
		t.Fatalf("attached: %v", attached)
	}
	b.release(two)
	b.wantGranted(three)
}
