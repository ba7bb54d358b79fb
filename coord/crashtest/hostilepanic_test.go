package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// fragile builds a coordd in which a put of the key "boom" panics in the apply: a moment later, as a leader that ends at once may not have
// said that the put is committed, and then a follower that is alone does not end.
func fragile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, err := filepath.Abs("../../statemachine/apply_kv.go")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	for at, more := range map[string]string{
		"import (\n": "\"time\"\n",
		"func (b *batch) doPut(r *pb.PutRequest) *pb.PutResponse {\n": "if string(r.Key) == \"boom\" { time.Sleep(time.Second); panic(\"boom was put\") }\n",
	} {
		if bytes.Count(code, []byte(at)) != 1 {
			t.Fatalf("%s has no %q", source, at)
		}
		code = bytes.Replace(code, []byte(at), []byte(at+more), 1)
	}
	changed, overlay := filepath.Join(dir, "apply_kv.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err := errors.Join(err, os.WriteFile(changed, code, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "coordd")
	if out, err := exec.Command("go", "build", "-overlay="+overlay, "-o", program, "github.com/coord-dev/coord/cmd/coordd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

var refusedEntry = regexp.MustCompile(`refuse-command --data-dir DIR --entry (\d+\.\d+)`)

// boom puts the key at which those die who run a fragile program, waits until they have, and returns what their last lines call
// the command.
func boom(t *testing.T, c *cluster, dies ...*member) (entry string) {
	t.Helper()
	cli := c.dial()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, _ = cli.Put(ctx, "boom", "1")
	for _, m := range dies {
		if code := m.exit(t); code != 1 {
			t.Errorf("%s: exit code %d", m.name, code)
		}
		last := m.tail(1)
		found := refusedEntry.FindStringSubmatch(last)
		if found == nil || !strings.Contains(last, "boom was put") || !strings.Contains(last, ", Put, of member") {
			t.Fatalf("the last line of %s does not name the command: %s", m.name, last)
		}
		if entry != "" && found[1] != entry {
			t.Errorf("%s ended at %s, another member at %s", m.name, found[1], entry)
		}
		entry = found[1]
	}
	return entry
}

// refuse runs coordd refuse-command for a member that is stopped.
func (m *member) refuse(t *testing.T, entry string) (code int, said string) {
	t.Helper()
	out, err := exec.Command(coordd, "refuse-command", "--data-dir", m.dir, "--entry", entry).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return code, string(out)
}

func (m *member) mustRefuse(t *testing.T, entry string) {
	t.Helper()
	if code, said := m.refuse(t, entry); code != 0 || !strings.Contains(said, entry) || !strings.Contains(said, "Next: run this on every other member") {
		t.Errorf("%s: exit code %d: %s", m.name, code, said)
	}
}

// mustStayOut demands that a member says that it must refuse what the others do, and takes part in nothing.
func (m *member) mustStayOut(t *testing.T, entry string, rev int64) {
	t.Helper()
	said := func() bool {
		return strings.Contains(m.output(), "refuse other commands of the log") && strings.Contains(m.output(), "coordd refuse-command") && strings.Contains(m.output(), "which refuses "+entry)
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
		t.Errorf("%s has revision %d, and the others had %d when it could not connect", m.name, resp.Header.Revision, rev)
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

// TestHostilePanicOfAll: three die by one put, and again whenever they start. Once all three refuse it there is service, without what was
// put, and all have the same state.
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

// TestHostilePanic: two of three die by one put, the third is behind. Once those two refuse the command there is service, without
// what was put. Who lags behind must be told, a new member is told by the others, and one that refuses something else stays out.
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
	behind.mustRefuse(t, entry)
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
	differing.mustRefuse(t, "999999.1")
	differing.start(t)
	rev = putKey(t, c, "without it")
	differing.mustStayOut(t, entry, rev) // it says what the others refuse
}

// TestHostilePanicOfSome: one of three has applied what the others die by. It declines to refuse it then, and says what to do; the
// others go on without it.
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
	if code, said := whole.refuse(t, entry); code != 1 || !strings.Contains(said, "in use by another process") {
		t.Errorf("while it runs: exit code %d: %s", code, said)
	}
	whole.terminate(t)
	if code, said := whole.refuse(t, entry); code != 1 || !strings.Contains(said, "has applied the log") || !strings.Contains(said, "rebuilt") {
		t.Errorf("exit code %d: %s", code, said)
	}
	for _, m := range c.members[1:] {
		m.mustRefuse(t, entry)
		m.start(t)
	}
	c.members[1].waitReady(t)
	rev := putKey(t, c, "after")
	whole.start(t)
	whole.mustStayOut(t, entry, rev+1) // it has had the put that the others refuse
}
