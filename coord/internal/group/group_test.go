package group

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestOneMember(t *testing.T) {
	start := time.Now()
	c := newCluster(t, 1, nil)
	m := c.leader()
	t.Logf("leader after %v", time.Since(start))
	for i := range 100 {
		m.mustPut(name("w", i))
	}
	start = time.Now()
	const reads = 200
	for range reads {
		if err := m.node.ReadIndex(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ReadIndex takes %v", time.Since(start)/reads)
	checkEntries(t, c.equal(), 100)
	m.stop()
	start = time.Now()
	m.start(c.config(m))
	c.leader()
	t.Logf("leader again after %v", time.Since(start))
	checkEntries(t, c.equal(), 100)
}

func TestThreeMembers(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.leader()
	for i := range 300 {
		c.members[uint64(i%3+1)].mustPut(name("w", i))
	}
	checkEntries(t, c.equal(), 300)
	leader := c.leader()
	for _, s := range leader.node.Transport().Stats() {
		if !s.Connected || s.Sent == 0 || s.Received == 0 || s.SentBytes == 0 || s.ReceivedBytes == 0 {
			t.Errorf("traffic of the leader %d: %+v", leader.id, s)
		}
	}
}

// The log's own write-ahead log may lie elsewhere.
func TestWALDir(t *testing.T) {
	wal := t.TempDir()
	c := newCluster(t, 1, func(cfg *memberConfig) { cfg.WALDir = wal })
	m := c.leader()
	m.mustPut(name("w", 0))
	m.stop()
	if _, err := os.Stat(filepath.Join(wal, flagFile)); err != nil {
		t.Error(err)
	}
	m.start(c.config(m))
	c.leader()
	checkEntries(t, c.equal(), 1)
}

func TestConfigIsChecked(t *testing.T) {
	good := func() Config { return Config{Machine: &logMachine{}} }
	for text, edit := range map[string]func(*Config){
		"no state machine":      func(c *Config) { c.Machine = nil },
		"joining member":        func(c *Config) { c.Join, c.Initial = true, map[uint64]string{2: "x"} },
		"not among the initial": func(c *Config) { c.Initial = map[uint64]string{1: "x"} },
	} {
		cfg := good()
		edit(&cfg)
		if err := cfg.validate(2); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	cfg := good()
	if err := cfg.validate(2); err != nil {
		t.Error(err)
	}
}

// TestGroupsOfOneHost: groups on one host take their own entries, and one goes on while another is closed and opened again.
func TestGroupsOfOneHost(t *testing.T) {
	c := newCluster(t, 1, neverFatal(t))
	m := c.leader()
	m.mustPut(name("first", 0))
	second := &member{t: t, id: 1, dir: t.TempDir(), acks: newAcks()}
	open := func() *Group {
		second.machine = &logMachine{dir: filepath.Join(second.dir, "sm"), fs: vfs.Default, onApply: second.acks.applied}
		g := New(testShard+1, 1)
		if err := g.Propose([]byte("too early")); err != ErrBusy || g.IsLeader() {
			t.Errorf("before the start: %v, leads %v", err, g.IsLeader())
		}
		cfg := Config{Machine: second.machine, Initial: map[uint64]string{1: m.addr}, Logger: testLogger(t)}
		if err := g.Start(testContext(t), m.node.on, cfg); err != nil {
			t.Fatal(err)
		}
		second.node = &node{g, m.node.on}
		return g
	}
	for i := range 3 {
		g := open()
		second.mustPut(name("second", i))
		m.mustPut(name("first", i+1))
		if err := g.ReadIndex(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if again := New(testShard+1, 1).Start(testContext(t), m.node.on, Config{Machine: &logMachine{}, Initial: map[uint64]string{1: "x"}}); again == nil {
			t.Error("a second replica of one shard was started")
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if err := g.Propose([]byte("too late")); err != ErrClosed {
			t.Errorf("Propose after Close: %v", err)
		}
		m.mustPut(name("beside", i))
	}
	g := open()
	defer g.Close()
	if err := g.ReadIndex(testContext(t)); err != nil {
		t.Fatal(err)
	}
	entries, err := second.machine.Entries()
	if err != nil {
		t.Fatal(err)
	}
	checkEntries(t, entries, 3)
	checkEntries(t, c.equal(), 7)
}
