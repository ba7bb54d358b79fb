package coordtest

import (
	"fmt"
	"os"
	"testing"
)

// RunMain is for the TestMain of a package whose examples need a cluster, as they have no testing.TB of their own: it
// starts one, hands it over, runs the package's tests and examples, and stops it. It returns the exit code. A cluster
// that does not start ends the process.
func RunMain(m *testing.M, opts Options, use func(*Cluster)) int {
	tb := &mainTB{}
	defer tb.cleanup()
	use(Start(tb, opts))
	return m.Run()
}

// mainTB is a testing.TB for TestMain, with just what Start needs: a failure ends the process.
type mainTB struct {
	testing.TB // nil: what is not here is not used
	cleanups   []func()
}

func (*mainTB) Helper()             {}
func (*mainTB) Logf(string, ...any) {}
func (*mainTB) Log(...any)          {}
func (*mainTB) Name() string        { return "main" }

func (t *mainTB) Cleanup(fn func()) { t.cleanups = append(t.cleanups, fn) }

func (t *mainTB) cleanup() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}

func (t *mainTB) TempDir() string {
	dir, err := os.MkdirTemp("", "coord-examples-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (t *mainTB) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	t.cleanup()
	os.Exit(1)
}

func (t *mainTB) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }
func (t *mainTB) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
