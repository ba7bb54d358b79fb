package recipesvc_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes/recipestest"
)

// events is a stream of one of the services.
type events struct {
	*testing.T
	rpc grpc.ServerStreamingClient[coordv1.AcquireEvent]
}

func (f *fixture) events(rpc grpc.ServerStreamingClient[coordv1.AcquireEvent], err error) events {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
	return events{f.T, rpc}
}

func (e events) next() *coordv1.AcquireEvent {
	e.Helper()
	ev, err := e.rpc.Recv()
	if err != nil {
		e.Fatal(err)
	}
	return ev
}

func (e events) granted() *coordv1.Granted {
	e.Helper()
	ev := e.next()
	if ev.GetGranted() == nil {
		e.Fatalf("%v, not granted", ev)
	}
	return ev.GetGranted()
}

func (e events) queued() *coordv1.Queued {
	e.Helper()
	ev := e.next()
	if ev.GetQueued() == nil {
		e.Fatalf("%v, not queued", ev)
	}
	return ev.GetQueued()
}

func TestRWLock(t *testing.T) {
	f := start(t, 0xa, 0xb, 0xc)
	rw := coordv1.NewRWLockClient(f.conn)
	acquire := func(lease int64, write bool) events {
		return f.events(rw.Acquire(f.ctx, &coordv1.RWAcquireRequest{
			Name: "job", Lease: lease, Write: write, Owner: "me",
		}))
	}
	writer := acquire(0xa, true).granted()
	waiting := acquire(0xb, false)
	if q := waiting.queued(); q.Position != 1 || q.Holder.GetOwner() != "me" || !q.Holder.GetWrite() {
		t.Errorf("queued: %v", q)
	}
	_, err := rw.TryAcquire(f.ctx, &coordv1.RWAcquireRequest{Name: "job", Lease: 0xb, Write: true})
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_UPGRADE, "job")
	guard := &coordv1.Guard{Name: "job", Key: writer.Key, Token: writer.Token}
	if r, err := rw.Downgrade(f.ctx, &coordv1.RWDowngrade{Entry: guard}); err != nil || !r.Downgraded {
		t.Fatalf("downgrade: %v, %v", r, err)
	}
	reader := waiting.granted()
	if r, err := rw.TryAcquire(f.ctx, &coordv1.RWAcquireRequest{Name: "job", Lease: 0xc, Write: true}); err != nil ||
		r.NotAcquired.GetHolder().GetKey() != writer.Key {
		t.Errorf("try: %v, %v", r, err)
	}
	if d, err := rw.Describe(f.ctx, &coordv1.DescribeRequest{Name: "job"}); err != nil || d.Holding != 2 ||
		d.Holders[1].Owner != "me" || d.Holder.Write {
		t.Errorf("describe: %v, %v", d, err)
	}
	if r, err := rw.Release(f.ctx,
		releaseOf("job", writer.Key, writer.Token)); err != nil || r.Removed != 1 {
		t.Errorf("release: %v, %v", r, err)
	}
	if c, err := rw.CheckToken(f.ctx,
		&coordv1.CheckTokenRequest{Name: "job", Key: reader.Key, Token: reader.Token}); err != nil || !c.Holds {
		t.Errorf("check: %v, %v", c, err)
	}
}

func TestSemaphore(t *testing.T) {
	f := start(t, 0xa, 0xb, 0xc)
	sem := coordv1.NewSemaphoreClient(f.conn)
	acquire := func(lease, permits, limit int64) events {
		return f.events(sem.Acquire(f.ctx, &coordv1.SemaphoreAcquireRequest{
			Name: "job", Lease: lease, Permits: permits, Limit: limit,
		}))
	}
	_, err := acquire(0xa, 1, 0).rpc.Recv()
	wantError(t, err, codes.NotFound, coordv1.Error_REASON_NOT_SET, "has no limit")
	first := acquire(0xa, 2, 3).granted()
	waiting := acquire(0xb, 2, 0)
	if q := waiting.queued(); q.Holder.GetPermits() != 2 {
		t.Errorf("queued: %v", q)
	}
	try := &coordv1.SemaphoreAcquireRequest{Name: "job", Lease: 0xc, Permits: 1, WaitMs: 1}
	if r, err := sem.TryAcquire(f.ctx, try); err != nil || r.NotAcquired == nil {
		t.Errorf("one behind two for a moment: %v, %v", r, err)
	}
	_, err = sem.Resize(f.ctx, &coordv1.SemaphoreResize{Name: "job", Limit: 1, Drain: true})
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_LIMIT_BELOW_HELD, "waits for 2")
	if r, err := sem.Resize(f.ctx, &coordv1.SemaphoreResize{Name: "job", Limit: 4}); err != nil || r.Before != 3 ||
		r.Held != 4 {
		t.Errorf("resize: %v, %v", r, err)
	}
	second := waiting.granted()
	f.member.Do(func(s *recipestest.Store) { s.Revoke(0xa) })
	if c, err := sem.CheckToken(f.ctx,
		&coordv1.CheckTokenRequest{Name: "job", Key: first.Key, Token: first.Token}); err != nil || c.Holds {
		t.Errorf("check of a dead session's: %v, %v", c, err)
	}
	if d, err := sem.Describe(f.ctx, &coordv1.DescribeRequest{Name: "job"}); err != nil || d.Semaphore.Held != 2 ||
		d.Semaphore.Limit != 4 || d.Holder.Key != second.Key {
		t.Errorf("describe: %v, %v", d, err)
	}
}

// Who leaves waits for all of its generation, whether they leave or die; whose generation is over does not wait for the
// next.
func TestBarrier(t *testing.T) {
	f := start(t, 0xa, 0xb, 0xc, 0xd)
	b := coordv1.NewBarrierClient(f.conn)
	enter := func(lease int64) events {
		return f.events(b.Enter(f.ctx, &coordv1.BarrierEnterRequest{Name: "job", Lease: lease, Parties: 3}))
	}
	first := enter(0xa)
	queued := first.queued()
	if queued.Position != 0 || queued.Holder != nil {
		t.Errorf("queued: %v", queued)
	}
	_, err := b.Leave(f.ctx, &coordv1.BarrierLeaveRequest{Name: "job", Key: queued.Key, Token: queued.Token})
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_NOT_HOLDER, "waits")
	second := enter(0xb)
	second.queued()
	third := enter(0xc).granted()
	left := make(chan error, 2)
	for _, g := range []*coordv1.Granted{first.granted(), third} {
		go func() {
			_, err := b.Leave(f.ctx, &coordv1.BarrierLeaveRequest{Name: "job", Key: g.Key, Token: g.Token})
			left <- err
		}()
	}
	described := func() *coordv1.BarrierInfo {
		d, err := b.Describe(f.ctx, &coordv1.DescribeRequest{Name: "job"})
		if err != nil {
			t.Fatal(err)
		}
		return d.Barrier
	}
	f.eventually("two have left", func() bool { return described().Arrived == 1 })
	_, err = enter(0xd).rpc.Recv()
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_BARRIER_FULL, "generation 1")
	select {
	case err := <-left:
		t.Fatalf("left while one is inside: %v", err)
	default:
	}
	f.member.Do(func(s *recipestest.Store) { s.Revoke(0xb) })
	for range 2 {
		if err := <-left; err != nil {
			t.Error(err)
		}
	}
	enter(0xd).queued()
	if _, err := b.Leave(f.ctx,
		&coordv1.BarrierLeaveRequest{Name: "job", Key: third.Key, Token: third.Token}); err != nil {
		t.Errorf("leave again: %v", err)
	}
	if i := described(); i.Generation != 1 || i.Open || i.Arrived != 1 {
		t.Errorf("described: %v", i)
	}
}
