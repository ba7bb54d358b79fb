package node

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/statemachine"
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
	c := newCluster(t, 1, func(cfg *Config) { cfg.WALDir = wal })
	m := c.leader()
	m.mustPut(name("w", 0))
	m.stop()
	if _, err := readFlagFile(filepath.Join(wal, flagFile)); err != nil {
		t.Error(err)
	}
	m.start(c.config(m))
	c.leader()
	checkEntries(t, c.equal(), 1)
}

func TestTiming(t *testing.T) {
	for _, tc := range []struct{ heartbeat, election, tick time.Duration }{
		{50 * time.Millisecond, 300 * time.Millisecond, 10 * time.Millisecond},
		{100 * time.Millisecond, time.Second, 20 * time.Millisecond},
		{5 * time.Millisecond, 50 * time.Millisecond, 5 * time.Millisecond},
		{time.Second, 5 * time.Second, 20 * time.Millisecond},
	} {
		cfg := Config{Heartbeat: tc.heartbeat, ElectionTimeout: tc.election}
		got := cfg.timing()
		if got.tick != tc.tick || time.Duration(got.heartbeat)*got.tick != tc.heartbeat || time.Duration(got.election)*got.tick != tc.election {
			t.Errorf("heartbeat %v, election timeout %v: %+v", tc.heartbeat, tc.election, got)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := func() Config {
		return Config{
			Shard: 1, Replica: 2, Dir: "d", PeerListen: []string{"127.0.0.1:0"},
			Machine: func(_, _ uint64) statemachine.IOnDiskStateMachine { return nil },
		}
	}
	for text, edit := range map[string]func(*Config){
		"must not be zero":      func(c *Config) { c.Replica = 0 },
		"no directory":          func(c *Config) { c.Dir = "" },
		"no state machine":      func(c *Config) { c.Machine = nil },
		"no address":            func(c *Config) { c.PeerListen = nil },
		"joining member":        func(c *Config) { c.Join, c.Initial = true, map[uint64]string{2: "x"} },
		"not among the initial": func(c *Config) { c.Initial = map[uint64]string{1: "x"} },
		"more than twice":       func(c *Config) { c.Heartbeat, c.ElectionTimeout = 100*time.Millisecond, 200*time.Millisecond },
		"shorter than":          func(c *Config) { c.Heartbeat = time.Millisecond },
	} {
		cfg := good()
		edit(&cfg)
		cfg.ensureDefaults()
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	cfg := good()
	cfg.ensureDefaults()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}
