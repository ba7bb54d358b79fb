//go:build unix

package docs_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process takes over what is published while it runs, refuses what it cannot use, and follows the way back.
func TestExampleSettings(t *testing.T) {
	t.Parallel()
	endpoint, _ := startMember(t)
	build(t)
	ctl := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "coordctl"), args...)
		cmd.Env, cmd.Stdin = environment(endpoint), strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	publish := func(limits, reason string) { ctl(limits, "cfg", "put", "app", "limits.json=-", "--reason", reason) }
	status := func(want string) { // waits until the report of the process says so
		t.Helper()
		for late := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			out := ctl("", "cfg", "status", "app")
			if strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				return
			} else if time.Now().After(late) {
				t.Fatalf("no %q in\n%s", want, out)
			}
		}
	}

	publish(`{"max_connections": 100}`, "first settings")
	app := start(t, endpoint, "settings", "-name", "app-1", "-copy", filepath.Join(t.TempDir(), "copy"))
	app.hear(t, `^version 1: max_connections 100 \(first settings\)$`)
	publish(`{"max_connections": 200}`, "more users")
	app.hear(t, `^version 2: max_connections 200 \(more users\)$`)

	publish(`{"max_connections": 0}`, "a mistake")
	status("app-1 3 2 ") // seen, applied
	ctl("", "cfg", "rollback", "app", "1", "--reason", "errors", "--yes")
	app.hear(t, `^version 4: max_connections 100 \(.*errors\)$`)
	status("app-1 4 4 ")

	app.signal(syscall.SIGTERM)
	if code := app.ended(t); code != 0 {
		t.Errorf("it ended with %d", code)
	}
}
