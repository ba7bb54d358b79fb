// Package child runs a command as a stand-in for it: the command has our standard streams and gets the signals we get,
// it is stopped whole, and its exit code is reported as a shell would.
//
// On Unix the command leads a process group of its own, so that everything it started can be stopped with it and so
// that ctrl-C reaches it once. When we are in the foreground of a terminal the command's group takes that place, and
// the terminal's signals go to it alone; otherwise they come to us and are passed on. Ctrl-Z is ignored on both sides:
// a stopped holder would lose what it holds while its command went on.
package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// Exit codes of a command that cannot be started, as a shell has them.
const (
	CodeNotExecutable = 126
	CodeNotFound      = 127
)

// pollEvery is how often Stop looks whether the process group is empty; nothing tells of the end of grandchildren.
const pollEvery = 20 * time.Millisecond

// Child is a started command. Its methods are safe for concurrent use.
type Child struct {
	cmd  *exec.Cmd
	tty  terminal
	done chan struct{}
	code int // valid once done is closed
}

// Check reports whether a command of that name can be found and executed; the error is one line. Code says what to exit
// with.
func Check(name string) (code int, err error) {
	_, err = exec.LookPath(name)
	switch {
	case err == nil:
		return 0, nil
	case errors.Is(err, os.ErrPermission):
		return CodeNotExecutable, fmt.Errorf("run %s: permission denied", name)
	}
	return CodeNotFound, fmt.Errorf("run %s: command not found", name)
}

// Start runs argv with our standard streams and the environment env.
//
// It binds the calling goroutine to its thread, because Linux ends the command when that thread ends: the goroutine
// must live until the command is done. That way a command never outlives a holder that was killed with SIGKILL for
// long.
func Start(argv, env []string) (*Child, error) {
	runtime.LockOSThread()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = env
	c := &Child{cmd: cmd, tty: openTerminal(), done: make(chan struct{})}
	cmd.SysProcAttr = processAttr(c.tty)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", argv[0], err)
	}
	go c.reap()
	return c, nil
}

func (c *Child) reap() {
	defer close(c.done)
	err := c.cmd.Wait()
	c.tty.takeBack()
	c.code = exitCode(c.cmd.ProcessState, err)
}

// Done is closed when the command has ended; what it left in the background may live on.
func (c *Child) Done() <-chan struct{} { return c.done }

// ExitCode waits for the command and returns its exit code, 128+n when signal n killed it.
func (c *Child) ExitCode() int {
	<-c.done
	return c.code
}

// Stop ends the command and everything in its process group: politely first, by force after grace. It returns when the
// group is gone.
func (c *Child) Stop(grace time.Duration) {
	c.terminate()
	deadline := time.Now().Add(grace)
	for time.Now().Before(deadline) {
		if c.gone() {
			return
		}
		time.Sleep(min(pollEvery, time.Until(deadline)))
	}
	c.kill()
	<-c.done
}
