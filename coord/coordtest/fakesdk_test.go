package coordtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// patience bounds waits for what must happen.
const patience = 30 * time.Second

// connect is a client of the fake on its clock.
func connect(t *testing.T, fake *coordtest.Fake) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Endpoints: []string{fake.Endpoint()}, Clock: fake.Clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// open opens a session with this TTL.
func open(t *testing.T, fake *coordtest.Fake, ttl time.Duration) *client.Session {
	t.Helper()
	s, err := connect(t, fake).NewSession(t.Context(), client.WithTTL(ttl))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// waitUntil waits for what must become true.
func waitUntil(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// TestL6ExpiryGrantsTheNext: the lock of a dead session is granted to the next one when the TTL is over: not a
// millisecond before, and at once then.
func TestL6ExpiryGrantsTheNext(t *testing.T) {
	fake := coordtest.NewFake(t)
	dead, next := open(t, fake, 10*time.Second), open(t, fake, time.Hour)
	held, err := dead.Lock("job").Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	granted := make(chan *client.Held, 1)
	go func() {
		h, err := next.Lock("job").Acquire(context.Background())
		if err != nil {
			t.Error(err)
		}
		granted <- h
	}()
	waitUntil(t, "the next one waits", func() bool {
		d, err := next.Lock("job").Describe(t.Context())
		return err == nil && d.Waiting == 1
	})
	fake.Pause() // from here on nobody renews
	fake.Advance(10*time.Second - time.Millisecond)
	select {
	case <-granted:
		t.Fatal("granted before the TTL of the holder was over")
	case <-time.After(50 * time.Millisecond):
	}
	fake.Advance(time.Millisecond)
	select {
	case h := <-granted:
		if h.Token() <= held.Token() {
			t.Errorf("token %d after %d", h.Token(), held.Token())
		}
	case <-time.After(patience):
		t.Fatal("not granted when the TTL of the holder was over")
	}
	fake.Resume()
	select {
	case <-held.Lost():
	case <-time.After(patience):
		t.Error("the dead session's holder does not know that it has lost")
	}
}

// TestE5FencedWritesOfAnExLeader: what a leader writes under its guard is refused once another one leads, though it
// does not know yet.
func TestE5FencedWritesOfAnExLeader(t *testing.T) {
	fake := coordtest.NewFake(t)
	etcd := dial(t, []string{fake.Endpoint()})
	write := func(term *client.Leadership, value string) bool {
		t.Helper()
		resp, err := etcd.Txn(t.Context()).If(term.Guards()...).Then(clientv3.OpPut("state", value)).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return resp.Succeeded
	}
	old, err := open(t, fake, 10*time.Second).Election("e").Campaign(t.Context(), []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	if !write(old, "old") {
		t.Fatal("the leader's own write was refused")
	}
	fake.Advance(10 * time.Second)
	successor, err := open(t, fake, 10*time.Second).Election("e").Campaign(t.Context(), []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	if !write(successor, "new") || write(old, "old") {
		t.Error("the new leader's write passes, and the old one's does not")
	}
	if r, err := etcd.Get(t.Context(), "state"); err != nil || string(r.Kvs[0].Value) != "new" {
		t.Errorf("state is %v, %v", r, err)
	}
	if successor.Term() <= old.Term() {
		t.Errorf("term %d after %d", successor.Term(), old.Term())
	}
	// It is refused as lost, or is under way when the client hears that its session has ended.
	err = old.Proclaim(t.Context(), []byte("still me"))
	if !errors.Is(err, client.ErrLost) && !errors.Is(err, client.ErrSessionExpired) {
		t.Errorf("the old leader proclaims: %v", err)
	}
	if r, err := etcd.Get(t.Context(), successor.Key()); err != nil || string(r.Kvs[0].Value) != "new" {
		t.Errorf("the leader's value is %v, %v", r, err)
	}
}

// A session lives on when its client gets the time to renew it between two turns of the clock.
func TestSessionOfAFakeIsRenewed(t *testing.T) {
	fake := coordtest.NewFake(t)
	s := open(t, fake, 10*time.Second)
	for range 5 {
		fake.Advance(6 * time.Second)
		waitUntil(t, "a renewal", func() bool { return s.Err() != nil || time.Until(s.Deadline()) > 6*time.Second })
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

// The answer to an acquire is lost with the stream: the client asks again on the next one, and there is one entry.
func TestLostResponseOfAnAcquire(t *testing.T) {
	fake := coordtest.NewFake(t)
	s := open(t, fake, 10*time.Second)
	fake.LoseResponses(1)
	held, err := s.Lock("job").Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Lock("job").Describe(t.Context())
	if err != nil || d.Waiting != 0 || d.Holder().Token != held.Token() {
		t.Errorf("with token %d: %v, %v", held.Token(), d, err)
	}
}

// TestGuardsOfALeaderThatWasTakenOver: etcd's Election, resumed with a leader's key and revision by another session,
// puts the key on that one's lease and leads by it. Our leader's guards must not succeed then (L10).
func TestGuardsOfALeaderThatWasTakenOver(t *testing.T) {
	fake := coordtest.NewFake(t)
	etcd := dial(t, []string{fake.Endpoint()})
	term, err := open(t, fake, 10*time.Second).Election("taken").Campaign(t.Context(), []byte("ours"))
	if err != nil {
		t.Fatal(err)
	}
	commit := func() bool {
		resp, err := etcd.Txn(t.Context()).If(term.Guards()...).Then(clientv3.OpPut("state", "ours")).Commit()
		if err != nil {
			t.Fatal(err)
		}
		return resp.Succeeded
	}
	if !commit() {
		t.Fatal("the guards failed while we led")
	}
	s, err := concurrency.NewSession(etcd, concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	theirs := concurrency.ResumeElection(s, "taken", term.Key(), term.Term())
	if err := theirs.Proclaim(t.Context(), "theirs"); err != nil {
		t.Fatal(err)
	}
	if commit() {
		t.Error("the guards succeeded though another client leads by the key")
	}
}
