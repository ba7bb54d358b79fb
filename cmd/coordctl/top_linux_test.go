package main_test

import (
	"os"
	"strings"
	"testing"

	"github.com/coord-dev/coord/coord/coordtest"
)

// topOnTerminal runs top with flags on a terminal of 120 columns and 24 lines, and tells whether that is as before in
// the end.
func topOnTerminal(t *testing.T, flags string) (keyboard *os.File, screen *output) {
	t.Helper()
	keyboard, screen, _ = onTerminal(t, `stty cols 120 rows 24; before=$(stty -g); "$CTL" top `+flags+`; echo code $?; [ "$before" = "$(stty -g)" ] && echo as before; read line`)
	return keyboard, screen
}

// left waits until top has ended, and the terminal is as it was.
func left(t *testing.T, screen *output) {
	t.Helper()
	eventually(t, func() bool { return strings.Contains(screen.String(), "\x1b[?1049lcode 0\r\nas before") },
		"the end of %q", screen)
}

func TestTopOnATerminal(t *testing.T) {
	s := newSession(t, "screen1")
	acquire(t, s, "screen/first")
	keyboard, screen := topOnTerminal(t, "--interval 100ms")
	for _, text := range []string{"\x1b[?1049h", "MEMBERS  1, 0 down", "SESSIONS  ", "LOCKS  ", "ELECTIONS  ",
		"SERVICES  "} {
		eventually(t, func() bool { return strings.Contains(screen.String(), text) }, "%q in %q", text, screen)
	}
	acquire(t, s, "screen/another") // is seen by a later picture, for a queue puts it first
	enqueue(t, newSession(t, "screen2"), "screen/another")
	eventually(t, func() bool { return strings.Contains(screen.String(), "screen/another") }, "the lock in %q", screen)
	for _, frame := range strings.Split(screen.String(), "\x1b[H")[1:] {
		if lines := strings.Count(frame, "\n"); lines > 23 {
			t.Errorf("a picture has %d lines on a terminal of 24: %q", lines+1, frame)
		}
	}
	press(t, keyboard, "xyq")
	left(t, screen)
	keyboard, screen = topOnTerminal(t, "")
	eventually(t, func() bool { return strings.Contains(screen.String(), "MEMBERS") }, "the members in %q", screen)
	press(t, keyboard, "\x03")
	left(t, screen)
}

// TestTopGoesOnWithoutItsMember: the only endpoint that it was told of goes away.
func TestTopGoesOnWithoutItsMember(t *testing.T) {
	cluster := coordtest.Start(t, coordtest.Options{Members: 3})
	gone := (cluster.WaitLeader() + 1) % 3
	keyboard, screen := topOnTerminal(t, "--interval 100ms --endpoints "+cluster.Endpoints()[gone])
	eventually(t, func() bool { return strings.Contains(screen.String(), "MEMBERS  3, 0 down") }, "three members in %q",
		screen)
	cluster.StopMember(gone)
	eventually(t, func() bool { return strings.Contains(screen.String(), "MEMBERS  3, 1 down ") }, "one down in %q",
		screen)
	press(t, keyboard, "q")
	left(t, screen)
}
