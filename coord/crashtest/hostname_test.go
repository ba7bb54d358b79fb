package crashtest

import (
	"syscall"
	"testing"
	"time"
)

// TestHostNameChanges starts members on hosts that have another name than before.
func TestHostNameChanges(t *testing.T) {
	c := layOut(t, 3)
	call := func(m *member, host string) {
		m.launch = launch{namespaces: syscall.CLONE_NEWUTS}
		m.wrap = []string{"sh", "-c", `hostname "$0" && test "$(hostname)" = "$0" && exec "$@"`, host}
	}
	for _, m := range c.members {
		call(m, m.name+".before")
	}
	c.start()
	w := startWriters(t, c, 4, 2*time.Second)
	for _, m := range c.members {
		m.kill()
		call(m, m.name+".after.example.org")
		c.start()
		w.calm(electionTimeout)
	}
	killAll(c.members...)
	for _, m := range c.members {
		call(m, m.name+".at.last")
	}
	c.start()
	w.calm(0)
	w.check(c.dial())
	c.checkEqual()
}
