package client

import (
	"sync"
	"time"
)

// A clock returns the time since some fixed instant. It must not stand still while the machine sleeps; see
// Config.Clock.
type clock = func() time.Duration

// jumpThreshold is how far the wall clock must run ahead of the monotonic one to be believed: less is slewing and
// jitter.
const jumpThreshold = 100 * time.Millisecond

// jumpClock is a clock for systems without one that counts sleep: the monotonic clock, plus each forward jump
// of the wall clock, as sleep looks like one. A jump that was none only makes time pass faster here, which is safe.
type jumpClock struct {
	mu          sync.Mutex
	ahead       time.Duration // wall minus monotonic when last looked at
	jumped      time.Duration
	mono, walls func() time.Duration
}

func (c *jumpClock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	mono := c.mono()
	ahead := c.walls() - mono
	switch {
	case ahead > c.ahead+jumpThreshold:
		c.jumped += ahead - c.ahead
		c.ahead = ahead
	case ahead < c.ahead:
		c.ahead = ahead
	}
	return mono + c.jumped
}

// newJumpClock returns a clock that needs nothing of the system but Go's own.
func newJumpClock() clock {
	start := time.Now()
	c := &jumpClock{
		mono: func() time.Duration { return time.Since(start) },
		// Round strips the monotonic reading
		walls: func() time.Duration { return time.Now().Round(0).Sub(start.Round(0)) },
	}
	return c.now
}
