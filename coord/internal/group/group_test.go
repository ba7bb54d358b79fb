package group

import (
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

// TestGroupsOfOneHost: groups on one host take their own entries, and one goes on while another is closed and opened
// again.
func TestGroupsOfOneHost(t *testing.T) {
	c := newCluster(t, 1, neverFatal(t))
	m := c.leader()
	m.mustPut(name("first", 0))
	second := &member{t: t, id: 1, dir: t.TempDir(), acks: newAcks()}
	open := func() *Group {
		second.machine = &logMachine{
			dir: filepath.Join(second.dir, "sm"), fs: vfs.Default, onApply: second.acks.applied,
		}
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
		if again := New(testShard+1, 1).Start(testContext(t), m.node.on, Config{
			Machine: &logMachine{}, Initial: map[uint64]string{1: "x"},
		}); again == nil {
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

// second starts another group on the hosts of a cluster, and returns it as a cluster of its own, whose members are not
// to be stopped by themselves.
func (c *cluster) second(shard uint64, edit func(*Config)) *cluster {
	c.t.Helper()
	other := &cluster{t: c.t, members: map[uint64]*member{}, addrs: c.addrs}
	for id, m := range c.members {
		other.members[id] = &member{t: c.t, id: id, dir: c.t.TempDir(), addr: m.addr, acks: newAcks()}
		other.open(m, shard, edit)
	}
	return other
}

// open starts a member's replica of another group on its host.
func (c *cluster) open(on *member, shard uint64, edit func(*Config)) {
	c.t.Helper()
	m := c.members[on.id]
	m.machine = &logMachine{dir: filepath.Join(m.dir, "sm"), fs: vfs.Default, onApply: m.acks.applied}
	cfg := Config{Machine: m.machine, Initial: c.addrs, Logger: testLogger(c.t)}
	if edit != nil {
		edit(&cfg)
	}
	g := New(shard, m.id)
	if err := g.Start(testContext(c.t), on.node.on, cfg); err != nil {
		c.t.Fatal(err)
	}
	m.node = &node{g, on.node.on}
}

// TestGroupsOfThreeHosts: two groups on three hosts have leaders and logs of their own. Where a host is gone both go
// on, and when it is back a group that has let go of its log sends it a snapshot while the other takes entries.
func TestGroupsOfThreeHosts(t *testing.T) {
	const shard = testShard + 1
	snapshots := func(cfg *Config) { cfg.SnapshotEntries, cfg.KeepEntries, cfg.LagTime = 100, 10, 100*time.Millisecond }
	// A busy machine does not depose a leader.
	first := newCluster(t, 3, func(cfg *memberConfig) { neverFatal(t)(cfg); cfg.ElectionTimeout = 3 * time.Second })
	second := first.second(shard, snapshots)
	for i := range 20 {
		for _, c := range []*cluster{first, second} {
			c.leader()
			c.members[uint64(i%3+1)].mustPut(name("both", i))
		}
	}
	checkEntries(t, first.equal(), 20)
	checkEntries(t, second.equal(), 20)

	// Each group is led by another member, and then the second's leader goes.
	a := first.leader()
	b := second.members[a.id%3+1]
	if err := second.leader().node.TransferLeadership(testContext(t), b.id, nil); err != nil {
		t.Fatal(err)
	}
	if first.leader() != a || second.leader() != b {
		t.Errorf("led by %d and %d, want %d and %d", first.leader().id, second.leader().id, a.id, b.id)
	}
	gone := first.members[b.id]
	gone.stop()
	b.node = nil
	led := second.leader()
	first.leader().mustPut(name("alone", 0))
	for i := range 1000 {
		led.mustPut(name("alone", i))
		if s := led.node.Status(); s.FirstIndex > 100 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := led.node.Status(); s.FirstIndex <= 100 {
		t.Fatalf("the log of the second group still begins at %d", s.FirstIndex)
	}

	sent := led.node.compactor.streamed.Load()
	gone.start(first.config(gone))
	second.open(gone, shard, snapshots)
	want := led.machine.Count()
	for i := range 20 {
		first.leader().mustPut(name("beside", i))
	}
	second.eventually("caught up", func() bool { return b.machine.Count() >= want })
	if led.node.compactor.streamed.Load() == sent {
		t.Error("no snapshot was sent")
	}
	checkEntries(t, first.equal(), 41)
	second.leader().mustPut(name("again", 0))
	second.equal()
}
