package config

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	minPause = 20 * time.Millisecond
	maxPause = 2 * time.Second
)

// pause is the time between two attempts: it grows, and is half random so that clients do not come all at once. The
// zero value is ready for use.
type pause struct{ last time.Duration }

// sleep waits; false if ctx ended first.
func (p *pause) sleep(ctx context.Context) bool {
	p.last = min(max(2*p.last, minPause), maxPause)
	t := time.NewTimer(p.last/2 + rand.N(p.last/2))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
