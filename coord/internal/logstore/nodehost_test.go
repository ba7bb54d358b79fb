package logstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/raftio"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"go.uber.org/goleak"

	"github.com/coord-dev/coord/coord/coordtest/loopback"
)

// patience bounds waits for what should take a second at most.
const patience = 60 * time.Second

// disk is the durable state of a member's state machine: which commands were
// applied. It is durable at once, so what it holds is always ahead of the commit
// index that the log knows after a crash.
type disk struct {
	mu    sync.Mutex
	index uint64
	ids   map[uint64]bool
	// twice is true after an entry was applied again.
	twice bool
}

func newDisk() *disk { return &disk{ids: map[uint64]bool{}} }

func (d *disk) clone() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &disk{index: d.index, ids: maps.Clone(d.ids), twice: d.twice}
}

// machine is the state machine on a disk.
type machine struct{ *disk }

var _ sm.IOnDiskStateMachine = machine{}

func (m machine) Open(<-chan struct{}) (uint64, error) { return m.index, nil }

func (m machine) Update(entries []sm.Entry) ([]sm.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.twice = m.twice || e.Index <= m.index
		m.index = e.Index
		m.ids[binary.BigEndian.Uint64(e.Cmd)] = true
	}
	return entries, nil
}

func (m machine) Lookup(any) (any, error)       { return len(m.clone().ids), nil }
func (m machine) Sync() error                   { return nil }
func (m machine) Close() error                  { return nil }
func (m machine) PrepareSnapshot() (any, error) { return m.clone(), nil }

func (m machine) SaveSnapshot(v any, w io.Writer, _ <-chan struct{}) error {
	d := v.(*disk)
	b := binary.BigEndian.AppendUint64(nil, d.index)
	for id := range d.ids {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	_, err := w.Write(b)
	return err
}

func (m machine) RecoverFromSnapshot(r io.Reader, _ <-chan struct{}) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index = binary.BigEndian.Uint64(b)
	m.ids = map[uint64]bool{}
	for b = b[8:]; len(b) > 0; b = b[8:] {
		m.ids[binary.BigEndian.Uint64(b)] = true
	}
	return nil
}

// member is a NodeHost with one replica of shard 1.
type member struct {
	id   uint64
	dir  string
	disk *disk
	host *dragonboat.NodeHost
}

// cluster is some members in this process.
type cluster struct {
	t       testing.TB
	addrs   map[uint64]string
	members []*member
	// fs holds all logs, so that all crash in the same moment.
	fs *vfs.MemFS
	// snapshots is after how many entries a snapshot is made; 0 is never.
	snapshots uint64
	// factory makes the stores of the logs; nil makes Dragonboat's own.
	factory func(*cluster) config.LogDBFactory
}

func newCluster(t testing.TB, size int, snapshots uint64, factory func(*cluster) config.LogDBFactory) *cluster {
	for _, pkg := range []string{"raft", "rsm", "transport", "grpc", "dragonboat", "logdb", "config", "raftpb", "utils",
		"server", "tan", "settings", "registry"} {
		logger.GetLogger(pkg).SetLevel(logger.CRITICAL)
	}
	c := &cluster{t: t, addrs: map[uint64]string{}, fs: vfs.NewCrashableMem(), snapshots: snapshots, factory: factory}
	for id := range uint64(size) {
		c.addrs[id+1] = freeAddr(t)
		c.members = append(c.members, &member{id: id + 1, dir: t.TempDir(), disk: newDisk()})
	}
	c.start()
	t.Cleanup(c.stop)
	return c
}

func inMemory(c *cluster) config.LogDBFactory { return Factory{FS: c.fs} }

func freeAddr(t testing.TB) string {
	addrs, err := loopback.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

func (c *cluster) start() {
	for _, m := range c.members {
		cfg := config.NodeHostConfig{NodeHostDir: m.dir, RaftAddress: c.addrs[m.id], RTTMillisecond: 10}
		if cfg.Expert.LogDB = config.GetTinyMemLogDBConfig(); c.factory != nil {
			cfg.Expert.LogDBFactory = c.factory(c)
		}
		cfg.Expert.Engine = config.EngineConfig{
			ExecShards: 2, CommitShards: 1, ApplyShards: 2, SnapshotShards: 2, CloseShards: 1,
		}
		host, err := dragonboat.NewNodeHost(cfg)
		if err != nil {
			c.t.Fatal(err)
		}
		m.host = host
		initial := map[uint64]dragonboat.Target{}
		if !host.HasNodeInfo(1, m.id) {
			initial = c.addrs
		}
		create := func(_, _ uint64) sm.IOnDiskStateMachine { return machine{m.disk} }
		err = host.StartOnDiskReplica(initial, false, create, config.Config{
			ReplicaID: m.id, ShardID: 1, ElectionRTT: 20, HeartbeatRTT: 4, CheckQuorum: true, PreVote: true,
			SnapshotEntries: c.snapshots, CompactionOverhead: 5,
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) stop() {
	for _, m := range c.members {
		if m.host != nil {
			m.host.Close()
			m.host = nil
		}
	}
}

// leader returns the member that leads.
func (c *cluster) leader() *member {
	c.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, m := range c.members {
			if id, _, ok, err := m.host.GetLeaderID(1); err == nil && ok && id == m.id {
				return m
			}
		}
	}
	c.t.Fatal("no leader")
	return nil
}

// propose proposes a command until it is accepted, and says whether it was.
func (m *member) propose(ctx context.Context, cmd []byte) bool {
	session := m.host.GetNoOPSession(1)
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, patience/6)
		_, err := m.host.SyncPropose(try, session, cmd)
		cancel()
		if err == nil {
			return true
		}
		if errors.Is(err, dragonboat.ErrClosed) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

func command(id uint64, size int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, id), make([]byte, size-8)...)
}

// check waits until all members hold all the acknowledged commands, and nothing
// different.
func (c *cluster) check(acked map[uint64]bool) {
	c.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = c.equal(acked); err == nil {
			return
		}
	}
	c.t.Fatal(err)
}

func (c *cluster) equal(acked map[uint64]bool) error {
	first := c.members[0].disk.clone()
	for _, m := range c.members {
		d := m.disk.clone()
		if d.twice {
			c.t.Fatalf("member %d applied an entry twice", m.id)
		}
		if !maps.Equal(d.ids, first.ids) {
			return fmt.Errorf("member %d applied %d commands, member 1 %d", m.id, len(d.ids), len(first.ids))
		}
		for id := range acked {
			if !d.ids[id] {
				return fmt.Errorf("member %d lost command %d", m.id, id)
			}
		}
	}
	return nil
}

// crash kills all members at once: only what was synced stays of the logs, and
// all that was applied stays of the state machines.
func (c *cluster) crash() { c.crashUnder(func() {}) }

// crashUnder is crash under a load that stop ends.
func (c *cluster) crashUnder(stop func()) {
	var disks []*disk // what is applied now is in enough of the logs a moment later
	for _, m := range c.members {
		disks = append(disks, m.disk.clone())
	}
	fs := c.fs.CrashClone(vfs.CrashCloneCfg{})
	stop()
	c.stop()
	for i, m := range c.members {
		m.disk = disks[i]
	}
	c.fs = fs
	c.start()
}

// stored returns the commit index in a member's log after a crash now, and the
// end of that log.
func (c *cluster) stored(t *testing.T, m *member) (commit, last uint64) {
	s := openStore(t, c.fs.CrashClone(vfs.CrashCloneCfg{}), m.logDir(t))
	defer s.Close()
	stored, err := s.tail(raftio.GetNodeInfo(1, m.id))
	if err != nil {
		t.Fatal(err)
	}
	return stored.state.Commit, stored.last
}

func (m *member) logDir(t *testing.T) string {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(m.dir, hostname, fmt.Sprintf("%020d", 1))
}

// Members that lose all that was not synced, while their state machines lose
// nothing, come up, lose no acknowledged command and apply none twice.
func TestCrashedNodeHosts(t *testing.T) {
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			c := newCluster(t, size, 0, inMemory)
			defer c.stop()
			acked := map[uint64]bool{}
			var next uint64
			for range 5 {
				var mu sync.Mutex
				var wg sync.WaitGroup
				ctx, cancel := context.WithCancel(t.Context())
				leader := c.leader()
				for range 8 { // clients that are at work when the crash comes
					wg.Go(func() {
						for ctx.Err() == nil {
							mu.Lock()
							next++
							id := next
							mu.Unlock()
							if leader.propose(ctx, command(id, 300)) {
								mu.Lock()
								acked[id] = true
								mu.Unlock()
							}
						}
					})
				}
				time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond) // the crash comes at any point
				mu.Lock()
				before := maps.Clone(acked)
				mu.Unlock()
				c.crashUnder(func() { cancel(); wg.Wait() })
				acked = before
				c.leader()
				c.check(acked)
			}
			if len(acked) < 20 {
				t.Errorf("only %d commands were acknowledged", len(acked))
			}
		})
	}
}

// Members come up with a commit index below what their state machines applied,
// and with a log that was compacted.
func TestCommitIndexIsLost(t *testing.T) {
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c := newCluster(t, size, 20, inMemory)
			acked := map[uint64]bool{}
			lost := false
			for round := range uint64(4) {
				leader := c.leader()
				for i := range uint64(33) {
					if i == 25 {
						time.Sleep(300 * time.Millisecond) // until a snapshot, which syncs, has ended
					}
					id := 1 + round*100 + i
					if !leader.propose(t.Context(), command(id, 300)) {
						t.Fatal("proposal failed")
					}
					acked[id] = true
				}
				c.check(acked)
				for _, m := range c.members {
					commit, last := c.stored(t, m)
					if commit < m.disk.clone().index {
						lost = true
					}
					if last < m.disk.clone().index {
						t.Errorf("member %d applied %d, its log ends at %d", m.id, m.disk.clone().index, last)
					}
				}
				c.crash()
				c.leader()
				c.check(acked)
			}
			if size > 1 && !lost {
				t.Error("no commit index was lost: nothing was tested")
			}
		})
	}
}
