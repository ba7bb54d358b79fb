//go:build unix

package main_test

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coord-dev/coord/client"
)

// completed are the choices that a shell is offered at the end of a command line, without what is said about them.
func completed(t *testing.T, opt options, line ...string) []string {
	t.Helper()
	r := start(t, opt, append([]string{"__complete"}, line...)...)
	r.wantCode(t, 0)
	lines := strings.Split(strings.TrimSuffix(r.out.String(), "\n"), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, ":") {
		t.Fatalf("%q: %q is not what a shell expects", line, lines)
	}
	var choices []string
	for _, l := range lines[:len(lines)-1] {
		choice, _, _ := strings.Cut(l, "\t")
		choices = append(choices, choice)
	}
	return choices
}

// wantCompleted wants these choices, with blanks between them. A machine that is busy for as long as a completion waits
// offers none.
func wantCompleted(t *testing.T, opt options, want string, line ...string) {
	t.Helper()
	var got string
	eventually(t, func() bool { got = strings.Join(completed(t, opt, line...), " "); return got == want || got != "" },
		"%q as completion of %q", want, line)
	if got != want {
		t.Errorf("%q is completed by %q, want %q", line, got, want)
	}
}

func TestCompletionOfNames(t *testing.T) {
	s, waiting := newSession(t, "comp1"), newSession(t, "comp2")
	acquire(t, s, "comp/lock/a")
	acquire(t, s, "comp/lock/b")
	acquire(t, s, "comp/lock/b\n")
	if _, err := s.Election("comp/election").Campaign(t.Context(), []byte("me")); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = waiting.Election("comp/election").Campaign(t.Context(), []byte("other")) }()
	candidate := waitQueue(t, newClient(t), "comp/election", 2)[1].key
	cfgPut(t, "comp/bundle", "d", "1")
	cfgPut(t, "comp/bundle", "d", "2")
	cfgPut(t, "comp/bundle2", "d", "1")
	for _, id := range []string{"127.0.0.1:1", "127.0.0.1:2"} {
		start(t, options{}, "service", "register", "comp/svc", "--addr", id).waitOut(t, "registered")
	}
	if _, err := s.RWLock("comp/rwlock").Acquire(t.Context(), client.Read); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Semaphore("comp/semaphore", 1).Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ok(t, "counter", "add", "comp/counter", "1")
	ok(t, "latch", "set", "comp/latch", "1")
	start(t, options{}, "group", "join", "comp/group/a", "m").waitOut(t, "joined")
	contexts := filepath.Join(t.TempDir(), "contexts.yaml")
	opt := options{env: []string{"COORDCTL_CONFIG=" + contexts}}
	okWith(t, opt, "context", "set", "prod", "--endpoints", endpoint(t))
	okWith(t, opt, "context", "set", "dev", "--endpoints", endpoint(t))
	for _, c := range []struct {
		want string // choices with blanks
		line []string
	}{
		{"comp/lock/a comp/lock/b", []string{"locks", "show", "comp/lock/"}},
		{"comp/lock/b", []string{"locks", "release", "comp/lock/b"}},
		{"comp/lock/a comp/lock/b", []string{"lock", "comp/lock"}},
		{"comp/election", []string{"elections", "show", "comp/"}},
		{"comp/election", []string{"elect", "comp/"}},
		{candidate, []string{"elections", "transfer", "comp/election", "--to", ""}},
		{"lock/comp/lock/a lock/comp/lock/b", []string{"why", "lock/comp/lo"}},
		{"election/comp/election", []string{"why", "election/comp/"}},
		{hexID(s), []string{"sessions", "end", hexID(s)}},
		{"comp/bundle comp/bundle2", []string{"cfg", "get", "comp/"}},
		{"2 1", []string{"cfg", "rollback", "comp/bundle", ""}},
		{"2 1", []string{"cfg", "diff", "comp/bundle", "1", ""}},
		{"comp/bundle2", []string{"cfg", "schema", "rm", "comp/bundle2"}},
		{"comp/svc", []string{"service", "ls", "comp/"}},
		{"127.0.0.1:1 127.0.0.1:2", []string{"service", "drain", "comp/svc", ""}},
		{"comp/rwlock", []string{"rwlock", "comp/"}},
		{"comp/rwlock", []string{"rwlock", "release", "comp/"}},
		{"rwlock/comp/rwlock", []string{"why", "rwlock/co"}},
		{"comp/semaphore", []string{"semaphore", "comp/"}},
		{"comp/semaphore", []string{"semaphore", "resize", "comp/"}},
		{"comp/lock/a comp/lock/b comp/rwlock comp/semaphore", []string{"locks", "ls", "comp/"}},
		{"comp/counter", []string{"counter", "get", "comp/"}},
		{"comp/latch", []string{"latch", "down", "comp/"}},
		{"comp/group/a", []string{"group", "watch", "comp/"}},
		{"dev prod", []string{"context", "use", ""}},
		{"prod", []string{"--context", "pr"}},
		{"simple table json yaml", []string{"locks", "ls", "-w", ""}},
		{"simple fields json protobuf table", []string{"get", "-w", ""}},
		{"", []string{"locks", "show", "comp/lock/a", ""}},
	} {
		wantCompleted(t, opt, c.want, c.line...)
	}
	member := strings.SplitN(ok(t, "member", "list"), ",", 2)[0]
	wantCompleted(t, opt, member, "member", "remove", "")
	// The cluster that is asked is that of the line.
	opt.noEndpoint = true
	wantCompleted(t, opt, "comp/lock/a", "--context", "prod", "locks", "show", "comp/lock/a")
	wantCompleted(t, opt, "comp/lock/a", "--endpoints", endpoint(t), "locks", "show", "comp/lock/a")
}

// TestCompletionIsSilentAndQuick: nobody who presses tab hears of a cluster that does not answer, or waits for long.
func TestCompletionIsSilentAndQuick(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	for name, flags := range map[string][]string{
		"nobody":      {"--endpoints", freeAddr()},
		"silence":     {"--endpoints", mute.Addr().String(), "--command-timeout", "10m"},
		"no password": {"--endpoints", endpoint(t), "--user", "root"},
		"no file":     {"--endpoints", endpoint(t), "--cacert", "/none"},
		"no context":  {"--context", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			r := start(t, options{}, slices.Concat([]string{"__complete"}, flags, []string{"locks", "show", ""})...)
			r.code(t)
			if took := time.Since(begun); took > patience/2 {
				t.Errorf("it took %v", took)
			}
			if out := r.out.String(); strings.Contains(out, "comp/") || strings.Contains(r.err.String(), "Error") {
				t.Errorf("it said %q, %q", out, &r.err)
			}
		})
	}
}
