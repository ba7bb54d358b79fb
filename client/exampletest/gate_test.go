package exampletest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

func TestGate(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, gate := bounded(t), c.Gate("sdk/gate")
		if err := gate.Await(ctx); err != nil {
			t.Errorf("await what nobody closed: %v", err)
		}
		if closed, err := gate.Open(ctx); err != nil || closed {
			t.Errorf("open what nobody closed: %v, %v", closed, err)
		}
		if err := gate.Close(ctx, client.WithReason("upgrade")); err != nil {
			t.Fatal(err)
		}
		s, err := gate.State(ctx)
		if err != nil || !s.Closed || s.Reason != "upgrade" || s.Session != 0 {
			t.Errorf("state: %v, %v", s, err)
		}
		own := newSession(t, c, time.Minute)
		if err := own.Gate("sdk/gate").Close(ctx, client.WithSessionBound()); err != nil {
			t.Fatal(err)
		}
		if again, err := gate.State(ctx); err != nil || again.Since != s.Since || again.Session != own.Lease() {
			t.Errorf("closed anew: %v, %v", again, err)
		}
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		wants(t, "await for too long", gate.Await(short), context.DeadlineExceeded)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if err := gate.Await(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		if err := own.Close(ctx); err != nil { // the gate is bound to it
			t.Error(err)
		}
		group.Wait()
		if err := gate.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if closed, err := gate.Open(ctx); err != nil || !closed {
			t.Errorf("open: %v, %v", closed, err)
		}
		wants(t, "a long reason", gate.Close(ctx, client.WithReason(strings.Repeat("x", 1025))), client.ErrInvalid)
		wants(t, "no name", c.Gate("").Await(ctx), client.ErrInvalid)
	})
}

// TestGateIsAwaitedThroughCompactions: who was cut off while the gate was open for a moment is let through, though it
// is closed again and history is gone.
func TestGateIsAwaitedThroughCompactions(t *testing.T) {
	fake := coordtest.NewFake(t)
	w := newWire(t, fake.Endpoint())
	apart, direct, ctx := dial(t, w.address()), dial(t, fake.Endpoint()), bounded(t)
	gate := direct.Gate("g")
	if err := gate.Close(ctx); err != nil {
		t.Fatal(err)
	}
	passed, watches := make(chan error, 1), watchesOf(apart)
	go func() { passed <- apart.Gate("g").Await(ctx) }()
	<-watches
	w.silence(true)
	w.cut()
	if _, err := gate.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if err := gate.Close(ctx); err != nil {
		t.Fatal(err)
	}
	compact(t, ctx, direct)
	w.silence(false)
	select {
	case err := <-passed:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("waits for a gate that was open")
	}
}

// TestGateOfADeadSessionOpens: when the TTL is over, not before.
func TestGateOfADeadSessionOpens(t *testing.T) {
	fake, c := clocked(t)
	ctx := bounded(t)
	if err := newSession(t, c, 10*time.Second).Gate("g").Close(ctx, client.WithSessionBound()); err != nil {
		t.Fatal(err)
	}
	passed, other := make(chan error, 1), dial(t, fake.Endpoint())
	go func() { passed <- other.Gate("g").Await(ctx) }()
	fake.Advance(10*time.Second - time.Millisecond)
	if s, err := c.Gate("g").State(ctx); err != nil || !s.Closed {
		t.Errorf("just before: %v, %v", s, err)
	}
	fake.Advance(10 * time.Second) // it may have been renewed in between
	if err := <-passed; err != nil {
		t.Error(err)
	}
}
