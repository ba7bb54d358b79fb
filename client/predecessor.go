package client

import (
	"context"
	"slices"
	"time"
)

// A session is lost for us earlier than for the servers. What it asked for does no harm there where it only waits: a
// place in a queue that nobody wants any more goes with the session. But a party that it has left at a barrier counts
// until then, and with the same party in the next session they would be two.

// rememberPredecessor remembers a session that was shared before, if it may have left parties behind.
func (t *transport) rememberPredecessor(s *Session) {
	t.lock()
	defer t.unlock()
	if s.parties > 0 {
		t.mu.predecessors = append(t.mu.predecessors, s)
	}
}

// nextPredecessor is one of those that were remembered, nil if there is none.
func (t *transport) nextPredecessor() *Session {
	t.lock()
	defer t.unlock()
	if len(t.mu.predecessors) == 0 {
		return nil
	}
	return t.mu.predecessors[0]
}

func (t *transport) forgetPredecessor(s *Session) {
	t.lock()
	defer t.unlock()
	t.mu.predecessors = slices.DeleteFunc(t.mu.predecessors, func(o *Session) bool { return o == s })
}

// awaitPredecessors waits until the servers have nothing more of the sessions that were remembered, for as long as
// patience, if that is not 0; then the error wraps ErrNotAcquired.
func (c *Client) awaitPredecessors(ctx context.Context, patience time.Duration) error {
	if patience > 0 {
		bounded, cancel := context.WithTimeoutCause(ctx, patience, ErrNotAcquired)
		defer cancel()
		ctx = bounded
	}
	for s := c.t.nextPredecessor(); s != nil; s = c.t.nextPredecessor() {
		err := s.awaitEnd(ctx)
		switch {
		case ctx.Err() != nil:
			return cause(ctx)
		case err != nil:
			return err
		}
		c.t.forgetPredecessor(s)
	}
	return nil
}

// awaitEnd waits until the servers do not have the session any more. Nothing that it asked for is executed afterwards.
func (s *Session) awaitEnd(ctx context.Context) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		lease, err := s.client.TimeToLive(ctx, s.Lease())
		switch {
		case err != nil:
			return err
		case lease.TTL < 0: // there is none
			return nil
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}
