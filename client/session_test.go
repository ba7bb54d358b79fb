package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func open(t *testing.T, c *Client, opts ...SessionOption) *Session {
	t.Helper()
	s, err := c.NewSession(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHeartbeatCadence: a heartbeat each third of the TTL for all sessions together.
func TestHeartbeatCadence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		for range 100 {
			open(t, c, WithTTL(6*time.Second), OnState(func(s State) {
				if s != Lost {
					t.Errorf("state %v", s)
				}
			}))
		}
		time.Sleep(20*time.Second + time.Millisecond)
		f.set(func() {
			if n := len(f.beats); n != 10 || f.beats[9]-f.beats[0] != 18*time.Second {
				t.Errorf("heartbeats at %v", f.beats)
			}
		})
		_ = c.Close()
	})
}

// TestL9DeadlineCountsFromTheSending: the answers to the heartbeats stop. The holder's context ends, with its cause, a
// margin before the server's TTL is over, which began later than the heartbeat was sent.
func TestL9DeadlineCountsFromTheSending(t *testing.T) {
	for _, ttl := range []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.delay = ttl / 12
			c := f.client(t, Config{})
			s := open(t, c, WithTTL(ttl))
			held, err := s.Lock("job").Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := held.Context(t.Context())
			defer cancel()
			time.Sleep(2*ttl + ttl/5)
			f.set(func() { f.silent["a"] = true })
			<-ctx.Done()
			var expires time.Time
			var sent time.Duration
			f.set(func() { expires, sent = f.sessions[s.id].deadline, f.beats[len(f.beats)-1] })
			if early := time.Until(expires); early <= 0 {
				t.Errorf("TTL %v: the context ended %v after the server could grant to another", ttl, -early)
			}
			if want := (deadline{ttl: ttl, sent: sent}).at(); time.Since(f.start) != want {
				t.Errorf("TTL %v: ended at %v, want %v", ttl, time.Since(f.start), want)
			}
			if why := context.Cause(ctx); !errors.Is(why, ErrLost) || !errors.Is(why, ErrSessionExpired) {
				t.Errorf("cause: %v", why)
			}
			if err := held.Err(); !errors.Is(err, ErrLost) || !held.Deadline().IsZero() || s.State() != Lost {
				t.Errorf("%v, %v", err, s.State())
			}
			_ = c.Close()
		})
	}
}

// TestSessionStates: Jeopardy and back when a member is found that answers; then the end, because the server says so.
func TestSessionStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{}, "a", "b")
		var mu sync.Mutex
		var states []State
		s := open(t, c, WithTTL(9*time.Second), OnState(func(st State) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, st)
		}))
		f.set(func() { f.silent["a"], f.silent["b"] = true, true })
		time.Sleep(5 * time.Second)
		if s.State() != Jeopardy || s.Err() != nil {
			t.Errorf("%v, %v", s.State(), s.Err())
		}
		f.set(func() { clear(f.silent) })
		time.Sleep(2 * time.Second)
		if s.State() != Healthy {
			t.Errorf("%v", s.State())
		}
		f.expire(s.id)
		<-s.Done()
		_ = c.Close()
		if !slices.Equal(states, []State{Jeopardy, Healthy, Lost}) {
			t.Errorf("states: %v", states)
		}
		if !errors.Is(s.Err(), ErrSessionExpired) {
			t.Errorf("%v", s.Err())
		}
	})
}

// TestClockRunsThroughSleep: the machine sleeps, so that timers stand still, and the clock does not; the session ends
// when it wakes up.
func TestClockRunsThroughSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var mu sync.Mutex
		var slept time.Duration
		c := f.client(t, Config{Clock: func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return time.Since(f.start) + slept
		}})
		s := open(t, c, WithTTL(time.Minute))
		time.Sleep(time.Second)
		mu.Lock()
		slept = time.Hour
		mu.Unlock()
		woke := time.Now()
		<-s.Done()
		if late := time.Since(woke); late > maxPoll {
			t.Errorf("noticed %v after waking up", late)
		}
		_ = c.Close()
	})
}

// TestSilentMemberIsLeft: within a ninth of the TTL after it did not answer; the sessions go on, with all they hold.
func TestSilentMemberIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{}, "a", "b", "c")
		s := open(t, c, WithTTL(9*time.Second))
		held, err := s.Lock("job").Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.silent["a"], f.silent["b"] = true, true })
		time.Sleep(4*time.Second + connectPatience + maxPoll)
		f.set(func() {
			if f.sessions[s.id].stream.endpoint != "c" || f.sessions[s.id].epoch < 2 {
				t.Errorf("attached to %s with epoch %d", f.sessions[s.id].stream.endpoint, f.sessions[s.id].epoch)
			}
		})
		if s.State() != Healthy || held.Err() != nil {
			t.Errorf("%v, %v", s.State(), held.Err())
		}
		if err := held.Release(t.Context()); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	})
}

// TestSessionElsewhere: another process attached the session; this one is told, and its requests are refused by name.
func TestSessionElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		s := open(t, c)
		f.set(func() { f.sessions[s.id].stream = &fakeStream{f: f, out: make(chan said, 10)} })
		if _, err := s.KV().Put(t.Context(), "k",
			"v"); !errors.Is(err, ErrSessionElsewhere) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("put: %v", err)
		}
		if !errors.Is(s.Err(), ErrSessionElsewhere) {
			t.Errorf("session: %v", s.Err())
		}
		_ = c.Close()
	})
}

// TestIdentity: the client's, and what the session adds.
func TestIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{Host: "h", Process: "p", Labels: map[string]string{"a": "1"}})
		for _, test := range []struct {
			opts          []SessionOption
			host, process string
			labels        int
		}{{nil, "h", "p", 1}, {[]SessionOption{WithIdentity("x", "y"), WithLabel("b", "2")}, "x", "y", 2}} {
			s := open(t, c, test.opts...)
			f.set(func() {
				if id := f.sessions[s.id].identity; id.Host != test.host || id.Process != test.process ||
					len(id.Labels) != test.labels {
					t.Errorf("identity %v", id)
				}
			})
		}
		_ = c.Close()
	})
}

// TestSharedSessionIsReplaced: after it was lost the next request opens another one.
func TestSharedSessionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var mu sync.Mutex
		var states []State
		c := f.client(t, Config{Hooks: Hooks{OnState: func(s State) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, s)
		}}})
		first, err := c.Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := c.Session(t.Context()); again != first {
			t.Error("two shared sessions")
		}
		f.expire(first.id)
		<-first.Done()
		if _, err := c.Put(t.Context(), "k", "v"); err != nil {
			t.Errorf("put: %v", err)
		}
		if second, err := c.Session(t.Context()); err != nil || second == first || second.Err() != nil {
			t.Errorf("%v, %v", second, err)
		}
		_ = c.Close()
		if !slices.Equal(states, []State{Lost, Lost}) {
			t.Errorf("states: %v", states)
		}
	})
}

// TestL9DeadlineOfASessionJustOpened: it counts from when the request was sent.
func TestL9DeadlineOfASessionJustOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.delay = 300 * time.Millisecond
		c := f.client(t, Config{})
		asked := time.Now()
		s := open(t, c, WithTTL(3*time.Second))
		f.set(func() { f.silent["a"] = true })
		<-s.Done()
		if want := (deadline{ttl: 3 * time.Second}).at(); time.Since(asked) != want {
			t.Errorf("ended after %v, want %v", time.Since(asked), want)
		}
		_ = c.Close()
	})
}

// TestL9HeartbeatBeforeTheAttach: a heartbeat renews only what was known to be attached when it was sent.
func TestL9HeartbeatBeforeTheAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := f.client(t, Config{})
		s := open(t, c, WithTTL(time.Hour))
		c.t.lock()
		l := c.t.mu.link
		before := s.deadline
		s.attachedAt = 5
		l.beats = []beat{{4, before.sent + 1}, {5, before.sent + 2}, {6, before.sent + 3}}
		if c.t.renewed(l, 5); s.deadline != before {
			t.Errorf("renewed to %v", s.deadline.sent)
		}
		if c.t.renewed(l, 6); s.deadline.sent != before.sent+3 {
			t.Errorf("not renewed: %v", s.deadline.sent)
		}
		c.t.unlock()
		_ = c.Close()
	})
}
