package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coord-dev/coord/client"
)

// onTerminalAnswered runs coordctl on a terminal, answers its question and returns what stood on the screen.
func onTerminalAnswered(t *testing.T, command, question, answer string) string {
	t.Helper()
	keyboard, screen, done := onTerminal(t, `"$CTL" `+command+`; echo code $?`)
	eventually(t, func() bool { return strings.Contains(screen.String(), question+". Go on? [y/N]") },
		"the question %q in %q", question, screen)
	press(t, keyboard, answer)
	eventually(t, func() bool { return strings.Contains(screen.String(), "code ") }, "the end of %q", screen)
	<-done
	return screen.String()
}

// TestEtcdVerbsAskOnATerminal: what destroys is asked for on a terminal, and not in a script.
func TestEtcdVerbsAskOnATerminal(t *testing.T) {
	keys := func() string { return ok(t, "get", "--prefix", "ask/", "--keys-only") }
	ok(t, "put", "ask/a", "1")
	for _, answer := range []string{"n\n", "\n", "yess\n"} {
		screen := onTerminalAnswered(t, "del --prefix ask/", `this deletes all keys that begin with "ask/"`, answer)
		if !strings.Contains(screen, "nothing was changed") || !strings.Contains(screen, "code 1") || keys() == "" {
			t.Errorf("after the answer %q: screen %q, keys %q", answer, screen, keys())
		}
	}
	if screen := onTerminalAnswered(t, "del --prefix ask/", "",
		"Y\n"); !strings.Contains(screen, "code 0") || keys() != "" {
		t.Errorf("after a yes: screen %q, keys %q", screen, keys())
	}
	for command, question := range map[string]string{
		`del --prefix ""`:      "this deletes all keys",
		`del --from-key ask/z`: `this deletes all keys from "ask/z" on`,
		`lease revoke 77`:      "this revokes lease 77 and deletes its keys",
		`compaction 1`:         "this removes the history before revision 1",
		`member remove 77`:     "this removes member 77 from the cluster",
		`user delete u`:        "this deletes user u",
		`role delete r`:        "this deletes role r",
		`auth disable`:         "this switches authentication off: everybody may do everything",
	} {
		if screen := onTerminalAnswered(t, command, question, "n\n"); !strings.Contains(screen, "code 1") {
			t.Errorf("%s: %q", command, screen)
		}
	}
	// --yes, a single key and a script are not asked.
	ok(t, "put", "ask/a", "1")
	ok(t, "put", "ask/b", "1")
	_, screen, done := onTerminal(t, `"$CTL" del ask/a && "$CTL" del --yes --prefix ask/; echo code $?`)
	eventually(t, func() bool { return strings.Contains(screen.String(), "code 0") }, "the end of %q", screen)
	<-done
	ok(t, "put", "ask/c", "1")
	if got := ok(t, "del", "--prefix", "ask/"); got != "1\n" || keys() != "" {
		t.Errorf("without a terminal del printed %q", got)
	}
}

// TestReleaseAsksOnATerminal: whose grant is taken away is said before.
func TestReleaseAsksOnATerminal(t *testing.T) {
	one, two := newSession(t, "ask3"), newSession(t, "ask4")
	acquire(t, one, "ask/lock")
	var permits []*client.Permits
	for _, s := range []*client.Session{one, two} {
		p, err := s.Semaphore("ask/semaphore", 2).Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		permits = append(permits, p)
	}
	second := fmt.Sprint("semaphore release ask/semaphore --reason stuck --token ", permits[1].Token())
	for command, question := range map[string]string{
		"locks release ask/lock --reason stuck": `unless it is renewed`,
		second:                                  `unless it is renewed`,
	} {
		screen := onTerminalAnswered(t, command, question, "n\n")
		if !strings.Contains(screen, "this takes away what is held with token ") ||
			!strings.Contains(screen, "code 1") {
			t.Errorf("%s: screen %q", command, screen)
		}
	}
	ok(t, strings.Fields(second)...) // a script is not asked
	select {
	case <-permits[1].Lost():
	case <-time.After(patience):
		t.Error("the holder does not know that its permit was taken away")
	}
	if permits[0].Err() != nil {
		t.Error("another's permit was taken away")
	}
}

// TestTransferAsksOnATerminal: who leads is not deposed by mistake.
func TestTransferAsksOnATerminal(t *testing.T) {
	one, two := newSession(t, "ask1"), newSession(t, "ask2")
	leader, err := one.Election("ask/election").Campaign(t.Context(), []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = two.Election("ask/election").Campaign(t.Context(), []byte("2")) }()
	candidate := waitQueue(t, newClient(t), "ask/election", 2)[1]
	command := fmt.Sprintf("elections transfer ask/election --to %s", candidate.key)
	onTerminalAnswered(t, command, "this makes "+candidate.key+" the leader in place of 1", "n\n")
	if leader.Err() != nil {
		t.Error("the leader was deposed by a no")
	}
}
