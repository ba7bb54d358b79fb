//go:build unix

package child

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signals are the ones to catch and hand to Signal.
func Signals() []os.Signal {
	return []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2}
}

// Ends reports whether a signal asks the process to end, as all but the two user signals do.
func Ends(sig os.Signal) bool { return sig != unix.SIGUSR1 && sig != unix.SIGUSR2 }

// Signal passes sig on. A signal that ends goes to the whole group, as the terminal would send it; a user signal is
// between the sender and the command alone and would kill helpers that do not expect it.
func (c *Child) Signal(sig os.Signal) {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	if Ends(sig) {
		c.signalGroup(s)
		return
	}
	_ = c.cmd.Process.Signal(s) // the command may have ended meanwhile
}

func (c *Child) signalGroup(sig syscall.Signal) {
	_ = unix.Kill(-c.cmd.Process.Pid, sig) // the group may be empty
}

func (c *Child) terminate() {
	c.signalGroup(unix.SIGTERM)
	c.signalGroup(unix.SIGCONT) // a stopped process acts on TERM only when it runs again
}

func (c *Child) kill() { c.signalGroup(unix.SIGKILL) }

// gone reports whether the command was reaped and its group is empty. The group's number cannot be given to another one
// while a member lives.
func (c *Child) gone() bool {
	select {
	case <-c.done:
	default:
		return false
	}
	return unix.Kill(-c.cmd.Process.Pid, 0) == unix.ESRCH
}

// terminal says what standing we have with the terminal on standard input.
type terminal struct {
	foreground bool // the command's group is to take our place in the foreground
}

// openTerminal looks at the terminal, and makes the process and its future child ignore the signals that would stop
// them.
//
// The foreground is handed over only when standard output is the terminal too: in a pipeline its other commands share
// our group and may need the terminal. A command left in the background then reads an error instead of being stopped.
func openTerminal() terminal {
	signal.Ignore(unix.SIGTSTP)
	in, err := unix.IoctlGetInt(syscall.Stdin, unix.TIOCGPGRP)
	if err != nil {
		return terminal{}
	}
	if _, err := unix.IoctlGetInt(syscall.Stdout, unix.TIOCGPGRP); err == nil && in == unix.Getpgrp() {
		return terminal{foreground: true}
	}
	signal.Ignore(unix.SIGTTIN)
	return terminal{}
}

// takeBack puts our own group in the foreground again.
func (t terminal) takeBack() {
	if !t.foreground {
		return
	}
	signal.Ignore(unix.SIGTTOU) // what a background process gets for doing this
	_ = unix.IoctlSetPointerInt(syscall.Stdin, unix.TIOCSPGRP, unix.Getpgrp())
}

func processAttr(t terminal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Foreground: t.foreground, Ctty: syscall.Stdin}
	dieWithParent(attr)
	return attr
}

func exitCode(state *os.ProcessState, err error) int {
	if state == nil {
		return CodeNotExecutable
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
