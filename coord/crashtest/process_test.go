package crashtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exitTimeout is how long a process may take to end that was asked to, or that must not start.
const exitTimeout = 40 * time.Second

// process is one run of a program.
type process struct {
	cmd  *exec.Cmd
	log  string        // the file its output is appended to
	done chan struct{} // closed when the process is gone and reaped
	err  error         // how it ended; read after done
}

// launch says how to run a program: with which environment beside the usual one, and in which new namespaces.
type launch struct {
	env        []string
	namespaces uintptr
}

// start runs argv until the test ends.
func (l launch) start(t testing.TB, log string, argv ...string) *process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(neutral(os.Environ()), l.env...)
	cmd.SysProcAttr = l.attr()
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		t.Fatalf("start %v: %v", argv, err)
	}
	t.Cleanup(p.kill)
	return p
}

// attr has the kernel kill the child when this process dies. Who is not root needs a user namespace for any other one.
func (l launch) attr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: l.namespaces}
	if l.namespaces != 0 && os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
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

// signal does nothing to a process that is gone.
func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("signal %v to our own child %d: %v", s, p.cmd.Process.Pid, err))
	}
}

// kill ends the process as kill -9 does and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// terminate asks the process to stop and waits until it has, with exit code 0.
func (p *process) terminate(t testing.TB) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM; the log ends:\n%s", code, p.tail(10))
	}
}

// exit waits until the process has ended by itself and returns its exit code.
func (p *process) exit(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(exitTimeout):
		t.Fatalf("%v still runs after %v; its log ends:\n%s", p.cmd.Args, exitTimeout, p.tail(10))
	}
	return p.cmd.ProcessState.ExitCode()
}

// output is everything that was written to the process' log file, by earlier runs too.
func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// tail is the end of the output.
func (p *process) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(p.output()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// resident is the memory that the process has resident, in bytes; 0 if it is gone.
func (p *process) resident() int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}
