package exampletest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// TestLocksAreAcquiredTogether: 20 goroutines want two of four locks each, in any order: nobody waits for ever (they
// would wait for each other in a circle if the names were acquired one after the other), nobody is inside with another.
func TestLocksAreAcquiredTogether(t *testing.T) {
	c, ctx := dial(t, endpoint), bounded(t)
	names := []string{"multi/a", "multi/b", "multi/c", "multi/d"}
	var mu sync.Mutex
	inside := map[string]bool{}
	mark := func(held *client.HeldLocks, in bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range held.Names() {
			if inside[name] == in {
				t.Errorf("L1: two inside %s", name)
			}
			inside[name] = in
		}
	}
	var group sync.WaitGroup
	for i := range 20 {
		own := []string{names[i%4], names[(i+1+i/4%3)%4]}
		if i%2 == 0 {
			slices.Reverse(own)
		}
		group.Go(func() {
			err := c.Locks(own...).Do(ctx, func(ctx context.Context, held *client.HeldLocks) error {
				mark(held, true)
				defer mark(held, false)
				_, err := held.KV().Put(ctx, "multi-row", "x")
				return err
			})
			if err != nil {
				t.Errorf("%v: %v", own, err)
			}
		})
	}
	group.Wait()
	held, err := c.Locks(names[:2]...).Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Locks(names[1:]...).TryAcquire(ctx); !errors.Is(err, client.ErrNotAcquired) {
		t.Errorf("try while one is held: %v", err)
	}
	if h, err := c.Locks(names[2:]...).TryAcquire(ctx); err != nil || h.Release(ctx) != nil {
		t.Errorf("try of others: %v", err)
	}
	resp, err := c.Txn(ctx).If(held.Guards()...).Then(clientv3.OpPut("multi-row", "guarded")).Commit()
	if err != nil || !resp.Succeeded {
		t.Errorf("guards: %v, %v", resp, err)
	}
	if err := held.Release(ctx); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]string{{}, {"x", "x"}, {"x", ""}} {
		if _, err := c.Locks(bad...).Acquire(ctx); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestDelay: after an unclean death nobody holds for as long as the lock said; after a release the next one does at
// once.
func TestDelay(t *testing.T) {
	fake, c := clocked(t)
	s, err := c.NewSession(bounded(t), client.WithTTL(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	acquire(t, s, "delayed", client.WithDelay(time.Minute))
	fake.Advance(10 * time.Second)
	<-s.Done()
	if _, err := c.Lock("delayed").TryAcquire(bounded(t)); !errors.Is(err, client.ErrNotAcquired) {
		t.Errorf("during the delay: %v", err)
	}
	fake.Advance(59 * time.Second)
	if _, err := c.Lock("delayed").TryAcquire(bounded(t)); !errors.Is(err, client.ErrNotAcquired) {
		t.Errorf("just before its end: %v", err)
	}
	fake.Advance(time.Second)
	held, err := c.Lock("delayed").TryAcquire(bounded(t), client.WithDelay(time.Minute))
	if err != nil {
		t.Fatalf("after it: %v", err)
	}
	if err := held.Release(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lock("delayed").TryAcquire(bounded(t)); err != nil {
		t.Errorf("after a release: %v", err)
	}
}

// TestHolderIsAsked: it hears who asks and why, and gives the lock back.
func TestHolderIsAsked(t *testing.T) {
	c, other, ctx := dial(t, endpoint), dial(t, endpoint), bounded(t)
	asked := make(chan string, 1)
	held, err := c.Lock("asked").Acquire(ctx, client.WithOwner("holder"),
		client.OnAsked(func(_, reason string) { asked <- reason }))
	if err != nil {
		t.Fatal(err)
	}
	if who, err := other.Lock("asked").AskRelease(ctx, "I am in a hurry"); err != nil || who.Owner != "holder" {
		t.Fatalf("%v, %v", who, err)
	}
	select {
	case reason := <-asked:
		if reason != "I am in a hurry" {
			t.Errorf("asked %q", reason)
		}
	case <-ctx.Done():
		t.Fatal("the holder was not asked")
	}
	if err := held.Release(ctx); err != nil {
		t.Error(err)
	}
	if _, err := other.Lock("asked").AskRelease(ctx, ""); !errors.Is(err, client.ErrNotHolder) {
		t.Errorf("nobody holds: %v", err)
	}
}

// campaigning campaigns beside the test.
func campaigning(t *testing.T, s *client.Session, name, value string,
	opts ...client.CampaignOption) <-chan *client.Leadership {
	t.Helper()
	won, ctx := make(chan *client.Leadership, 1), bounded(t)
	go func() {
		l, err := s.Election(name).Campaign(ctx, []byte(value), opts...)
		if err != nil {
			t.Error(err)
		}
		won <- l
	}()
	return won
}

// TestTransferToANamedCandidate: it leads next, those before it keep their order behind it, the old leader is fenced
// (E4, E5).
func TestTransferToANamedCandidate(t *testing.T) {
	c, ctx := dial(t, endpoint), bounded(t)
	sessions := make([]*client.Session, 4)
	for i := range sessions {
		sessions[i] = newSession(t, c, time.Minute)
	}
	leader, err := sessions[0].Election("transferred").Campaign(ctx, []byte("0"))
	if err != nil {
		t.Fatal(err)
	}
	var won [4]<-chan *client.Leadership
	for i := 1; i < 4; i++ {
		won[i] = campaigning(t, sessions[i], "transferred", string(rune('0'+i)))
		waitFor(t, c, "transferred", int64(i+1))
	}
	q, err := c.Lock("transferred").Describe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Transfer(ctx, "transferred/123"); !errors.Is(err, client.ErrNoCandidate) || leader.Err() != nil {
		t.Errorf("to nobody: %v, %v", err, leader.Err())
	}
	if err := leader.Transfer(ctx, q.Waiters[2].Key); err != nil {
		t.Fatal(err)
	}
	if err := leader.Err(); !errors.Is(err, client.ErrTransferred) {
		t.Errorf("old leader: %v", err)
	}
	if _, err := leader.KV().Put(ctx, "transferred-row", "late"); !errors.Is(err, client.ErrFenced) {
		t.Errorf("E5: the old leader's write: %v", err)
	}
	term := leader.Term()
	for _, i := range []int{3, 1, 2} {
		l := <-won[i]
		if l == nil {
			return
		}
		if l.Term() <= term {
			t.Errorf("E2: term %d after %d", l.Term(), term)
		}
		term = l.Term()
		if err := l.Resign(ctx); err != nil {
			t.Errorf("resign %d: %v", i, err)
		}
	}
	waitFor(t, c, "transferred", 0)
}

// TestCancelledCandidateThatWasMoved: its key has another token than it was made with, and is removed all the same.
func TestCancelledCandidateThatWasMoved(t *testing.T) {
	c, ctx := dial(t, endpoint), bounded(t)
	leader, err := newSession(t, c, time.Minute).Election("moved").Campaign(ctx, []byte("0"))
	if err != nil {
		t.Fatal(err)
	}
	moved, cancel := context.WithCancel(ctx)
	gone := make(chan error, 1)
	go func() {
		_, err := newSession(t, c, time.Minute).Election("moved").Campaign(moved, []byte("1"))
		gone <- err
	}()
	waitFor(t, c, "moved", 2)
	next := campaigning(t, newSession(t, c, time.Minute), "moved", "2")
	waitFor(t, c, "moved", 3)
	q, err := c.Lock("moved").Describe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.Transfer(ctx, q.Waiters[1].Key); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if l := <-next; l != nil {
		waitFor(t, c, "moved", 1)
		if err := l.Resign(ctx); err != nil {
			t.Error(err)
		}
	}
	waitFor(t, c, "moved", 0)
}

// TestPriorities: the greatest leads next, whoever came first; terms grow, and old leaders are fenced.
func TestPriorities(t *testing.T) {
	c, ctx := dial(t, endpoint), bounded(t)
	election := c.Election("ranked").WithPriorities()
	leader, err := newSession(t, c, time.Minute).Election("ranked").Campaign(ctx, []byte("first"),
		client.WithPriority(1))
	if err != nil {
		t.Fatal(err)
	}
	won := map[int64]<-chan *client.Leadership{}
	for _, priority := range []int64{2, 9, 5} {
		waits := make(chan struct{})
		won[priority] = campaigning(t, newSession(t, c, time.Minute), "ranked", "later", client.WithPriority(priority),
			client.OnQueued(func(int64, string) { close(waits) }))
		<-waits
	}
	if l, err := election.Leader(ctx); err != nil || l.Term != leader.Term() || string(l.Value) != "first" {
		t.Errorf("leader %+v, %v", l, err)
	}
	if _, err := c.Election("ranked").Leader(ctx); !errors.Is(err, client.ErrNoLeader) {
		t.Errorf("the election without priorities: %v", err)
	}
	for _, priority := range []int64{9, 5, 2} {
		if err := leader.Resign(ctx); err != nil {
			t.Fatal(err)
		}
		next := <-won[priority]
		if next == nil {
			return
		}
		if next.Term() <= leader.Term() {
			t.Errorf("E2: term %d after %d", next.Term(), leader.Term())
		}
		if _, err := leader.KV().Put(ctx, "ranked-row", "late"); !errors.Is(err, client.ErrFenced) {
			t.Errorf("E5: %v", err)
		}
		if _, err := next.KV().Put(ctx, "ranked-row", "x"); err != nil {
			t.Errorf("guard of priority %d: %v", priority, err)
		}
		leader = next
	}
	if err := leader.Resign(ctx); err != nil {
		t.Error(err)
	}
}

// TestRunCampaignsAgain: the shared session expires under a leader; it stops, and leads again in another session.
func TestRunCampaignsAgain(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, err := client.New(client.Config{Endpoints: []string{fake.Endpoint()}, Clock: fake.Clock,
		SessionTTL: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	terms := 0
	var last int64
	err = c.Election("again").Run(bounded(t), []byte("me"), func(ctx context.Context, term *client.Leadership) error {
		if term.Term() <= last {
			t.Errorf("E2: term %d after %d", term.Term(), last)
		}
		last = term.Term()
		if terms++; terms == 3 {
			return nil
		}
		fake.Advance(10 * time.Second)
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), client.ErrSessionExpired) {
			t.Errorf("cause: %v", context.Cause(ctx))
		}
		return nil
	})
	if err != nil || terms != 3 {
		t.Errorf("%v after %d terms", err, terms)
	}
}

// TestS4NothingRevives: what a client sends in a session that is over is refused by name, and does nothing.
func TestS4NothingRevives(t *testing.T) {
	fake := coordtest.NewFake(t)
	c := dial(t, fake.Endpoint()) // its clock stands still for the fake's
	s := newSession(t, c, time.Minute)
	held := acquire(t, s, "s4")
	fake.Advance(time.Minute)
	<-held.Lost()
	if err := held.Err(); !errors.Is(err, client.ErrSessionExpired) {
		t.Errorf("%v", err)
	}
	if _, err := s.KV().Put(bounded(t), "s4-row",
		"x"); !errors.Is(err, client.ErrSessionExpired) || errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("put: %v", err)
	}
	if resp, err := c.Get(bounded(t), "s4", clientv3.WithPrefix()); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("%v, %v", resp, err)
	}
}

// TestBadSessions: a TTL that is too short and an identity that is too long are refused by name.
func TestBadSessions(t *testing.T) {
	c := dial(t, endpoint)
	for _, opts := range [][]client.SessionOption{
		{client.WithTTL(99 * time.Millisecond)}, {client.WithTTL(-time.Second)},
		{client.WithIdentity(string(make([]byte, 257)), "p")}, {client.WithLabel("", "x")},
	} {
		if s, err := c.NewSession(bounded(t), opts...); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%v, %v", s, err)
		}
	}
}
