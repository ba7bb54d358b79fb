package crashtest

import (
	"strings"
	"testing"
	"time"

	"github.com/coord-dev/coord/proto/layout"
)

// nextRelease builds a coordd of a made-up next release: it knows one version of the cluster more, and from that on it
// logs a command with each put of the key "made-up-command", and calls a procedure with each put of
// "made-up-procedure".
func nextRelease(t *testing.T) string {
	t.Helper()
	const version = "proto/raft/v1/version.go"
	return altered(t,
		edit{version, "MaxVersion Version = 1", " + 1"},
		edit{version, "var Since = map[string]Version{", `"StateHash": 2, "made-up.v1": 2`},
		edit{"recipes/procedure.go", "	return []statemachine.Procedure{\n", `called("made-up.v1", gateClose),` + "\n"},
		edit{"coord/internal/keyspace/keyspace.go", "func (k *Keyspace) Propose(ctx context.Context, kind " +
			"raftv1.Kind, body []byte) (any, error) {\n",
			"if kind == raftv1.KindPut && bytes.Contains(body, []byte(\"made-up-command\")) {\n" +
				"if _, err := k.Proposer.Propose(ctx, raftv1.KindStateHash, nil); err != nil {\nreturn nil, " +
				"err\n}\n}\n" +
				"if kind == raftv1.KindPut && bytes.Contains(body, []byte(\"made-up-procedure\")) {\n" +
				// a Call of it with a GateClose of the name "made-up"
				"call := []byte(\"\\n\\nmade-up.v1\\x12\\t\\n\\amade-up\")\n" +
				"if _, err := k.Proposer.Propose(ctx, raftv1.KindCall, call); err != nil {\nreturn nil, err\n}\n}\n"},
		edit{"coord/internal/keyspace/keyspace.go", "import (\n", "\t\"bytes\"\n"})
}

// become stops a member and starts it with another program.
func (m *member) become(t *testing.T, program string) {
	t.Helper()
	m.terminate(t)
	m.program = program
	m.start(t)
	m.waitReady(t)
}

// early puts a key whose put needs the next version, through one member, and returns what is said against it.
func (m *member) early(t *testing.T, what string) string {
	t.Helper()
	cli := dial(t, m.client)
	defer cli.Close()
	if _, err := cli.Put(within(t, patience), "made-up-"+what, "1"); err != nil {
		return err.Error()
	}
	return ""
}

// TestRollingUpgrade: the members of a cluster are replaced by those of the next release, one after the other, and the
// cluster goes on. As long as one of them is of the old release, none does what it would not understand, and each can
// go back. Then the version is raised by itself, and a member of the old release does not take part any more.
func TestRollingUpgrade(t *testing.T) {
	c := layOut(t, 3)
	old, next := coordd, nextRelease(t)
	c.start()
	put := func(key string) { putKey(t, c, key) }
	put("a")
	for i, m := range c.members[:2] {
		m.become(t, next)
		put("b")
		for what, name := range map[string]string{"command": "StateHash", "procedure": "made-up.v1"} {
			if said := m.early(t, what); !strings.Contains(said, name+" needs version 2 of the cluster, which is at "+
				"version 1: upgrade all members first") {
				t.Errorf("%d members of the new release: a %s that needs its version is answered %q", i+1, what, said)
			}
		}
	}
	c.members[0].become(t, old)
	put("back")
	c.members[0].become(t, next)
	c.members[2].become(t, next)
	for _, m := range c.members {
		for begin := time.Now(); !strings.Contains(metrics(t, m.client),
			"\ncoord_cluster_version{shard=\"1\"} 2\n"); time.Sleep(20 * time.Millisecond) {
			if time.Since(begin) > patience {
				t.Fatalf("the cluster's version was not raised; the log of %s ends:\n%s", m.name, m.tail(10))
			}
		}
	}
	for _, m := range c.members {
		for _, what := range []string{"command", "procedure"} {
			if said := m.early(t, what); said != "" {
				t.Errorf("at version 2: %s", said)
			}
		}
	}
	cli := c.dial()
	defer cli.Close()
	if got, err := cli.Get(within(t, patience), layout.Gate.Key("made-up")); err != nil || len(got.Kvs) != 1 {
		t.Errorf("the procedure of version 2 was not obeyed: %v, %v", got, err)
	}

	last := c.members[2]
	last.terminate(t)
	last.program = old
	last.start(t)
	if code := last.exit(t); code != 1 || !strings.Contains(last.tail(1), "version 2") ||
		!strings.Contains(last.tail(1), "release") {
		t.Errorf("the old release at version 2: exit code %d, %s", code, last.tail(1))
	}
	put("without it")
	last.program = next
	last.start(t)
	last.waitReady(t)
	put("with all")
	c.checkEqual()
	if err := c.sameState(); err != nil {
		t.Error(err)
	}
}
