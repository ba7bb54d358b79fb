package main_test

import (
	"strings"
	"testing"
)

// TestCfgRollbackAsksOnATerminal: the difference is shown, and without a yes nothing changes.
func TestCfgRollbackAsksOnATerminal(t *testing.T) {
	cfgPut(t, "tty", "d", "1\n")
	cfgPut(t, "tty", "d", "2\n")
	for _, c := range []struct{ answer, code, current string }{{"n\n", "code 1", "2\n"}, {"\n", "code 1", "2\n"},
		{"y\n", "code 0", "1\n"}} {
		keyboard, screen, done := onTerminal(t, `"$CTL" cfg rollback tty 1 --reason errors; echo code $?`)
		eventually(t, func() bool { return strings.Contains(screen.String(), "to version 1. Go on? [y/N]") },
			"the question in %q", screen)
		if !strings.Contains(screen.String(), "-2\r\n+1") {
			t.Errorf("the difference is not shown: %q", screen)
		}
		press(t, keyboard, c.answer)
		eventually(t, func() bool { return strings.Contains(screen.String(), c.code) }, "%s in %q", c.code, screen)
		<-done
		if got := ok(t, "cfg", "get", "tty"); got != c.current {
			t.Errorf("after the answer %q the bundle has %q", c.answer, got)
		}
	}
	// Who publishes while the question stands is not overwritten.
	cfgPut(t, "tty", "d", "4\n")
	keyboard, screen, done := onTerminal(t, `"$CTL" cfg rollback tty 1 --reason errors; echo code $?`)
	eventually(t, func() bool { return strings.Contains(screen.String(), "[y/N]") }, "the question in %q", screen)
	cfgPut(t, "tty", "d", "5\n")
	press(t, keyboard, "y\n")
	eventually(t, func() bool { return strings.Contains(screen.String(), "code 75") }, "the conflict in %q", screen)
	<-done
	_, screen, done = onTerminal(t, `"$CTL" cfg rollback tty 1 --reason errors --yes; echo code $?`)
	eventually(t, func() bool { return strings.Contains(screen.String(), "code 0") }, "the end of %q", screen)
	<-done
}
