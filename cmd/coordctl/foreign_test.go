package main_test

import (
	"strings"
	"testing"
)

// TestForeignKeyVerbs: a key that etcdctl put directly below a lock's name is named to who tries, waits, lists and asks
// why, and goes only by its full key.
func TestForeignKeyVerbs(t *testing.T) {
	c := newClient(t)
	const name, key = "foreign/lock", "foreign/lock/left over"
	if _, err := c.Put(t.Context(), key, ""); err != nil {
		t.Fatal(err)
	}
	try := start(t, options{}, "lock", name, "--try")
	try.wantCode(t, 75)
	try.wantOneLine(t, `key "foreign/lock/left over", which no lease ends: it may never go`)

	waiter := start(t, options{}, "lock", name, "--", "true")
	eventually(t, func() bool { return strings.Contains(waiter.err.String(), `is taken by key "foreign/lock/left over"`) }, "who waits was not told: %q", &waiter.err)
	if got := ok(t, "why", "lock/"+name); !strings.Contains(got, key) || strings.Contains(got, "is free") {
		t.Errorf("why said %s", got)
	}
	for _, args := range [][]string{{"locks", "ls", name}, {"locks", "show", name}, {"top", "--once"}} {
		if got := ok(t, args...); !strings.Contains(got, `(key "foreign/lock/left`) {
			t.Errorf("%v printed\n%s", args, got)
		}
	}
	byName := start(t, options{}, "locks", "release", name, "--reason", "stuck", "--yes")
	byName.wantCode(t, 1)
	byName.wantOneLine(t, key)
	ok(t, "locks", "release", name, "--entry", key, "--reason", "stuck", "--yes")
	waiter.wantCode(t, 0)
}
