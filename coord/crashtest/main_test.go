package crashtest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// coordd is the program under test, built once.
var coordd string

// roles are what this test program does instead of testing when roleEnv names one: the parts of clients that get
// killed.
var roles = map[string]func(){"contend": contend, "contest": contest, "multitude": multitude}

const roleEnv = "CRASHTEST_ROLE"

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleEnv)]; ok {
		role()
		return
	}
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "coordd-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	coordd = filepath.Join(dir, "coordd")
	build := exec.Command("go", "build", "-o", coordd, "github.com/coord-dev/coord/cmd/coordd")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %v\n%s", build, err, out)
		return 1
	}
	return m.Run()
}

// rounds is how often what is repeated is repeated.
func rounds(t *testing.T) int {
	t.Helper()
	given := os.Getenv("COORD_CRASH_ROUNDS")
	switch {
	case given == "" && testing.Short():
		return 1
	case given == "":
		return 2
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 1 {
		t.Fatalf("COORD_CRASH_ROUNDS=%q is not a positive number", given)
	}
	return n
}
