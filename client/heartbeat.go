package client

import (
	"errors"
	"fmt"
	"time"
)

// idleBeat is the time between heartbeats of a link without sessions.
const idleBeat = 3 * time.Second

// maintain makes heartbeats due, finds silent members, and watches over the sessions' deadlines.
func (t *transport) maintain() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, idle := t.lookAt(t.clock())
		if idle {
			timer.Stop()
		} else {
			timer.Reset(next)
		}
		select {
		case <-timer.C:
		case <-t.look:
		case <-t.ctx.Done():
			return
		}
	}
}

// lookAt does what is due at the instant now, and returns when to look again. Timers stand still while the machine
// sleeps, and the clock does not, so it is not long.
func (t *transport) lookAt(now time.Duration) (next time.Duration, idle bool) {
	t.lock()
	defer t.unlock()
	if len(t.mu.sessions) == 0 && t.mu.link == nil {
		return 0, true
	}
	next = maxPoll
	if len(t.mu.sessions) > 0 {
		if now >= t.mu.nextLook {
			t.mu.nextLook = t.lookAtSessions(now)
		}
		next = min(pollTime(t.shortest()), t.mu.nextLook-now)
	}
	if l := t.mu.link; l != nil {
		next = min(next, t.lookAtLink(l, now))
	}
	return max(next, 0), false
}

var errLapsed = errors.New("a session has lapsed")

// lookAtSessions ends those whose deadline has passed, tells of changed states, and returns the instant of the next
// change.
func (t *transport) lookAtSessions(now time.Duration) (next time.Duration) {
	next = now + time.Hour
	lapsed := false
	for _, s := range t.mu.sessions {
		state := s.deadline.state(now)
		if state == Lost {
			t.end(s, fmt.Errorf("%w: no heartbeat was acknowledged in time", ErrSessionExpired))
			lapsed = true
			continue
		}
		s.enter(state)
		next = min(next, s.deadline.changes(now))
	}
	if lapsed && t.mu.link != nil {
		// The server may have it still, attached to this stream, or to be attached: then the stream's heartbeats would
		// keep it alive for ever. It must expire, not be ended, so that places are kept that shall be.
		t.mu.link.fail(errLapsed)
	}
	return next
}

// shortest is the shortest TTL of the sessions; a link is kept for them all at the pace of the most demanding.
func (t *transport) shortest() time.Duration {
	if t.mu.shortest == 0 {
		t.mu.shortest = time.Hour
		for _, s := range t.mu.sessions {
			t.mu.shortest = min(t.mu.shortest, s.deadline.ttl)
		}
	}
	return t.mu.shortest
}

// lookAtLink makes a heartbeat due and gives up a silent member; it returns the time until the next of both.
func (t *transport) lookAtLink(l *link, now time.Duration) time.Duration {
	pace, attempt := idleBeat, maxAttempt
	if len(t.mu.sessions) > 0 {
		ttl := t.shortest()
		pace, attempt = min(ttl/renewShare, idleBeat), attemptTime(ttl)
	}
	attempt = max(attempt, t.mu.patience)
	if len(l.beats) > 0 {
		if silent := now - l.beats[0].sent; silent >= attempt {
			t.mu.patience = min(2*attempt, maxAttempt)
			l.fail(errSilent)
			return maxPoll
		}
	}
	if now-l.lastBeat >= pace {
		l.lastBeat, l.beat = now, true
		signal(t.kick)
	}
	next := l.lastBeat + pace - now
	if len(l.beats) > 0 {
		next = min(next, l.beats[0].sent+attempt-now)
	}
	return next
}
