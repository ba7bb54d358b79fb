package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func TestDeadline(t *testing.T) {
	d := deadline{ttl: 10 * time.Second, sent: time.Minute}
	for _, c := range []struct {
		after time.Duration
		want  State
	}{
		{0, Healthy}, {4999 * time.Millisecond, Healthy}, {5 * time.Second, Jeopardy},
		{8999 * time.Millisecond, Jeopardy}, {9 * time.Second, Lost}, {time.Hour, Lost},
	} {
		if got := d.state(time.Minute + c.after); got != c.want {
			t.Errorf("%v after the last acknowledged renewal was sent: %v, want %v", c.after, got, c.want)
		}
	}
	if got := d.renewed(59*time.Second, 20*time.Second); got != d {
		t.Errorf("an older renewal moved the deadline to %v", got.at())
	}
	if got := d.renewed(62*time.Second, 8*time.Second).at(); got != 62*time.Second+7200*time.Millisecond {
		t.Errorf("renewed deadline: %v", got)
	}
	for _, ttl := range []time.Duration{time.Second, 2 * time.Second, 10 * time.Second, time.Hour} {
		if tries := (ttl - deadline{ttl: ttl}.margin() - ttl/renewShare) / attemptTime(ttl); tries < 2 {
			t.Errorf("TTL %v leaves time for %d attempts only", ttl, tries)
		}
		if attemptTime(ttl) >= ttl/renewShare {
			t.Errorf("TTL %v: a silent member is left only after %v", ttl, attemptTime(ttl))
		}
	}
}

// fakeLease answers renewals as a test tells it to. Its time is that of the synctest bubble.
type fakeLease struct {
	mu     sync.Mutex
	answer func(sent time.Duration) (delay time.Duration, ttl int64, err error)
	start  time.Time
	seen   []time.Duration // when renewals arrived
}

func (f *fakeLease) clock() time.Duration { return time.Since(f.start) }

func (f *fakeLease) renewals() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Duration(nil), f.seen...)
}

type fakeStream struct {
	ctx  context.Context
	f    *fakeLease
	sent time.Duration
}

func (s *fakeStream) Send(*pb.LeaseKeepAliveRequest) error {
	s.sent = s.f.clock()
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.seen = append(s.f.seen, s.sent)
	return s.ctx.Err()
}

func (s *fakeStream) Recv() (*pb.LeaseKeepAliveResponse, error) {
	delay, ttl, err := s.f.answer(s.sent)
	if !sleep(s.ctx, delay) {
		return nil, s.ctx.Err()
	}
	return &pb.LeaseKeepAliveResponse{TTL: ttl}, err
}

func (f *fakeLease) session(ttl time.Duration, onState func(State)) *Session {
	f.start = time.Now()
	s := newSession(f.clock, 7, deadline{ttl: ttl}, onState)
	s.open = func(ctx context.Context) (keepAlive, error) { return &fakeStream{ctx: ctx, f: f}, nil }
	s.begin()
	return s
}

// TestSessionCountsFromTheSending: an answer that was long on its way does not move the deadline further than from
// when the renewal was sent, and the session ends a margin before that plus the TTL.
func TestSessionCountsFromTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 9 * time.Second // the margin is 900 ms
		f := &fakeLease{answer: func(sent time.Duration) (time.Duration, int64, error) {
			if sent > 10*time.Second {
				return time.Hour, 0, nil // silence
			}
			return 900 * time.Millisecond, 9, nil
		}}
		s := f.session(ttl, func(State) {})
		<-s.Done()
		end := f.clock()
		var acked time.Duration
		for _, at := range f.renewals() {
			if at <= 10*time.Second {
				acked = at
			}
		}
		if want := acked + ttl - (deadline{ttl: ttl}).margin(); end != want {
			t.Errorf("lost at %v, want %v: %v after the last acknowledged renewal was sent", end, want, end-acked)
		}
		if !errors.Is(s.Err(), ErrSessionExpired) || s.State() != Lost {
			t.Errorf("%v, %v", s.Err(), s.State())
		}
		s.running.Wait()
	})
}

// TestSessionCadence: a renewal each third of the TTL, counted from the sending; after a failure again and again, at
// least twice before the deadline.
func TestSessionCadence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLease{answer: func(time.Duration) (time.Duration, int64, error) { return 10 * time.Millisecond, 9, nil }}
		s := f.session(9*time.Second, func(st State) {
			if st != Lost {
				t.Errorf("state %v", st)
			}
		})
		time.Sleep(30*time.Second + time.Millisecond)
		got := f.renewals()
		if len(got) != 10 || got[0] != 3*time.Second || got[9] != 30*time.Second {
			t.Errorf("renewals at %v", got)
		}
		s.end(ErrSessionClosed)
		s.running.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLease{answer: func(time.Duration) (time.Duration, int64, error) { return time.Hour, 0, nil }}
		s := f.session(9*time.Second, func(State) {})
		<-s.Done()
		if got := f.renewals(); len(got) < 5 {
			t.Errorf("silence: renewals at %v only", got)
		}
		s.running.Wait()
	})
}

// TestSessionStates: Jeopardy and back, and the end when the server says so.
func TestSessionStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var states []State
		f := &fakeLease{}
		f.answer = func(sent time.Duration) (time.Duration, int64, error) {
			switch {
			case sent > 20*time.Second:
				return 0, 0, nil // unknown
			case sent > 5*time.Second && sent < 9*time.Second:
				return 0, 0, io.EOF
			}
			return 0, 9, nil
		}
		s := f.session(9*time.Second, func(st State) { states = append(states, st) })
		<-s.Done()
		s.running.Wait()
		if len(states) != 3 || states[0] != Jeopardy || states[1] != Healthy || states[2] != Lost {
			t.Errorf("states: %v", states)
		}
		if end := f.clock(); end < 20*time.Second || end > 24*time.Second {
			t.Errorf("ended at %v", end)
		}
	})
}

// TestClockRunsThroughSleep: the machine sleeps, so that timers stand still, and the clock does not; the session ends when
// it wakes up.
func TestClockRunsThroughSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var slept time.Duration
		f := &fakeLease{answer: func(time.Duration) (time.Duration, int64, error) { return time.Hour, 0, nil }, start: time.Now()}
		s := newSession(func() time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return f.clock() + slept
		}, 7, deadline{ttl: 60 * time.Second}, func(State) {})
		s.open = func(ctx context.Context) (keepAlive, error) { return &fakeStream{ctx: ctx, f: f}, nil }
		s.begin()
		time.Sleep(time.Second)
		mu.Lock()
		slept = time.Hour
		mu.Unlock()
		woke := time.Now()
		<-s.Done()
		if late := time.Since(woke); late > 250*time.Millisecond {
			t.Errorf("noticed %v after waking up", late)
		}
		s.running.Wait()
	})
}

func TestJumpClock(t *testing.T) {
	var mono, wall time.Duration
	c := &jumpClock{mono: func() time.Duration { return mono }, walls: func() time.Duration { return wall }}
	for _, step := range []struct{ mono, wall, want time.Duration }{
		{time.Second, time.Second, time.Second},
		{2 * time.Second, 2*time.Second + 50*time.Millisecond, 2 * time.Second}, // jitter
		{3 * time.Second, 13 * time.Second, 13 * time.Second},                   // slept ten seconds
		{4 * time.Second, 14 * time.Second, 14 * time.Second},
		{5 * time.Second, -time.Hour, 15 * time.Second},                  // set back
		{6 * time.Second, -time.Hour + 61*time.Second, 76 * time.Second}, // slept a minute
	} {
		mono, wall = step.mono, step.wall
		if got := c.now(); got != step.want {
			t.Errorf("mono %v, wall %v: %v, want %v", mono, wall, got, step.want)
		}
	}
	for _, now := range []clock{newClock(), newJumpClock()} {
		a := now()
		time.Sleep(5 * time.Millisecond)
		if d := now() - a; d < 5*time.Millisecond || d > 20*time.Second {
			t.Errorf("5 ms took %v", d)
		}
	}
}
