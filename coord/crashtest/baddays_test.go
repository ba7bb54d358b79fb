package crashtest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMistakesHaveOneLine makes what people get wrong on the command line.
func TestMistakesHaveOneLine(t *testing.T) {
	running := startCluster(t, 1)
	other := startCluster(t, 1)
	taken := running.members[0]
	fresh := func(t *testing.T) *member { return layOut(t, 1).members[0] }
	for _, c := range []struct {
		what string
		make func(t *testing.T) *member
		want string // in the line, which also names the place
	}{
		{"unknown flag", func(t *testing.T) *member {
			m := fresh(t)
			m.flags = []string{"--frobnicate"}
			return m
		}, "unknown flag --frobnicate"},
		{"malformed URL", func(t *testing.T) *member {
			m := fresh(t)
			m.flags = []string{"--listen-client-urls=127.0.0.1:2379"}
			return m
		}, "--listen-client-urls"},
		{"name missing from the cluster", func(t *testing.T) *member {
			m := fresh(t)
			m.name = "stranger"
			return m
		}, `"stranger"`},
		{"two members with one address", func(t *testing.T) *member {
			m := fresh(t)
			m.initial += ",m1=http://" + m.peer
			return m
		}, `duplicate url`},
		{"client port in use", func(t *testing.T) *member {
			m := fresh(t)
			m.client = taken.client
			return m
		}, "--listen-client-urls: cannot listen on http://" + taken.client + ": listen tcp " + taken.client +
			": bind: address already in use"},
		{"peer port in use", func(t *testing.T) *member {
			m := fresh(t)
			m.peer, m.initial = taken.peer, "m0=http://"+taken.peer
			return m
		}, "--listen-peer-urls: cannot listen on http://" + taken.peer},
		{"directory in use", func(t *testing.T) *member {
			m := fresh(t)
			m.dir = taken.dir
			return m
		}, taken.dir},
		{"directory of another cluster", func(t *testing.T) *member {
			other.members[0].kill()
			m := fresh(t)
			m.dir = other.members[0].dir
			return m
		}, "belongs to cluster"},
		{"directory that cannot be made", func(t *testing.T) *member {
			m := fresh(t)
			m.dir = filepath.Join(taken.log, "below a file")
			return m
		}, "below a file"},
	} {
		t.Run(c.what, func(t *testing.T) {
			line := c.make(t).mustNotStart(t)
			if !strings.Contains(line, c.want) {
				t.Errorf("%q does not say %q", line, c.want)
			}
			t.Log(line)
		})
	}
	if _, err := running.dial().Put(within(t, patience), "still", "here"); err != nil {
		t.Errorf("the member that was in the way: %v", err)
	}
}

// TestReadOnlyDirectory remounts a member's disk read-only and starts the member.
func TestReadOnlyDirectory(t *testing.T) {
	c := layOut(t, 1)
	m := c.members[0]
	d := mount(t, m.dir, 256)
	m.wrap = d.wrap()
	c.start()
	acked := put(t, c.dial(), "small/", 20)
	m.terminate(t)
	d.remount(t, "ro")
	line := m.mustNotStart(t)
	if !strings.Contains(line, m.dir) || !strings.Contains(line, "read-only file system") {
		t.Errorf("%q does not say what is wrong and where", line)
	}
	t.Log(line)
	d.remount(t, "rw")
	c.start()
	checkStored(t, c.dial(), acked)
}

// TestRemovedDirectory takes the directory away from under a running member: it says so and ends, and does not fill a
// disk with complaints.
func TestRemovedDirectory(t *testing.T) {
	c := startCluster(t, 1)
	m := c.members[0]
	cli := c.dial()
	put(t, cli, "k/", 10)
	before := len(m.output())
	if err := os.RemoveAll(m.dir); err != nil {
		t.Fatal(err)
	}
	_, _ = cli.Put(within(t, patience), "k/unflushed", "") // it may have flushed all that was put before
	if code := m.exit(t); code == 0 {                      // the next flush is at most five seconds away
		t.Error("exit code 0")
	}
	said := m.output()[before:]
	last := m.tail(1)
	if !strings.Contains(last, "cannot go on") || !strings.Contains(last, m.dir) ||
		!strings.Contains(last, "no such file") {
		t.Errorf("the last line is %q", last)
	}
	if lines := strings.Count(said, "\n"); lines > 50 {
		t.Errorf("it complained in %d lines", lines)
	}
}

// TestDamagedData damages the files of a member that is alone, one at a time. It either says what is damaged and does
// not start, or has everything that was acknowledged.
func TestDamagedData(t *testing.T) {
	c := layOut(t, 1, "--snapshot-count=20")
	m := c.members[0]
	c.start()
	cli := c.dial()
	acked := put(t, cli, "small/", 200)
	m.terminate(t)
	c.start() // a start writes tables from what was in logs
	for key, value := range put(t, cli, "late/", 100) {
		acked[key] = value
	}
	m.kill()
	whole := filepath.Join(c.dir, "kept")
	if err := os.Rename(m.dir, whole); err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		what, pattern string
		damage        func(b []byte) []byte
	}{
		{"metadata half written", "member/meta.json", half},
		{"metadata with a flipped byte", "member/meta.json", flipMiddle},
		{"metadata empty", "member/meta.json", nothing},
		{"marker of a part half written", "member/db/COORD-PART", half},
		{"store's CURRENT half written", "member/db/1/CURRENT", half},
		{"store's manifest cut in half", "member/db/1/*.db/MANIFEST-*", half},
		{"store's tables cut in half", "member/db/1/*.db/*.sst", half},
		{"store's tables with a flipped byte", "member/db/1/*.db/*.sst", flipMiddle},
		{"raft log's manifest cut in half", "member/wal/vm/*/logstore/MANIFEST-*", half},
		{"raft log's manifest with a flipped byte", "member/wal/vm/*/logstore/MANIFEST-*", flipMiddle},
		{"raft log with a flipped byte in the middle", "member/wal/vm/*/logstore/*.log", flipMiddle},
		{"raft log's tables cut in half", "member/wal/vm/*/logstore/*.sst", half},
		{"raft log's tables with a flipped byte", "member/wal/vm/*/logstore/*.sst", flipMiddle},
	} {
		t.Run(d.what, func(t *testing.T) {
			copyDir(t, whole, m.dir)
			t.Logf("%d files damaged", damage(t, filepath.Join(m.dir, d.pattern), d.damage))
			before := len(m.output())
			m.start(t)
			if m.serves(t) {
				checkStored(t, cli, acked)
				checkStored(t, cli, put(t, cli, "later/", 250)) // and takes what is new
				m.kill()
				return
			}
			line := complaint(t, m.output()[before:])
			if !strings.Contains(line, m.dir) {
				t.Errorf("%q does not say where", line)
			}
			t.Log(line)
		})
	}
	copyDir(t, whole, m.dir)
	c.start()
	checkStored(t, cli, acked)
}

// serves waits until a member either serves or has ended by itself, and says which.
func (m *member) serves(t *testing.T) bool {
	t.Helper()
	cli := dial(t, m.client)
	defer cli.Close()
	for begin := time.Now(); time.Since(begin) < exitTimeout; time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := cli.Get(ctx, "ready?")
		cancel()
		if err == nil || !m.running() {
			return err == nil
		}
	}
	t.Fatalf("%s neither serves nor ends; its log ends:\n%s", m.name, m.tail(10))
	return false
}

// damage changes the files of a pattern, of which there has to be one, and returns how many there are.
func damage(t *testing.T, pattern string, how func([]byte) []byte) int {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, how(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return len(files)
}

func half(b []byte) []byte    { return b[:len(b)/2] }
func nothing(_ []byte) []byte { return nil }

// flipMiddle flips a byte in the middle.
func flipMiddle(b []byte) []byte {
	b = slices.Clone(b)
	if len(b) > 0 {
		b[len(b)/2] ^= 0x5a
	}
	return b
}
