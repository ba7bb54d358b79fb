//go:build unix

package docs_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// shell is a shell that lives as long as a page's test, so that variables, background jobs and folders outlive a command.
type shell struct {
	*exec.Cmd
	dir      string
	input    io.Writer
	statuses *bufio.Scanner // a line for each command, from the shell's descriptor 3
	commands int
}

// startShell starts a shell in an empty folder, with a member of its own.
func startShell(t *testing.T) *shell {
	t.Helper()
	build(t)
	endpoint, dns := startMember(t)
	_, port, _ := net.SplitHostPort(dns)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	s := &shell{Cmd: exec.Command("sh"), dir: t.TempDir(), statuses: bufio.NewScanner(r)}
	s.Dir, s.Env, s.ExtraFiles = s.dir, environment(endpoint, "DNS_PORT="+port), []*os.File{w}
	s.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.input, err = s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		_ = s.Wait()
	})
	return s
}

// kill ends the shell and what it left running.
func (s *shell) kill() { _ = syscall.Kill(-s.Process.Pid, syscall.SIGKILL) }

// run runs a command and returns what it printed. It must end with 0.
func (s *shell) run(t *testing.T, command string) string {
	t.Helper()
	s.commands++
	file := filepath.Join(t.TempDir(), "out") // a file, because a job in the background may keep it open
	late := time.AfterFunc(patience, s.kill)
	defer late.Stop()
	if _, err := fmt.Fprintf(s.input, "{ %s\n} </dev/null >%s 2>&1 3>&-\necho $? >&3\n", command, file); err != nil {
		t.Fatalf("$ %s: %v", command, err)
	}
	ended := s.statuses.Scan()
	out, err := os.ReadFile(file)
	switch {
	case !ended:
		t.Fatalf("$ %s\ntook too long or ended the shell; it printed\n%s", command, out)
	case err != nil:
		t.Fatal(err)
	case s.statuses.Text() != "0":
		t.Errorf("$ %s\nended with %s", command, s.statuses.Text())
	}
	return string(out)
}
