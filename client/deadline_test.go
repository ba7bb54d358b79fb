package client

import (
	"testing"
	"time"
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
	for _, ttl := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second, 2 * time.Second,
		10 * time.Second, time.Hour} {
		if tries := (ttl - deadline{ttl: ttl}.margin() - ttl/renewShare) / attemptTime(ttl); tries < 1 ||
			ttl >= time.Second && tries < 2 {
			t.Errorf("TTL %v leaves time for %d attempts only", ttl, tries)
		}
		if attemptTime(ttl) >= ttl/renewShare {
			t.Errorf("TTL %v: a silent member is left only after %v", ttl, attemptTime(ttl))
		}
	}
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
