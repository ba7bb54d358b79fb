package coordtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// lose has a session be lost for its client, but not for the server, to which the client stays connected.
func lose(t *testing.T, fake *coordtest.Fake, s *client.Session) {
	t.Helper()
	fake.Pause() // nobody renews
	fake.Advance(9500 * time.Millisecond)
	waitUntil(t, "the session is lost", func() bool { return s.Err() != nil })
	fake.Resume()
}

// TestS2LostSessionExpires: the heartbeats of a client, which keep its other sessions, do not keep one that it has
// given up.
func TestS2LostSessionExpires(t *testing.T) {
	fake := coordtest.NewFake(t)
	c := connect(t, fake)
	s, err := c.NewSession(t.Context(), client.WithTTL(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := c.NewSession(t.Context(), client.WithTTL(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lock("job").Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	lose(t, fake, s)
	for range 6 {
		waitUntil(t, "a heartbeat is acknowledged", func() bool {
			return time.Until(kept.Deadline()) > 54*time.Minute-time.Second
		})
		fake.Advance(4 * time.Second)
	}
	if d, err := kept.Lock("job").Describe(t.Context()); err != nil || d.Holding > 0 {
		t.Fatalf("24 s later: %v, %v", d, err)
	}
}

// TestS2ClosedSessionEnds: Close ends a session also where its context has no time for it.
func TestS2ClosedSessionEnds(t *testing.T) {
	fake := coordtest.NewFake(t)
	s, other := open(t, fake, 10*time.Second), open(t, fake, time.Hour)
	if _, err := s.Lock("job").Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(over); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	waitUntil(t, "the lock is free", func() bool {
		d, err := other.Lock("job").Describe(t.Context())
		return err == nil && d.Holding == 0
	})
}

// TestBarrierPartyIsNotTwo: a party whose shared session is lost comes again in the next one. It must not be counted
// twice, and open the barrier alone, while the servers have the last one still.
func TestBarrierPartyIsNotTwo(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, other := connect(t, fake), open(t, fake, time.Hour)
	s, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan error, 2)
	enter := func(b *client.Barrier) {
		_, err := b.Enter(t.Context())
		entered <- err
	}
	barrier := other.Barrier("b", 2)
	first := func() string { // the key of the one party
		d, err := barrier.Describe(t.Context())
		if err != nil || d.Holding > 0 || len(d.Waiters) != 1 {
			return ""
		}
		return d.Waiters[0].Key
	}
	go enter(c.Barrier("b", 2))
	waitUntil(t, "the party is there", func() bool { return first() != "" })
	before := first()
	lose(t, fake, s)
	if _, err := c.Barrier("b", 2).Enter(t.Context(), client.WithMaxWait(time.Millisecond)); !errors.Is(err,
		client.ErrNotAcquired) {
		t.Fatalf("enter for a moment: %v", err)
	}
	waitUntil(t, "the party is there again", func() bool {
		select {
		case err := <-entered:
			t.Fatalf("it entered alone: %v", err)
		default:
		}
		fake.Advance(100 * time.Millisecond)
		key := first()
		return key != "" && key != before
	})
	go enter(barrier)
	inside := 0
	waitUntil(t, "both are inside", func() bool {
		select {
		case err := <-entered:
			if err != nil {
				t.Fatal(err)
			}
			inside++
		default:
			fake.Advance(100 * time.Millisecond)
		}
		return inside == 2
	})
}
