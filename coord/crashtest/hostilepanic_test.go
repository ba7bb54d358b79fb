package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/statemachine/machine"
)

// fragile builds a coordd whose apply panics in three places: at a put of the key "boom", where a lease expires that
// has the key "boom later", and in what follows, from a lease that expires, for the read-write lock "boom". It does so
// a moment later, as a leader that ends at once may not have said that the entry is committed, and then a follower that
// is alone does not end.
func fragile(t *testing.T) string {
	t.Helper()
	const (
		kv, leases = "statemachine/machine/apply_kv.go", "statemachine/machine/apply_lease.go"
		reactions  = "statemachine/machine/broken.go"
		later      = "{ time.Sleep(time.Second); panic(%q) }\n"
	)
	return altered(t, edit{kv, "import (\n", "\"time\"\n"}, edit{leases, "import (\n", "\"time\"\n"},
		edit{reactions, "import (\n", "\"time\"\n"},
		edit{kv, "func (b *batch) doPut(r *pb.PutRequest) *pb.PutResponse {\n",
			fmt.Sprintf("if string(r.Key) == \"boom\" "+later, "boom was put")},
		edit{leases, "func (b *batch) dropLease(id statemachine.LeaseID, expired bool) int {\n",
			fmt.Sprintf("if kv := b.get([]byte(\"boom later\")); expired && kv != nil && kv.Lease == id "+later,
				"boom expires")},
		edit{reactions, "b.at.reaction = d.queue\n", fmt.Sprintf("if strings.HasSuffix(d.queue, \"rwlocks/boom\") "+
			later, "boom has gone")})
}

var refusedEntry = regexp.MustCompile(`refuse-command --data-dir DIR --entry (\d+(?:\.\d+)+)`)

// boom puts the key at which those die who run a fragile program, waits until they have, and returns what their last
// lines call the command.
func boom(t *testing.T, c *cluster, dies ...*member) (entry string) {
	t.Helper()
	cli := c.dial()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, _ = cli.Put(ctx, "boom", "1")
	return ended(t, dies, "boom was put", ", Put, of member")
}

// ended waits until members have ended by themselves, and returns what their last lines, which have these words, call
// the command.
func ended(t *testing.T, members []*member, words ...string) (entry string) {
	t.Helper()
	for _, m := range members {
		if code := m.exit(t); code != 1 {
			t.Errorf("%s: exit code %d", m.name, code)
		}
		last := m.tail(1)
		found := refusedEntry.FindStringSubmatch(last)
		if found == nil {
			t.Fatalf("the last line of %s does not name the command: %s", m.name, last)
		}
		for _, word := range words {
			if !strings.Contains(last, word) {
				t.Errorf("the last line of %s does not say %q: %s", m.name, word, last)
			}
		}
		if entry != "" && found[1] != entry {
			t.Errorf("%s ended at %s, another member at %s", m.name, found[1], entry)
		}
		entry = found[1]
	}
	return entry
}

// refuse runs coordd refuse-command for a member that is stopped.
func (m *member) refuse(t *testing.T, entry string, flags ...string) (code int, said string) {
	t.Helper()
	args := append([]string{"refuse-command", "--data-dir", m.dir, "--entry", entry}, flags...)
	out, err := exec.Command(coordd, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return code, string(out)
}

func (m *member) mustRefuse(t *testing.T, entry string, flags ...string) {
	t.Helper()
	if code, said := m.refuse(t, entry, flags...); code != 0 || !strings.Contains(said, entry) ||
		!strings.Contains(said, "Next: run this on every other member") {
		t.Errorf("%s: exit code %d: %s", m.name, code, said)
	}
}

// mustDecline demands that a member does not refuse a command, and says these words of it.
func (m *member) mustDecline(t *testing.T, words, entry string, flags ...string) {
	t.Helper()
	if code, said := m.refuse(t, entry, flags...); code != 1 || !strings.Contains(said, words) {
		t.Errorf("%s, %s %q: exit code %d: %s, want %q", m.name, entry, flags, code, said, words)
	}
}

// mustStayOut demands that a member says that it must refuse what the others do, and takes part in nothing.
func (m *member) mustStayOut(t *testing.T, entry string, rev int64) {
	t.Helper()
	said := func() bool {
		return strings.Contains(m.output(), "refuse other commands of the log") &&
			strings.Contains(m.output(), "coordd refuse-command") &&
			strings.Contains(m.output(), "which refuses "+entry)
	}
	for begin := time.Now(); !said(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("%s does not say why it stays out", m.name)
		}
	}
	cli := dial(t, m.client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if resp, err := cli.Get(ctx, "a", clientv3.WithSerializable()); err == nil && resp.Header.Revision >= rev {
		t.Errorf("%s has revision %d, and the others had %d when it could not connect", m.name, resp.Header.Revision,
			rev)
	}
}

func putKey(t *testing.T, c *cluster, key string) (rev int64) {
	t.Helper()
	cli := c.dial()
	defer cli.Close()
	resp, err := cli.Put(within(t, patience), key, "1")
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// TestHostilePanicOfAll: three die by one put, and again whenever they start. Once all three refuse it there is
// service, without what was put, and all have the same state.
func TestHostilePanicOfAll(t *testing.T) {
	c := layOut(t, 3)
	program := fragile(t)
	for _, m := range c.members {
		m.program = program
	}
	c.start()
	putKey(t, c, "a")
	entry := boom(t, c, c.members...)
	for _, m := range c.members {
		m.start(t)
	}
	for _, m := range c.members {
		if code := m.exit(t); code != 1 || !strings.Contains(m.tail(1), entry) {
			t.Fatalf("%s started again: exit code %d, %s", m.name, code, m.tail(1))
		}
		m.mustRefuse(t, entry)
	}
	c.start()
	putKey(t, c, "after")
	cli := c.dial()
	if got, err := cli.Get(within(t, patience), "boom"); err != nil || len(got.Kvs) != 0 {
		t.Fatalf("boom: %v, %v", got, err)
	}
	c.checkEqual()
	if err := c.sameState(); err != nil {
		t.Error(err)
	}
}

// TestHostilePanic: two of three die by one put, the third is behind. Once those two refuse the command there is
// service, without what was put. Who lags behind must be told, a new member is told by the others, and one that refuses
// something else stays out.
func TestHostilePanic(t *testing.T) {
	c := layOut(t, 3)
	for _, m := range c.members {
		m.program = fragile(t)
	}
	c.start()
	putKey(t, c, "a")
	behind := c.members[2]
	behind.terminate(t)
	entry := boom(t, c, c.members[:2]...)
	c.members[0].start(t) // for ever
	c.members[1].start(t)
	for _, m := range c.members[:2] {
		if code := m.exit(t); code != 1 || !strings.Contains(m.tail(1), entry) {
			t.Fatalf("%s started again: exit code %d, %s", m.name, code, m.tail(1))
		}
		m.mustRefuse(t, entry)
	}
	c.members[0].start(t)
	c.members[1].start(t)
	c.members[0].waitReady(t)
	rev := putKey(t, c, "after")
	behind.start(t)
	behind.mustStayOut(t, entry, rev)
	behind.terminate(t)
	behind.mustDecline(t, "say --not-in-log-yet", entry)
	behind.mustRefuse(t, entry, "--not-in-log-yet")
	behind.start(t)
	behind.waitReady(t)
	c.checkEqual()
	cli := c.dial()
	if got, err := cli.Get(within(t, patience), "boom"); err != nil || len(got.Kvs) != 0 {
		t.Fatalf("boom: %v, %v", got, err)
	}

	fresh := c.members[1]
	fresh.terminate(t)
	c.replace(t, fresh)
	c.checkEqual()

	differing := c.members[0]
	differing.terminate(t)
	differing.mustRefuse(t, "999999.1", "--not-in-log-yet")
	differing.start(t)
	rev = putKey(t, c, "without it")
	differing.mustStayOut(t, entry, rev) // it says what the others refuse
}

// TestHostilePanicOfSome: one of three has applied what the others die by. It declines to refuse it then, and says what
// to do; the others go on without it.
func TestHostilePanicOfSome(t *testing.T) {
	c := layOut(t, 3)
	program := fragile(t)
	for _, m := range c.members[1:] {
		m.program = program
	}
	c.start()
	putKey(t, c, "a")
	whole := c.members[0]
	if leader := c.leader(); leader != whole { // a follower might not hear that the put was committed
		cli := dial(t, leader.client)
		if _, err := cli.MoveLeader(within(t, patience), idOf(t, cli, whole.name)); err != nil {
			t.Fatal(err)
		}
	}
	entry := boom(t, c, c.members[1:]...)
	whole.mustDecline(t, "in use by another process", entry)
	whole.terminate(t)
	whole.mustDecline(t, "has applied the log", entry)
	whole.mustDecline(t, "rebuilt", entry, "--not-in-log-yet")
	for _, m := range c.members[1:] {
		m.mustRefuse(t, entry)
		m.start(t)
	}
	c.members[1].waitReady(t)
	rev := putKey(t, c, "after")
	whole.start(t)
	whole.mustStayOut(t, entry, rev+1) // it has had the put that the others refuse
}

// TestHostileRefusals: only what the log of a member holds behind what it has applied is refused, and what it may hold
// one day if that is said; and no more of it than there is room for. Whatever is declined changes nothing.
func TestHostileRefusals(t *testing.T) {
	c := layOut(t, 1)
	m, wal := c.members[0], t.TempDir()
	m.program, m.flags = fragile(t), append(m.flags, "--wal-dir="+wal)
	c.start()
	putKey(t, c, "a")
	m.terminate(t) // so that what was applied is durable
	c.start()
	entry := boom(t, c, m)
	var index uint64
	if _, err := fmt.Sscanf(entry, "%d.1", &index); err != nil {
		t.Fatalf("%s: %v", entry, err)
	}
	at := func(offset uint64, rest string) string { return fmt.Sprint(index+offset) + rest }
	inWAL := "--wal-dir=" + wal
	m.mustDecline(t, "if the member runs with --wal-dir, say it here too", entry)
	for _, flags := range [][]string{{inWAL}, {inWAL, "--not-in-log-yet"}} {
		m.mustDecline(t, at(0, " holds 1 commands"), at(0, ".2"), flags...)
		m.mustDecline(t, "is of one Put, and no requests", at(0, ".1.1"), flags...)
		m.mustDecline(t, "has applied the log up to", "1.1", flags...)
	}
	m.mustDecline(t, "not refused: the log of this member ends at entry", at(50, ".1"), inWAL)
	for i := range uint64(machine.MaxRefusedOpen - 1) {
		m.mustRefuse(t, at(100+i, ".1"), inWAL, "--not-in-log-yet")
	}
	m.mustRefuse(t, entry, inWAL)
	m.mustDecline(t, "too many commands are refused: 64 that were not applied yet", at(99, ".1"), inWAL,
		"--not-in-log-yet")
	if code, said := m.refuse(t, entry, inWAL); code != 0 || !strings.Contains(said, "before") {
		t.Errorf("said again: exit code %d: %s", code, said)
	}
	c.start()
	putKey(t, c, "after")
}
