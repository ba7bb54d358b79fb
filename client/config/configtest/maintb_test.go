package configtest

import (
	"fmt"
	"os"
	"testing"
)

// mainTB is a testing.TB for TestMain, with just what coordtest.Start needs: a failure ends the process.
type mainTB struct {
	testing.TB // nil: what is not here is not used
	cleanups   []func()
}

func (*mainTB) Helper()             {}
func (*mainTB) Logf(string, ...any) {}
func (*mainTB) Log(...any)          {}
func (*mainTB) Name() string        { return "config" }

func (t *mainTB) Cleanup(fn func()) { t.cleanups = append(t.cleanups, fn) }

func (t *mainTB) cleanup() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}

func (t *mainTB) TempDir() string {
	dir, err := os.MkdirTemp("", "coord-config-")
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
