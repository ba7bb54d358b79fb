// Package process runs the programs that the benchmark starts: servers, and clients that are to be killed. What they
// print goes to a log file, and what they use is read from /proc.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a server may take to end after SIGTERM before it is killed.
const stopTimeout = 20 * time.Second

// Process is one run of a program. Safe for concurrent use.
type Process struct {
	cmd     *exec.Cmd
	logFile string
	logAt   int64         // where in the log this run begins
	started time.Time     // just before exec
	done    chan struct{} // closed when the process is gone and reaped
	err     error         // why it ended; read after done
}

// Start runs argv with its output appended to logFile. The process is killed when this one ends, however that is.
func Start(argv []string, logFile string) (*Process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	logAt, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = neutral(os.Environ())
	cmd.SysProcAttr = childAttr()
	p := &Process{cmd: cmd, logFile: logFile, logAt: logAt, started: time.Now(), done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	return p, nil
}

// neutral returns environ without the variables that configure a server: only its flags shall.
func neutral(environ []string) []string {
	configuring := []string{"ETCD_", "COORD_", "JAVA_TOOL_OPTIONS=", "JDK_JAVA_OPTIONS="}
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		return slices.ContainsFunc(configuring, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
}

// run starts the process and waits for it, on one thread: the kernel ties the child's life to the thread that forked.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
		close(p.done)
	}
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Started returns the instant just before exec.
func (p *Process) Started() time.Time { return p.started }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill ends the process as kill -9 does and waits until it is gone.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Terminate sends SIGTERM and waits; it does nothing when the process has ended. A process that does not end in time is
// killed, which is an error.
func (p *Process) Terminate() error {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("process %d was still running %s after SIGTERM and was killed", p.cmd.Process.Pid,
			stopTimeout)
	}
}

// signal cannot fail in a way that matters: a process that is gone already has closed done.
func (p *Process) signal(s os.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("signal %v to our own child %d: %v", s, p.cmd.Process.Pid, err))
	}
}

// Usage returns what the process has used so far.
func (p *Process) Usage() (Usage, error) {
	u, err := usage(p.Pid())
	if err != nil {
		return Usage{}, p.Explain(fmt.Errorf("usage: %w", err))
	}
	return u, nil
}

// logLines is how much of a log Explain quotes.
const logLines = 10

// Explain adds to err why the process ended, if it has, and the end of what it printed.
func (p *Process) Explain(err error) error {
	if !p.Running() {
		err = fmt.Errorf("%w: process ended: %v", err, p.err)
	}
	raw, readErr := os.ReadFile(p.logFile)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return fmt.Errorf("%w; its log ends:\n%s", err, strings.Join(all[max(0, len(all)-logLines):], "\n"))
}

// look is how often WaitLine reads the log.
const look = 5 * time.Millisecond

// ended reports whether the process is gone.
func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// WaitLine returns when the process has printed line; what an earlier one left in the log does not count.
func (p *Process) WaitLine(ctx context.Context, line string) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		ended := p.ended() // before the look: what it printed last counts
		raw, err := os.ReadFile(p.logFile)
		if err != nil {
			return err
		}
		if strings.Contains("\n"+string(raw[p.logAt:]), "\n"+line+"\n") {
			return nil
		}
		if ended {
			return p.Explain(fmt.Errorf("did not print %q", line))
		}
		select {
		case <-tick.C:
		case <-p.done:
		case <-ctx.Done():
			return p.Explain(fmt.Errorf("did not print %q: %w", line, ctx.Err()))
		}
	}
}
