package peers

import (
	"errors"
	"fmt"
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

// process is one run of a server.
type process struct {
	cmd     *exec.Cmd
	started time.Time     // just before exec
	done    chan struct{} // closed when the process is gone and reaped
	err     error         // why it ended; read after done
}

// startProcess runs argv with its output appended to logFile.
func startProcess(argv []string, logFile string) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = neutral(os.Environ())
	cmd.SysProcAttr = childAttr()
	p := &process{cmd: cmd, started: time.Now(), done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	return p, nil
}

// neutral returns environ without the variables that configure a server: only its flags shall.
func neutral(environ []string) []string {
	configures := func(v string) bool { return strings.HasPrefix(v, "ETCD_") || strings.HasPrefix(v, "COORD_") }
	return slices.DeleteFunc(slices.Clone(environ), configures)
}

// run starts the process and waits for it, on one thread: the kernel ties the child's life to the thread that forked.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
		close(p.done)
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process as kill -9 does and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// terminate sends SIGTERM and waits. A process that does not end in time is killed, which is an error.
func (p *process) terminate() error {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.kill()
		return fmt.Errorf("process %d was still running %s after SIGTERM and was killed", p.cmd.Process.Pid, stopTimeout)
	}
}

// signal cannot fail in a way that matters: a process that is gone already has closed done.
func (p *process) signal(s os.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("signal %v to our own child %d: %v", s, p.cmd.Process.Pid, err))
	}
}

// logTail returns the last lines of a log, for the error that says why a server did not start.
func logTail(logFile string, lines int) string {
	raw, err := os.ReadFile(logFile)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
