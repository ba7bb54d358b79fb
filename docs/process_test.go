//go:build unix

package docs_test

import (
	"bufio"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// process is a running example.
type process struct {
	*exec.Cmd
	stdin io.Writer
	lines chan string // what it prints; closed when it has closed its output
}

// start starts a program of ours; the test's end kills it.
func start(t *testing.T, endpoint, program string, args ...string) *process {
	t.Helper()
	build(t)
	return startCommand(t, exec.Command(filepath.Join(programs, program), append([]string{"-endpoints", endpoint}, args...)...))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{Cmd: cmd, lines: make(chan string, 10_000)} // more than one prints in a test
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = p.Stdout
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		for range p.lines {
		}
		_ = p.Wait()
	})
	return p
}

// hear waits until the process prints a line that the pattern matches, and returns the match and its groups.
func (p *process) hear(t *testing.T, pattern string) []string {
	t.Helper()
	wanted, late := regexp.MustCompile(pattern), time.After(patience)
	var heard []string
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("%s ended without %q; it said %q", p.Path, pattern, heard)
			}
			if match := wanted.FindStringSubmatch(line); match != nil {
				return match
			}
			heard = append(heard, line)
		case <-late:
			t.Fatalf("%s did not say %q, but %q", p.Path, pattern, heard)
		}
	}
}

// say gives the process a line of input.
func (p *process) say(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		t.Fatal(err)
	}
}

// forget passes over what the process has printed so far.
func (p *process) forget() {
	for {
		select {
		case _, ok := <-p.lines:
			if ok {
				continue
			}
		default:
		}
		return
	}
}

// signal sends a signal; the process may have ended.
func (p *process) signal(s syscall.Signal) { _ = p.Process.Signal(s) }

// ended waits until the process has ended, and returns its exit code, -1 if a signal killed it.
func (p *process) ended(t *testing.T) int {
	t.Helper()
	late := time.AfterFunc(patience, func() { p.signal(syscall.SIGKILL) })
	defer late.Stop()
	for line := range p.lines {
		t.Logf("%s: %s", filepath.Base(p.Path), line)
	}
	_ = p.Wait() // the state says it
	return p.ProcessState.ExitCode()
}
