//go:build unix

package main_test

import (
	"strings"
	"syscall"
	"testing"
)

// prints runs coordctl to its end and compares what it prints; … stands for a number.
func prints(t *testing.T, want string, args ...string) {
	t.Helper()
	got := strings.Fields(ok(t, args...))
	words := strings.Fields(want)
	for i := range words {
		if words[i] == "…" && i < len(got) {
			words[i] = got[i]
		}
	}
	if strings.Join(got, " ") != strings.Join(words, " ") {
		t.Errorf("coordctl %q: %q, want %q", args, strings.Join(got, " "), want)
	}
}

// fails runs coordctl to its end and wants a code and a line of error output.
func fails(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	r := start(t, options{}, args...)
	r.wantCode(t, code)
	r.wantOneLine(t, text)
}

// fresh deletes what an earlier run of a test has left of a kind.
func fresh(t *testing.T, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		for _, name := range []string{"obj/hits", "obj/ids", "obj/l"} {
			ok(t, kind, "rm", name)
		}
	}
}

func TestCounterAndSequenceVerbs(t *testing.T) {
	t.Parallel()
	fresh(t, "counter", "sequence")
	prints(t, "0", "counter", "get", "obj/hits")
	prints(t, "5", "counter", "add", "obj/hits", "5")
	prints(t, "-2", "counter", "add", "obj/hits", "--", "-7")
	prints(t, "9", "counter", "set", "obj/hits", "9", "--expect", "-2")
	fails(t, 75, `"obj/hits" is 9, not 3`, "counter", "set", "obj/hits", "1", "--expect", "3")
	fails(t, 1, "out of range", "counter", "add", "obj/hits", "9223372036854775807")
	prints(t, "NAME VALUE obj/hits 9", "counter", "ls", "obj/h")
	prints(t, `{"name":"obj/hits","value":9}`, "counter", "get", "obj/hits", "-w", "json")
	prints(t, "--- name: obj/hits value: 10", "counter", "add", "obj/hits", "1", "-w", "yaml")
	prints(t, "[]", "counter", "ls", "obj/none", "-w", "json")

	prints(t, "1", "sequence", "next", "obj/ids")
	prints(t, "2 101", "sequence", "next", "obj/ids", "100")
	prints(t, `{"name":"obj/ids","first":102,"last":102}`, "sequence", "next", "obj/ids", "-w", "json")
	prints(t, "NAME LAST obj/ids 102", "sequence", "ls", "obj/")
	fails(t, 1, "a count of 0", "sequence", "next", "obj/ids", "0")

	prints(t, "counter obj/hits is deleted", "counter", "rm", "obj/hits")
	prints(t, "there was no counter obj/hits", "counter", "rm", "obj/hits")
	prints(t, "0", "counter", "get", "obj/hits")
	prints(t, `{"name":"obj/ids","deleted":true}`, "sequence", "rm", "obj/ids", "-w", "json")
	start(t, options{}, "del", "_coord/sequences/obj/ids").wantCode(t, 1)
	start(t, options{}, "put", "_coord/counters/obj/hits", "x").wantCode(t, 1)
	prints(t, "0", "counter", "get", "obj/hits")
}

func TestLatchVerbs(t *testing.T) {
	t.Parallel()
	fresh(t, "latch")
	fails(t, 1, "not set", "latch", "down", "obj/l")
	fails(t, 1, "not set", "latch", "wait", "obj/l")
	first := strings.TrimSpace(ok(t, "latch", "set", "obj/l", "3"))
	fails(t, 75, "3 remain", "latch", "set", "obj/l", "1")
	fails(t, 75, "the wait elapsed", "latch", "wait", "obj/l", "--wait", "20ms")
	prints(t, "NAME REMAINING COUNT GENERATION obj/l 3 3 "+first, "latch", "show", "obj/l")
	waiter := start(t, options{}, "latch", "wait", "obj/l")
	prints(t, "2", "latch", "down", "obj/l")
	prints(t, "0", "latch", "down", "obj/l", "5", "--generation", first)
	waiter.wantCode(t, 0)
	prints(t, "…", "latch", "set", "obj/l", "1")
	ok(t, "latch", "wait", "obj/l", "--generation", first)
	fails(t, 75, "generation", "latch", "down", "obj/l", "--generation", first)
	prints(t, "NAME REMAINING COUNT GENERATION obj/l 1 1 …", "latch", "ls", "obj/")
}

func TestBarrierVerbs(t *testing.T) {
	t.Parallel()
	ok(t, "barrier", "open", "obj/b")
	ok(t, "barrier", "wait", "obj/b")
	prints(t, "barrier obj/b was not closed", "barrier", "open", "obj/b")
	prints(t, "barrier obj/b is closed", "barrier", "close", "obj/b", "--reason", "upgrade")
	fails(t, 75, "barrier obj/b (upgrade): the wait elapsed", "barrier", "wait", "obj/b", "--wait", "20ms")
	prints(t, "NAME REASON SINCE REVISION obj/b upgrade …", "barrier", "ls", "obj/")
	waiter, given := start(t, options{}, "barrier", "wait", "obj/b"), start(t, options{}, "barrier", "wait",
		"obj/never")
	given.wantCode(t, 0)
	prints(t, "barrier obj/b is open", "barrier", "open", "obj/b")
	waiter.wantCode(t, 0)
	prints(t, `{"name":"obj/b","closed":false}`, "barrier", "open", "obj/b", "-w", "json")
}

func TestGroupVerbs(t *testing.T) {
	t.Parallel()
	watch := start(t, options{}, "group", "watch", "obj/g")
	first := start(t, options{}, "group", "join", "obj/g", "a", "--data", "10.0.0.1", "--ttl", "30")
	first.waitOut(t, "joined group obj/g as a\n")
	watch.waitOut(t, "joined a: 10.0.0.1\n")
	fails(t, 75, "another session's member", "group", "join", "obj/g", "a")
	second := start(t, options{}, "group", "join", "obj/g", "b")
	watch.waitOut(t, "joined b\n")
	prints(t, "ID DATA JOINED SESSION a 10.0.0.1 … … b - … …", "group", "ls", "obj/g")
	if out := ok(t, "group", "ls"); !strings.Contains(out, "obj/g  2") && !strings.Contains(out, "obj/g 2") {
		t.Errorf("groups: %s", out)
	}
	second.signal(t, syscall.SIGTERM)
	second.wantCode(t, 0)
	watch.waitOut(t, "left b\n")
	ids := strings.Fields(ok(t, "group", "ls", "obj/g"))
	ok(t, "sessions", "end", ids[len(ids)-1], "--yes")
	first.wantCode(t, 76)
	first.wantOneLine(t, "member a of group obj/g is lost")
	watch.waitOut(t, "left a: 10.0.0.1\n")
	watch.signal(t, syscall.SIGINT)
	watch.wantCode(t, 0)
}

func TestObjectBadArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"counter", "add", "x"}, {"counter", "get", ""}, {"sequence", "next"}, {"latch", "set", "x"},
		{"barrier", "close"}, {"group", "join", "x"},
	} {
		fails(t, 128, "takes the name of a", args...)
	}
	fails(t, 128, `"five" is not a number`, "counter", "add", "x", "five")
	fails(t, 128, "does not fit", "counter", "add", "x", "9223372036854775808")
	fails(t, 128, "--ttl", "group", "join", "x", "y", "--ttl", "0")
	fails(t, 1, "name \"x/\" ends in a slash", "counter", "add", "x/", "1")
	fails(t, 1, "member id", "group", "join", "x", "a/b")
}
