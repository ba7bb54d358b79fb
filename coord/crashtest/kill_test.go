package crashtest

import (
	"testing"
	"time"
)

// TestKilledMembersLoseNothing kills the leader, a follower and all members under load, again and again.
func TestKilledMembersLoseNothing(t *testing.T) {
	c := startCluster(t, 3)
	w := startWriters(t, c, 8, 2*time.Second)
	r := startRegisters(t, c)
	for _, kind := range []struct {
		what    string
		victims func() []*member
	}{
		{"kill -9 of the leader", func() []*member { return []*member{c.leader()} }},
		{"kill -9 of a follower", func() []*member { return []*member{c.follower()} }},
		{"kill -9 of all members", func() []*member { return c.members }},
	} {
		var all gaps
		for range rounds(t) {
			all = append(all, c.killAndRestart(w, kind.victims()))
		}
		all.report(t, kind.what)
	}
	w.check(c.dial())
	c.checkEqual()
	r.check()
}

// killAndRestart kills, waits for writes if anybody is left, starts the dead again, and returns the longest time
// without an acknowledged write in all that.
func (c *cluster) killAndRestart(w *writers, victims []*member) time.Duration {
	w.t.Helper()
	w.begin()
	killAll(victims...)
	if len(victims) < len(c.members) {
		w.calm(2 * electionTimeout)
	}
	c.start()
	w.calm(electionTimeout)
	return w.gap()
}
