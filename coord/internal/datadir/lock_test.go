package datadir

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// holdEnv names the directory that a child process of the test opens and holds until its stdin ends.
const holdEnv = "COORD_TEST_HOLD_DATADIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		os.Exit(holdDirectory(dir))
	}
	goleak.VerifyTestMain(m)
}

func holdDirectory(dir string) int {
	d, err := Open(options(dir))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer d.Close()
	fmt.Println("open")
	bufio.NewReader(os.Stdin).ReadString('\n')
	return 0
}

func TestLockedByAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), holdEnv+"="+dir)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "open\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	held := fmt.Sprintf("data directory %q is in use by another process (pid %d)", dir, child.Process.Pid)
	refused(t, options(dir), ErrLocked, held)
	refused(t, options(dir), ErrLocked, held) // looking does not disturb the lock
	// A process that is killed leaves no lock behind.
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	stdin.Close()
	open(t, options(dir))
}

func TestLockedByThisProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, options(dir))
	refused(t, options(dir), ErrLocked, fmt.Sprintf("data directory %q is in use by another process (pid %d)", dir,
		os.Getpid()))
}

func TestRefusalGivesUpTheLock(t *testing.T) {
	o := options(t.TempDir())
	used(t, o)
	wrong := o
	wrong.Choices = nil
	if _, err := Open(wrong); !errors.Is(err, ErrOther) {
		t.Fatal(err)
	}
	open(t, o)
}

func TestUnusablePaths(t *testing.T) {
	parent := t.TempDir()
	mustWrite(t, filepath.Join(parent, "file"), "x")
	o := options(filepath.Join(parent, "file"))
	if _, err := Open(o); err == nil ||
		!strings.HasPrefix(err.Error(), fmt.Sprintf("create data directory %q: ", o.DataDir)) {
		t.Errorf("a file as data directory: %v", err)
	}
	o = options(filepath.Join(parent, "\x00"))
	if _, err := Open(o); err == nil ||
		!strings.HasPrefix(err.Error(), fmt.Sprintf("create data directory %q: ", o.DataDir)) {
		t.Errorf("an impossible path: %v", err)
	}
}
