package client

import "time"

// State is how sure a session is of itself.
type State int32

const (
	// Healthy: heartbeats are acknowledged in time.
	Healthy State = iota
	// Jeopardy: no heartbeat was acknowledged for half of the TTL. What is held is still held.
	Jeopardy
	// Lost: the session is over; what was held is lost. Final.
	Lost
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"healthy", "jeopardy", "lost"}[s]
}

const (
	// A share of the TTL is given up so that the local deadline comes before the server's even if our clock is slower
	// than theirs by some percent, and if we notice late: a tenth, though at least minMargin, which is a quarter of
	// short TTLs.
	marginShare     = 10
	minMargin       = 100 * time.Millisecond
	shortTTLMargins = 4
	// renewShare: a heartbeat every TTL/3.
	renewShare = 3
	// attemptShare: a heartbeat that is not answered within TTL/9 sends us to another member. Short TTLs leave less
	// tries.
	attemptShare           = 9
	minAttempt, maxAttempt = 100 * time.Millisecond, 2 * time.Second
	shortTTLAttempts       = 4
)

// deadline is the arithmetic of a session: until when the server surely keeps it.
type deadline struct {
	ttl  time.Duration
	sent time.Duration // on the clock: when the last request was sent that renewed it and was acknowledged
}

// margin is what is given up of the TTL.
func (d deadline) margin() time.Duration {
	return max(d.ttl/marginShare, min(minMargin, d.ttl/shortTTLMargins))
}

// at is the instant on the clock after which nothing is guaranteed.
func (d deadline) at() time.Duration { return d.sent + d.ttl - d.margin() }

// state at the instant now. The boundary is Lost already.
func (d deadline) state(now time.Duration) State {
	switch {
	case now >= d.at():
		return Lost
	case now-d.sent >= d.ttl/2:
		return Jeopardy
	}
	return Healthy
}

// changes is the next instant after now at which state changes, or has changed.
func (d deadline) changes(now time.Duration) time.Duration {
	if jeopardy := d.sent + d.ttl/2; now < jeopardy {
		return jeopardy
	}
	return d.at()
}

// renewed is the deadline after an acknowledged renewal that was sent at the given instant. An older one changes
// nothing.
func (d deadline) renewed(sent, ttl time.Duration) deadline {
	if sent < d.sent {
		return d
	}
	return deadline{ttl: ttl, sent: sent}
}

// attemptTime is how long a heartbeat may go without an answer.
func attemptTime(ttl time.Duration) time.Duration {
	return min(max(ttl/attemptShare, min(minAttempt, ttl/shortTTLAttempts)), maxAttempt)
}

const maxPoll = 250 * time.Millisecond

// pollTime is how often we look at the clock: timers stand still while the machine sleeps.
func pollTime(ttl time.Duration) time.Duration {
	return min(max(ttl/40, 5*time.Millisecond), maxPoll)
}
