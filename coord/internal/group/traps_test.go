package group

import (
	"context"
	"crypto/md5"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// neverFatal fails the test when Dragonboat panics.
func neverFatal(t testing.TB) func(*memberConfig) {
	return func(cfg *memberConfig) { cfg.OnFatal = func(msg string) { t.Errorf("raft cannot go on: %s", msg) } }
}

// refuses makes sure that a start fails with want and that nothing panicked.
func (m *member) refuses(cfg memberConfig, want error, text string) {
	m.t.Helper()
	err := m.tryStart(cfg)
	if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		m.t.Errorf("start: %v; want %v, %q", err, want, text)
	}
	if err == nil {
		m.stop()
	}
}

// A state machine that lost what it had reported as durable must not be started:
// Dragonboat would panic, or skip the lost entries in silence.
func TestStateBehindSnapshotIsRefused(t *testing.T) {
	c := newCluster(t, 1, func(cfg *memberConfig) { often(cfg); neverFatal(t)(cfg) })
	m := c.leader()
	m.mustPut(name("first", 0))
	saved := filepath.Join(t.TempDir(), "old")
	m.stop()
	copyDir(t, filepath.Join(m.dir, "sm"), saved)
	m.start(c.config(m))
	c.leader()
	c.fillUntilCut(m, 100)
	m.stop()

	sm := filepath.Join(m.dir, "sm")
	good := filepath.Join(t.TempDir(), "good")
	copyDir(t, sm, good)
	for _, from := range []string{saved, ""} { // an old copy, and nothing at all
		replaceDir(t, sm, from)
		m.refuses(c.config(m), ErrStateBehindSnapshot, "snapshot at")
	}
	replaceDir(t, sm, good)
	m.start(c.config(m))
	c.leader()
	m.mustPut(name("after", 0))
}

func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func replaceDir(t testing.TB, dir, from string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if from != "" {
		copyDir(t, from, dir)
	}
}

// The log was lost and made anew while the state machine was kept.
func TestStateAheadOfLogIsRefused(t *testing.T) {
	c := newCluster(t, 1, neverFatal(t))
	m := c.leader()
	for i := range 20 {
		m.mustPut(name("w", i))
	}
	if err := m.machine.Sync(); err != nil {
		t.Fatal(err)
	}
	m.stop()
	replaceDir(t, filepath.Join(m.dir, "raft"), "")
	m.refuses(c.config(m), ErrStateAheadOfLog, "opened at index")
}

func TestUnknownReplicaIsRefused(t *testing.T) {
	c := newCluster(t, 1, neverFatal(t))
	m := c.leader()
	m.stop()
	replaceDir(t, filepath.Join(m.dir, "raft"), "")
	cfg := c.config(m)
	cfg.Initial = nil
	m.refuses(cfg, nil, "does not know this replica")
}

func TestDirectoryOfAnotherMemberIsRefused(t *testing.T) {
	c := newCluster(t, 1, neverFatal(t))
	m := c.leader()
	m.stop()
	cfg := c.config(m)
	cfg.Member, cfg.Initial = 2, map[uint64]string{2: m.addr}
	m.refuses(cfg, nil, "NodeHostID changed")
}

// flagFile and idFile are Dragonboat's, see package host: a checksum and the data.
const (
	flagFile = "dragonboat.ds"
	idFile   = "NODEHOST.ID"
)

// Dragonboat puts the host's name into its paths; a host may be renamed.
func TestHostnameChange(t *testing.T) {
	c := newCluster(t, 1, neverFatal(t))
	m := c.leader()
	m.mustPut(name("w", 1))
	m.stop()
	dir := filepath.Join(m.dir, "raft")
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	rename := func(moveData bool) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, flagFile))
		if err != nil {
			t.Fatal(err)
		}
		var s raftpb.RaftDataStatus
		if err := s.Unmarshal(data[8:]); err != nil {
			t.Fatal(err)
		}
		s.Hostname = "was-called-so"
		if data, err = s.Marshal(); err != nil {
			t.Fatal(err)
		}
		sum := md5.Sum(data)
		if err := os.WriteFile(filepath.Join(dir, flagFile), append(sum[8:], data...), 0o600); err != nil {
			t.Fatal(err)
		}
		if moveData {
			if err := os.Rename(filepath.Join(dir, hostname), filepath.Join(dir, s.Hostname)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, moveData := range []bool{true, false} { // false: a repair was interrupted
		rename(moveData)
		m.start(c.config(m))
		c.leader()
		m.mustPut(name("again", i))
		checkEntries(t, c.equal(), 2+i)
		m.stop()
	}
	rename(true)
	if err := os.Mkdir(filepath.Join(dir, hostname), 0o700); err != nil {
		t.Fatal(err)
	}
	m.refuses(c.config(m), nil, "both exist")
	replaceDir(t, filepath.Join(dir, hostname), "")
	replaceDir(t, filepath.Join(dir, "was-called-so"), "")
	m.refuses(c.config(m), nil, "is missing")
}

// NewNodeHost answers a damaged flag file with neither a NodeHost nor an error.
func TestDamagedFlagFilesAreRefused(t *testing.T) {
	for _, file := range []string{flagFile, idFile} {
		c := newCluster(t, 1, neverFatal(t))
		m := c.leader()
		m.stop()
		path := filepath.Join(m.dir, "raft", file)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := append([]byte(nil), whole...)
		flipped[len(flipped)-1] ^= 1
		for _, damaged := range [][]byte{nil, whole[:5], whole[:len(whole)-3], flipped} {
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			m.refuses(c.config(m), nil, path+" is damaged")
		}
	}
}

// A callback that blocks must not hold up raft.
func TestBlockingCallbacks(t *testing.T) {
	block := make(chan struct{})
	var called atomic.Int32
	wait := func() { called.Add(1); <-block }
	c := newCluster(t, 3, func(cfg *memberConfig) {
		cfg.Events = Events{Leader: func(_, _ uint64) { wait() }, Membership: wait, Dropped: wait, Removed: wait}
	})
	defer close(block)
	leader := c.leader()
	for i := range 50 {
		leader.mustPut(name("w", i))
	}
	c.equal()
	if called.Load() == 0 {
		t.Error("no callback was called")
	}
	if err := leader.node.TransferLeadership(testContext(t), leader.id%3+1, nil); err != nil {
		t.Errorf("transfer while callbacks block: %v", err)
	}
}

// A proposal that a follower forwards is lost when the leader dies; the caller
// proposes it again.
func TestLostProposalIsProposedAgain(t *testing.T) {
	dropped := make(chan struct{}, 100)
	c := newCluster(t, 3, func(cfg *memberConfig) { cfg.Events.Dropped = func() { signal(dropped) } })
	leader := c.leader()
	writer := c.members[leader.id%3+1]
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c.moveTo(leader, silent.Addr().String()) // as if its host were gone: no quick election
	leader.stop()
	tries, err := writer.put(testContext(t), name("lost", 0), 100)
	if err != nil {
		t.Fatal(err)
	}
	if tries < 2 {
		t.Errorf("%d tries sufficed: nothing was lost", tries)
	}
	// Without a quorum every member comes to know of no leader, and turns down.
	c.members[writer.id%3+1].stop()
	for _, m := range c.live() {
		if m != writer {
			m.stop()
		}
	}
	done := time.After(patience)
	for {
		if err := writer.node.Propose([]byte(name("drop", 0))); err != nil {
			t.Fatal(err)
		}
		select {
		case <-dropped:
			return
		case <-done:
			t.Fatal("no word of a dropped proposal")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Everything may be called beside Close and after it.
func TestCallsBesideClose(t *testing.T) {
	for range 5 {
		c := newCluster(t, 1, neverFatal(t))
		m := c.leader()
		n := m.node
		var wg sync.WaitGroup
		ctx := testContext(t)
		calls := []func() error{
			func() error { return n.Propose([]byte("entry for a node that closes")) },
			func() error { return n.ReadIndex(ctx) },
			func() error { _, err := n.Membership(ctx); return err },
			func() error { n.Status(); return n.ctx.Err() },
			func() error { return n.TransferLeadership(ctx, 1, nil) },
		}
		for _, call := range calls {
			for range 4 {
				wg.Go(func() {
					for {
						if err := call(); err != nil && err != ErrBusy {
							return
						}
					}
				})
			}
		}
		time.Sleep(20 * time.Millisecond)
		m.stop()
		wg.Wait()
		if err := n.Propose([]byte("too late")); err != ErrClosed {
			t.Errorf("Propose after Close: %v", err)
		}
		if err := n.ReadIndex(ctx); err != ErrClosed {
			t.Errorf("ReadIndex after Close: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	}
}

// A member of another cluster, or one that lost its data, is kept out.
func TestStrangersAreRefused(t *testing.T) {
	refusals := make(chan *handshake.RefusedError, 1000)
	c := newCluster(t, 3, func(cfg *memberConfig) {
		cfg.Refused = func(r *handshake.RefusedError) { refusals <- r }
	})
	leader := c.leader()
	wiped := c.members[leader.id%3+1]
	wiped.stop()
	replaceDir(t, wiped.dir, "")
	cfg := c.config(wiped)
	cfg.Incarnation, cfg.PeerRecords = incarnation(999), &handshake.Memory{}
	wiped.start(cfg)
	for {
		select {
		case r := <-refusals:
			if !r.Local && strings.Contains(r.Reason, "but was known as") {
				if wiped.machine.Count() != 0 {
					t.Error("the wiped member was given entries")
				}
				leader.mustPut(name("others go on", 0))
				return
			}
		case <-time.After(patience):
			t.Fatal("the wiped member was not told")
		}
	}
}

func TestStartGivesUp(t *testing.T) {
	c := &cluster{t: t, members: map[uint64]*member{}, addrs: map[uint64]string{}}
	m := c.add(1, neverFatal(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	cfg := c.config(m)
	cfg.Machine = nil
	if _, err := startNode(ctx, cfg); err == nil {
		t.Error("started without a state machine")
	}
	l := m.addr
	busy := c.config(m)
	other := c.add(2, neverFatal(t))
	c.addrs[2] = l
	first := c.config(m)
	first.Initial = map[uint64]string{1: l}
	m.start(first)
	defer m.stop()
	busy.Member, busy.Dir, busy.Initial = 2, filepath.Join(other.dir, "raft"), map[uint64]string{2: l}
	other.refuses(busy, nil, "address already in use")
}
