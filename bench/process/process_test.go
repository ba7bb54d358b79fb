package process

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestServersAreNotConfiguredByTheEnvironment(t *testing.T) {
	got := neutral([]string{"ETCD_NAME=x", "PATH=/bin", "COORD_NAME=y", "JAVA_TOOL_OPTIONS=-Xmx9g", "HOME=/"})
	if want := []string{"PATH=/bin", "HOME=/"}; !slices.Equal(got, want) {
		t.Errorf("environment is %v, want %v", got, want)
	}
}

func start(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start([]string{"/bin/sh", "-c", script}, filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestWaitLineFindsWholeLines(t *testing.T) {
	p := start(t, "echo almost ready; echo ready; exec sleep 100")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := p.WaitLine(ctx, "ready"); err != nil {
		t.Fatal(err)
	}
	if !p.Running() {
		t.Error("the process has ended")
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := p.WaitLine(short, "almost"); err == nil || !strings.Contains(err.Error(), "almost ready") {
		t.Errorf("half a line gives %v, want an error that quotes the log", err)
	}
}

func TestWaitLineEndsWithTheProcess(t *testing.T) {
	p := start(t, "echo no such luck; exit 3")
	err := p.WaitLine(context.Background(), "ready")
	for _, want := range []string{"no such luck", "exit status 3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if err := p.Terminate(); err != nil {
		t.Errorf("terminate what has ended: %v", err)
	}
}

func TestWaitLineIgnoresAnEarlierRun(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for _, script := range []string{"echo ready", "exit 1"} {
		p, err := Start([]string{"/bin/sh", "-c", script}, log)
		if err != nil {
			t.Fatal(err)
		}
		err = p.WaitLine(context.Background(), "ready")
		if said := err == nil; said != (script == "echo ready") {
			t.Errorf("%q: %v", script, err)
		}
		p.Kill()
	}
}
