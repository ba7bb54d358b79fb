//go:build unix

package docs_test

import (
	"syscall"
	"testing"
)

// Two instances are replaced by the next version, one after the other, while calls go on: none fails, and then the next version
// answers all of them.
func TestExamplePay(t *testing.T) {
	t.Parallel()
	endpoint, _ := startMember(t)
	begin := func(version string) *process {
		server := start(t, endpoint, "payserver", "-version", version)
		server.hear(t, "serving at")
		return server
	}
	running := []*process{begin("1"), begin("1")}
	caller := start(t, endpoint, "paycaller")
	caller.hear(t, "version 1 answers")
	for i, old := range running {
		running[i] = begin("2")
		caller.hear(t, "version 2 answers")
		old.signal(syscall.SIGTERM)
		if code := old.ended(t); code != 0 {
			t.Errorf("instance %d of version 1 ended with %d", i, code)
		}
	}
	caller.forget()
	for range 5 {
		caller.hear(t, "call") // those that were under way may have been answered before
	}
	if answer := caller.hear(t, "call.*version (.)"); answer[1] != "2" {
		t.Errorf("%q, and no instance of version 1 is left", answer[0])
	}
	caller.signal(syscall.SIGTERM)
	caller.hear(t, "no call failed")
	if code := caller.ended(t); code != 0 {
		t.Errorf("the caller ended with %d", code)
	}
}
