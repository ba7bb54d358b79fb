package recipesvc_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/recipestest"
)

func job(lease int64) *coordv1.AcquireRequest {
	return &coordv1.AcquireRequest{Name: "job", Lease: lease}
}

// TestHandOff: whatever removes the holder, the next in line is told (L5, L6).
func TestHandOff(t *testing.T) {
	f := start(t, 0xa, 0xb, 0xc, 0xd)
	a := f.acquire(job(0xa)).granted()
	b, c, d := f.acquire(job(0xb)).queued(), f.acquire(job(0xc)).queued(), f.acquire(job(0xd)).queued()
	a.release()
	a.lost(coordv1.Lost_REASON_REMOVED, true)
	b.granted()
	f.member.Do(func(s *recipestest.Store) { s.Revoke(0xb) })
	b.lost(coordv1.Lost_REASON_SESSION_ENDED, true)
	c.granted()
	f.member.Do(func(s *recipestest.Store) { s.Delete("job/c") })
	c.lost(coordv1.Lost_REASON_REMOVED, true)
	d.granted()
	if !(a.token < b.token && b.token < c.token && c.token < d.token) {
		t.Errorf("L2: tokens %d %d %d %d", a.token, b.token, c.token, d.token)
	}
}

// TestFIFOUnderContention: fifty contenders, each twice, are granted in the order of their tokens, one at a time, and
// nobody reads the queue anew for it.
func TestFIFOUnderContention(t *testing.T) {
	const contenders = 50
	f := start(t)
	holder := f.holdForever(0x1000)
	var mu sync.Mutex
	var order []int64
	var group sync.WaitGroup
	for i := range contenders {
		lease := int64(i + 1)
		f.member.Do(func(s *recipestest.Store) { s.Leases[lease] = true })
		for _, owner := range []string{"", "b"} {
			req := job(lease)
			req.OwnerId = owner
			s := f.acquire(req).queued()
			group.Go(func() {
				s.granted()
				mu.Lock()
				order = append(order, s.token)
				mu.Unlock()
				s.release()
			})
		}
	}
	before := f.member.Views()
	holder.release()
	group.Wait()
	if len(order) != 2*contenders || !slices.IsSorted(order) {
		t.Errorf("L4: granted in the order %v", order)
	}
	if views := f.member.Views() - before; views > 0 {
		t.Errorf("the queue was read %d times during %d hand-offs", views, 2*contenders)
	}
}

func (f *fixture) holdForever(lease int64) *stream {
	f.Helper()
	f.member.Do(func(s *recipestest.Store) { s.Leases[lease] = true })
	return f.acquire(job(lease)).granted()
}

// TestDeadWaiterIsTold: L7.
func TestDeadWaiterIsTold(t *testing.T) {
	f := start(t, 0xa, 0xb, 0xc)
	a := f.acquire(job(0xa)).granted()
	b, c := f.acquire(job(0xb)).queued(), f.acquire(job(0xc)).queued()
	f.member.Do(func(s *recipestest.Store) { s.Revoke(0xb) })
	b.lost(coordv1.Lost_REASON_SESSION_ENDED, false)
	f.member.Do(func(s *recipestest.Store) { s.Delete("job/c") })
	c.lost(coordv1.Lost_REASON_REMOVED, false)
	_, err := f.lock.TryAcquire(f.ctx, &coordv1.AcquireRequest{Name: "job", Lease: 0xb})
	wantError(t, err, codes.NotFound, coordv1.Error_REASON_SESSION_NOT_FOUND, "etcdserver: requested lease not found")
	a.release()
	f.wantKeys()
}

func TestTryAcquire(t *testing.T) {
	f := start(t, 0xa, 0xb)
	try := func(lease, wait int64) *coordv1.TryAcquireResponse {
		t.Helper()
		resp, err := f.lock.TryAcquire(f.ctx, &coordv1.AcquireRequest{
			Name: "job", Lease: lease, Owner: fmt.Sprint("owner of ", lease), Labels: map[string]string{"why": "test"},
			WaitMs: wait})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	a := try(0xa, 0).Granted
	if again := try(0xa, 0).Granted; again.Token != a.Token || again.Key != a.Key {
		t.Errorf("L8: repeated try: %v, then %v", a, again)
	}
	for _, wait := range []int64{0, 20} {
		b := try(0xb, wait)
		if h := b.NotAcquired.GetHolder(); h.GetToken() != a.Token || h.GetOwner() != "owner of 10" ||
			h.GetLabels()["why"] != "test" {
			t.Errorf("try with wait %d: %v", wait, b)
		}
		if keys := f.keys(); !slices.Equal(keys, []string{"job/a"}) {
			t.Errorf("wait %d: answered while the queue was %q", wait, keys)
		}
	}
	time.AfterFunc(30*time.Millisecond, func() { f.member.Do(func(s *recipestest.Store) { s.Delete("job/a") }) })
	if b := try(0xb, long.Milliseconds()); b.Granted == nil || b.Granted.Token <= a.Token {
		t.Errorf("timed try: %v", b)
	}
}

// TestTimedAcquireLeavesNoGhost: on expiry the entry goes first, also when the removal has to be tried again, and
// even where it was granted meanwhile.
func TestTimedAcquireLeavesNoGhost(t *testing.T) {
	m := recipestest.NewMember()
	var mu sync.Mutex
	faults := 3
	m.BeforePropose = func(_ context.Context, procedure string) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		if procedure != recipes.Release || faults == 0 {
			return false, nil
		}
		faults--
		if faults == 1 { // while nobody knows, the lock becomes free
			m.Do(func(s *recipestest.Store) { s.Delete("job/a") })
		}
		return faults%2 == 0, recipestest.ErrUnknown
	}
	f := startMember(t, m, 0xa, 0xb, 0xc)
	f.acquire(job(0xa)).granted()
	req := job(0xb)
	req.WaitMs = 10
	b := f.acquire(req).queued()
	// The second attempt removes the entry although its answer is lost; the last one finds it gone.
	if ev := b.next(); ev.GetNotAcquired() == nil && ev.GetLost() == nil {
		t.Fatalf("after the deadline: %v", ev)
	}
	if keys := f.keys(); len(keys) != 0 {
		t.Fatalf("answered while the queue was %q", keys)
	}
	f.acquire(job(0xc)).granted()
}

// TestCancelledWaiterLeavesNoGhost: by the end of its stream, with and without grace, and also while its proposal is
// under way.
func TestCancelledWaiterLeavesNoGhost(t *testing.T) {
	m := recipestest.NewMember()
	hold, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var slow sync.Mutex
	m.BeforePropose = func(_ context.Context, procedure string) (bool, error) {
		if procedure == recipes.Acquire && !slow.TryLock() {
			once.Do(func() { close(held) })
			<-hold
		} else if procedure == recipes.Acquire {
			slow.Unlock()
		}
		return false, nil
	}
	f := startMember(t, m, 0xa, 0xb, 0xc, 0xd)
	f.acquire(job(0xa)).granted()
	b := f.acquire(job(0xb)).queued()
	req := job(0xc)
	req.GraceMs = 300
	c := f.acquire(req).queued()
	f.wantKeys("job/a", "job/b", "job/c")
	b.cancel()
	f.wantKeys("job/a", "job/c")
	began := time.Now()
	c.cancel()
	f.wantKeys("job/a")
	if after := time.Since(began); after < 300*time.Millisecond {
		t.Errorf("removed after %v, before its grace was over", after)
	}
	slow.Lock()
	for range 2 {
		<-f.returned // of b and c
	}
	d := f.acquire(job(0xd))
	<-held
	d.cancel()
	<-f.returned // the proposal goes on without its client
	close(hold)
	f.eventually("entry of d appeared and went", func() bool {
		var rev int64
		m.Do(func(s *recipestest.Store) { rev = s.Rev })
		return rev >= 8 && slices.Equal(f.keys(), []string{"job/a"})
	})
}

// TestTakeOver: a request repeated on another stream keeps the place, ends the first stream, and its clean-up harms
// nobody; a resume finds the entry or says that it is gone.
func TestTakeOver(t *testing.T) {
	f := start(t, 0xa, 0xb)
	a := f.acquire(job(0xa)).granted()
	first := f.acquire(job(0xb)).queued()
	again := f.acquire(job(0xb)).queued()
	if again.token != first.token {
		t.Fatalf("L8: token %d, then %d", first.token, again.token)
	}
	_, err := first.rpc.Recv()
	wantError(t, err, codes.Aborted, coordv1.Error_REASON_SUPERSEDED, "later request")
	resume := job(0xb)
	resume.ResumeToken, resume.GraceMs = again.token, 60000
	resumed := f.acquire(resume).queued()
	again.cancel()
	a.release()
	resumed.granted()
	f.wantKeys("job/b")
	stale := job(0xb)
	stale.ResumeToken = a.token
	f.acquire(stale).lost(coordv1.Lost_REASON_REMOVED, false)
	f.wantKeys("job/b")
}

func TestReleaseByTokenOnly(t *testing.T) {
	f := start(t, 0xa)
	first := f.acquire(job(0xa)).granted()
	first.release()
	second := f.acquire(job(0xa)).granted()
	resp, err := f.lock.Release(f.ctx, releaseOf("job", first.key, first.token))
	if err != nil || resp.Removed != 0 {
		t.Errorf("L8: repeated release: %v, %v", resp, err)
	}
	f.wantKeys("job/a")
	_, err = f.lock.Release(f.ctx, releaseOf("job", second.key, second.token+5))
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_TOKEN_MISMATCH, "job/a")
	second.release()
}

func TestCheckTokenAndDescribe(t *testing.T) {
	f := start(t, 0xa, 0xb, 0xc)
	if d, err := f.lock.Describe(f.ctx, &coordv1.DescribeRequest{Name: "job"}); err != nil || d.Holder != nil ||
		d.Waiting != 0 {
		t.Errorf("free: %v, %v", d, err)
	}
	a := f.acquire(job(0xa)).granted()
	req := job(0xb)
	req.Owner, req.Labels = "host-b", map[string]string{"pid": "12", "a": ""}
	b := f.acquire(req).queued()
	f.acquire(job(0xc)).queued()
	d, err := f.lock.Describe(f.ctx, &coordv1.DescribeRequest{Name: "job", Limit: 1})
	if err != nil || d.Holder.GetToken() != a.token || d.Waiting != 2 || len(d.Waiters) != 1 ||
		d.Waiters[0].Owner != "host-b" || d.Waiters[0].Labels["pid"] != "12" ||
		string(d.Waiters[0].Value) != "host-b\na=\npid=12" {
		t.Errorf("describe: %v, %v", d, err)
	}
	check := func(key string, token int64, holds, waits bool) {
		t.Helper()
		resp, err := f.lock.CheckToken(f.ctx, &coordv1.CheckTokenRequest{Name: "job", Key: key, Token: token})
		if err != nil || resp.Holds != holds || resp.Waits != waits {
			t.Errorf("check %s %d: %v, %v", key, token, resp, err)
		}
	}
	check(a.key, a.token, true, false)
	check(b.key, b.token, false, true)
	check(b.key, a.token, false, false)
	a.release()
	check(a.key, a.token, false, false)
	check(b.key, b.token, true, false)
}

// TestGap: what happened while changes were missed is found out by reading the queue again.
func TestGap(t *testing.T) {
	f := start(t, 0xa, 0xb, 0xc)
	a := f.acquire(job(0xa)).granted()
	b, c := f.acquire(job(0xb)).queued(), f.acquire(job(0xc)).queued()
	f.member.Jump(func(s *recipestest.Store) {
		s.Delete("job/a")
		s.Revoke(0xb)
	})
	a.lost(coordv1.Lost_REASON_REMOVED, true)
	b.lost(coordv1.Lost_REASON_SESSION_ENDED, false)
	c.granted()
}

func TestBadRequests(t *testing.T) {
	f := start(t, 0xa)
	for what, req := range map[string]*coordv1.AcquireRequest{
		"name is empty":    {Lease: 0xa},
		"ends in a slash":  {Name: "a/", Lease: 0xa},
		"lease 0":          {Name: "a"},
		"wait_ms":          {Name: "a", Lease: 0xa, WaitMs: -1},
		"line break":       {Name: "a", Lease: 0xa, Owner: "x\ny"},
		"label":            {Name: "a", Lease: 0xa, Labels: map[string]string{"": "x"}},
		"other characters": {Name: "a", Lease: 0xa, OwnerId: "a.b"},
	} {
		_, err := f.lock.TryAcquire(f.ctx, req)
		wantError(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, what)
	}
	s := f.acquire(&coordv1.AcquireRequest{Name: "a", Lease: 0xa, GraceMs: 60001})
	_, err := s.rpc.Recv()
	wantError(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "grace_ms")
	_, err = f.lock.Describe(f.ctx, &coordv1.DescribeRequest{Name: "a", Limit: -1})
	wantError(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "limit")
	_, err = f.lock.CheckToken(f.ctx, &coordv1.CheckTokenRequest{})
	wantError(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "empty")
}

// TestUnknownOutcome: a hidden outcome is told as one, and the repeated request finds the entry the first one made.
func TestUnknownOutcome(t *testing.T) {
	m := recipestest.NewMember()
	var once sync.Once
	m.BeforePropose = func(context.Context, string) (drop bool, err error) {
		once.Do(func() { err = recipestest.ErrUnknown })
		return false, err
	}
	f := startMember(t, m, 0xa)
	_, err := f.lock.TryAcquire(f.ctx, &coordv1.AcquireRequest{Name: "job", Lease: 0xa})
	wantError(t, err, codes.Unavailable, coordv1.Error_REASON_OUTCOME_UNKNOWN, "timed out")
	resp, err := f.lock.TryAcquire(f.ctx, &coordv1.AcquireRequest{Name: "job", Lease: 0xa})
	if err != nil || resp.GetGranted().GetToken() != 2 {
		t.Errorf("repeated: %v, %v", resp, err)
	}
	f.wantKeys("job/a")
}

// TestClose: streams end with Unavailable, and the entries stay for their clients to come back.
func TestClose(t *testing.T) {
	m := recipestest.NewMember()
	stuck := make(chan struct{})
	var proposals atomic.Int64
	m.BeforePropose = func(ctx context.Context, _ string) (bool, error) {
		if proposals.Add(1) < 3 {
			return false, nil
		}
		close(stuck)
		<-ctx.Done()
		return true, ctx.Err()
	}
	f := startMember(t, m, 0xa, 0xb, 0xc)
	a, b := f.acquire(job(0xa)).granted(), f.acquire(job(0xb)).queued()
	c := f.acquire(job(0xc))
	<-stuck
	f.service.Close()
	for _, s := range []*stream{a, b, c} {
		if _, err := s.rpc.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", s.key, err)
		}
	}
	_, err := f.lock.TryAcquire(f.ctx, &coordv1.AcquireRequest{Name: "job", Lease: 0xa})
	wantError(t, err, codes.Unavailable, coordv1.Error_REASON_OUTCOME_UNKNOWN, "stopping")
	f.wantKeys("job/a", "job/b")
}
