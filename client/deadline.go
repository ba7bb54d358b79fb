package client

import "time"

// State is how sure a session is of itself.
type State int32

const (
	// Healthy: renewals are acknowledged in time.
	Healthy State = iota
	// Jeopardy: no renewal was acknowledged for half of the TTL. What is held is still held.
	Jeopardy
	// Lost: the session is over; what was held is lost. Final.
	Lost
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"healthy", "jeopardy", "lost"}[s]
}

const (
	// marginShare of the TTL, and minMargin, are given up so that the local deadline comes before the server's even if
	// our clock is slower than theirs by some percent, and if we notice late.
	marginShare = 10
	minMargin   = 100 * time.Millisecond
	// renewShare: a renewal every TTL/3.
	renewShare = 3
	// attemptShare: a renewal that is not answered within TTL/9 is sent again, through another member.
	attemptShare           = 9
	minAttempt, maxAttempt = 100 * time.Millisecond, 2 * time.Second
)

// deadline is the arithmetic of a session: until when the server surely keeps it.
type deadline struct {
	ttl  time.Duration
	sent time.Duration // on the clock: when the last acknowledged grant or renewal was sent
}

// margin is what is given up of the TTL.
func (d deadline) margin() time.Duration { return max(d.ttl/marginShare, minMargin) }

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

// renewed is the deadline after an acknowledged renewal that was sent at the given instant. An older one changes nothing.
func (d deadline) renewed(sent, ttl time.Duration) deadline {
	if sent < d.sent {
		return d
	}
	return deadline{ttl: ttl, sent: sent}
}

// attemptTime is how long one attempt to renew may take.
func attemptTime(ttl time.Duration) time.Duration {
	return min(max(ttl/attemptShare, minAttempt), maxAttempt)
}

// pollTime is how often a session looks at the clock: timers stand still while the machine sleeps.
func pollTime(ttl time.Duration) time.Duration {
	return min(max(ttl/40, 10*time.Millisecond), 250*time.Millisecond)
}
