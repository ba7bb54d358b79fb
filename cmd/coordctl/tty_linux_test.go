package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openPTY returns the two ends of a new pseudo-terminal.
func openPTY(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

// onTerminal runs a shell script in a session of its own on a new terminal, coordctl being $CTL.
func onTerminal(t *testing.T, script string) (keyboard *os.File, screen *output, done chan struct{}) {
	t.Helper()
	master, terminal := openPTY(t)
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), "CTL="+binary, "COORDCTL_ENDPOINTS="+endpoint(t), commandTimeout)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	screen, done = new(output), make(chan struct{})
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = screen.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
	})
	return master, screen, done
}

// counting is a command that waits for an INT, counts those that it gets for a while, and tells.
const counting = `trap 'n=$((n+1))' INT; n=0; echo ready; for i in $(seq 600); do [ $n = 0 ] || break; sleep 0.1; done; ` +
	`for i in $(seq 10); do sleep 0.1; done; echo ints $n`

func TestTerminalDeliversInterruptOnce(t *testing.T) {
	for name, script := range map[string]string{
		"foreground": `trap : INT; "$CTL" lock tty/fg -- sh -c "$1"; echo code $?; read line; echo read $line`,
		"pipeline":   `trap : INT; "$CTL" lock tty/pipe -- sh -c "$1" | { trap : INT; cat; cat; }; echo code 0; read line; echo read $line`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keyboard, screen, done := onTerminal(t, "set -- "+shellQuote(counting)+"; "+script)
			eventually(t, func() bool { return strings.Contains(screen.String(), "ready") },
				"the command's start in %q", screen)
			press(t, keyboard, "\x03")
			eventually(t, func() bool { return strings.Contains(screen.String(), "code ") }, "coordctl's end in %q",
				screen)
			if !strings.Contains(screen.String(), "ints 1\r\n") || !strings.Contains(screen.String(), "code 0\r\n") {
				t.Errorf("ctrl-C was not delivered once: %q", screen)
			}
			// The terminal must have come back to the shell.
			press(t, keyboard, "hello\n")
			eventually(t, func() bool { return strings.Contains(screen.String(), "read hello") },
				"the shell's reading in %q", screen)
			<-done
		})
	}
}

// TestTerminalStopKeyIsIgnored presses ctrl-Z: neither the command nor its holder may be stopped.
func TestTerminalStopKeyIsIgnored(t *testing.T) {
	keyboard, screen, done := onTerminal(t, `"$CTL" lock tty/stop -- sh -c 'echo ready; read line; echo got $line'; echo code $?`)
	eventually(t, func() bool { return strings.Contains(screen.String(), "ready") }, "the command's start in %q",
		screen)
	press(t, keyboard, "\x1a")
	time.Sleep(200 * time.Millisecond)
	press(t, keyboard, "line\n")
	eventually(t, func() bool { return strings.Contains(screen.String(), "got line\r\ncode 0") },
		"the command's reading in %q", screen)
	<-done
}

func press(t *testing.T, keyboard *os.File, keys string) {
	t.Helper()
	if _, err := keyboard.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// TestKilledHolderTakesItsCommandAlong kills coordctl outright: its command must not go on for long without the lock.
func TestKilledHolderTakesItsCommandAlong(t *testing.T) {
	r := start(t, options{}, "lock", "orphan", "--", "sh", "-c", "echo child $$; exec sleep 100")
	r.waitOut(t, "child ")
	var pids []int
	eventually(t, func() bool { pids = pidsIn(r.out.String()); return len(pids) == 1 }, "a pid in %q", &r.out)
	r.signal(t, syscall.SIGKILL)
	eventually(t, func() bool { return !alive(pids[0]) }, "the end of process %d", pids[0])
}

func TestDestructionIsConfirmedOnATerminal(t *testing.T) {
	for answer, want := range map[string]string{"n\n": "code 1", "y\n": "code 0"} {
		lease := strings.Fields(ok(t, "lease", "grant", "600"))[1]
		keyboard, screen, _ := onTerminal(t, `"$CTL" sessions end `+lease+`; echo code $?; read line`)
		eventually(t, func() bool { return strings.Contains(screen.String(), "[y/N]") }, "the question in %q", screen)
		if _, err := keyboard.WriteString(answer); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return strings.Contains(screen.String(), "code ") }, "the end of %q", screen)
		if !strings.Contains(screen.String(), want) {
			t.Errorf("answered %q: %q, want %s", answer, screen, want)
		}
	}
}
