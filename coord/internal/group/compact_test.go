package group

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/statemachine"
	"go.uber.org/zap"
)

// often makes snapshots and cuts of the log frequent.
func often(cfg *memberConfig) {
	cfg.SnapshotEntries, cfg.KeepEntries = 200, 50
	cfg.LagTime = time.Second
}

// steady is often, with a leader that stays: each leader may send a snapshot of its own.
func steady(cfg *memberConfig) {
	often(cfg)
	cfg.ElectionTimeout = 3 * time.Second
}

// A follower that was down while the log was cut past it gets one snapshot, while
// writes go on and however long it takes to load it: the log is kept for it.
func TestFollowerRebuiltBySnapshot(t *testing.T) {
	c := newCluster(t, 3, steady)
	leader := c.leader()
	slow, other := c.members[leader.id%3+1], c.members[(leader.id+1)%3+1]
	slow.mustPut(name("first", 0))
	slow.stop()
	c.fillUntilCut(leader, 600)
	stop := c.load(testContext(t), 4, map[uint64]*gate{})
	before := leader.node.compactor.streamed.Load()
	gone := make(chan struct{})
	slow.beforeRecover = func(<-chan struct{}) error { <-gone; return nil }
	slow.start(c.config(slow))
	c.eventually("snapshot sent", func() bool { return leader.node.compactor.streamed.Load() > before })
	c.snapshots(leader, 3)
	start := time.Now()
	close(gone)
	target := leader.machine.Count()
	c.eventually("follower caught up", func() bool { return slow.machine.Count() >= target })
	t.Logf("caught up in %v after it had loaded the snapshot", time.Since(start))
	c.snapshots(leader, 2)
	if got := leader.node.compactor.streamed.Load() - before; got != 1 {
		t.Errorf("%d snapshots were sent, want 1", got)
	}
	if first := leader.node.Status().FirstIndex; first <= 1200 {
		t.Errorf("log still starts at %d after the follower caught up", first)
	}
	stop()
	c.equal()
	if other.node.Status().Snapshot == 0 {
		t.Error("the other follower took no snapshot")
	}
}

// A snapshot may be on its way for longer than raft waits after its last byte was
// written; it is sent once all the same.
func TestSnapshotThatArrivesLate(t *testing.T) {
	c := newCluster(t, 3, steady)
	leader := c.leader()
	slow := c.members[leader.id%3+1]
	slow.stop()
	c.fillUntilCut(leader, 600)
	stop := c.load(testContext(t), 4, map[uint64]*gate{})
	slow.edit = func(cfg *memberConfig) {
		steady(cfg)
		l, err := net.Listen("tcp", slow.addr)
		if err != nil {
			t.Fatal(err)
		}
		cfg.PeerListeners = []net.Listener{lateListener{l}}
	}
	slow.start(c.config(slow))
	target := leader.machine.Count()
	c.eventually("follower caught up", func() bool { return slow.machine.Count() >= target })
	c.snapshots(leader, 2)
	if got := leader.node.compactor.streamed.Load(); got != 1 {
		t.Errorf("%d snapshots were sent, want 1", got)
	}
	stop()
	c.equal()
}

// lateListener accepts connections on which snapshots arrive late.
type lateListener struct{ net.Listener }

func (l lateListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &lateConn{Conn: c}, err
}

// lateConn delays each read once it knows that the connection is for a snapshot.
type lateConn struct {
	net.Conn
	read int
	late bool
}

func (c *lateConn) Read(p []byte) (int, error) {
	if c.late {
		time.Sleep(400 * time.Millisecond)
	}
	const at, snapshot = 4 + 9, 2 // the purpose follows the magic and the header of the first frame
	n, err := c.Conn.Read(p)
	if c.read <= at && at < c.read+n {
		c.late = p[at-c.read] == snapshot
	}
	c.read += n
	return n, err
}

// fillUntilCut writes at m until its log starts after index.
func (c *cluster) fillUntilCut(m *member, index uint64) {
	c.t.Helper()
	i := 0
	c.eventually("cut of the log", func() bool {
		for range 50 {
			m.mustPut(name("past", i))
			i++
		}
		return m.node.Status().FirstIndex > index
	})
}

// snapshots waits until m took n more snapshots.
func (c *cluster) snapshots(m *member, n int) {
	c.t.Helper()
	for range n {
		last := m.node.Status().Snapshot
		c.eventually("snapshot", func() bool { return m.node.Status().Snapshot > last })
	}
}

// A snapshot that arrived survives a restart of the member it was sent to.
func TestRestartAfterStreamedSnapshot(t *testing.T) {
	c := newCluster(t, 3, often)
	leader := c.leader()
	slow := c.members[leader.id%3+1]
	slow.stop()
	c.fillUntilCut(leader, 600)
	total := leader.machine.Count()
	slow.start(c.config(slow))
	c.eventually("follower caught up", func() bool { return slow.machine.Count() >= total })
	c.eventually("progress shown", func() bool { return slow.node.Status().Applied >= leader.node.Status().Applied })
	slow.stop()
	slow.start(c.config(slow))
	if got := len(c.equal()); got < int(total) {
		t.Errorf("%d entries, want %d", got, total)
	}
}

// A member may stop between the arrival of a snapshot and its use. Its state
// machine is behind the snapshot then, and is brought up to it at the next start.
func TestStopBeforeSnapshotIsLoaded(t *testing.T) {
	c := newCluster(t, 3, func(cfg *memberConfig) { often(cfg); neverFatal(t)(cfg) })
	leader := c.leader()
	slow := c.members[leader.id%3+1]
	slow.stop()
	c.fillUntilCut(leader, 600)
	total := leader.machine.Count()
	arrived := make(chan struct{}, 10)
	slow.beforeRecover = func(stop <-chan struct{}) error {
		arrived <- struct{}{}
		<-stop
		return statemachine.ErrSnapshotStopped
	}
	slow.start(c.config(slow))
	select {
	case <-arrived:
	case <-time.After(patience):
		t.Fatal("no snapshot arrived")
	}
	slow.stop()
	slow.beforeRecover = nil
	slow.start(c.config(slow))
	c.eventually("follower caught up", func() bool { return slow.machine.Count() >= total })
	c.equal()
}

func TestCut(t *testing.T) {
	now := time.Now()
	n := &Group{member: 1, log: zap.NewNop()}
	n.cfg.ensureDefaults()
	n.machine = newMachine(nil, "", nil)
	n.machine.sizes.reset(0)
	s := Status{Self: 1, Applied: 100_000, FirstIndex: 20_001, LastIndex: 100_000, Snapshot: 97_000}
	for _, tc := range []struct {
		name      string
		followers map[uint64]*follower
		bytes     uint64
		want      uint64
	}{
		{"all close", map[uint64]*follower{2: {99_990, now}, 3: {99_000, now}}, 0, 95_000},
		{"one behind", map[uint64]*follower{2: {99_990, now}, 3: {50_000, now}}, 0, 50_000},
		{"one before the log's start", map[uint64]*follower{2: {99_990, now}, 3: {10, now}}, 0, 0},
		{"one never seen", map[uint64]*follower{2: {99_990, now}}, 0, 0},
		{"one gone for long", map[uint64]*follower{2: {99_990, now}, 3: {50_000, now.Add(-time.Hour)}}, 0, 95_000},
		{"one gone for a moment", map[uint64]*follower{
			2: {99_990, now}, 3: {50_000, now.Add(-time.Second)},
		}, 0, 50_000},
		{"one too many bytes behind", map[uint64]*follower{2: {99_990, now}, 3: {50_000, now}}, 2 << 30, 95_000},
	} {
		c := newCompactor(n)
		c.members = Membership{Voters: []uint64{1, 2}, Learners: []uint64{3}}
		c.followers = tc.followers
		n.machine.bytes.Store(tc.bytes)
		if tc.bytes > 0 { // all of them before the follower that is close
			n.machine.sizes.add(99_980, tc.bytes)
		}
		if got := c.cut(s, now); got != tc.want {
			t.Errorf("%s: cut at %d, want %d", tc.name, got, tc.want)
		}
	}
	c := newCompactor(n)
	n.machine.bytes.Store(0)
	c.members = Membership{Voters: []uint64{1}}
	s.Snapshot = 90_000
	if got := c.cut(s, now); got != 90_000 {
		t.Errorf("cut at %d, past the snapshot at %d a member may be getting", got, s.Snapshot)
	}
	c = newCompactor(n)
	if got := c.cut(s, now); got != 0 {
		t.Errorf("without knowing the members: cut at %d", got)
	}
}

func TestSizes(t *testing.T) {
	var s sizes
	s.reset(10)
	for i := uint64(11); i <= 3_000_000; i += 100 {
		s.add(i, i*10)
	}
	if got, exact := s.since(2_900_000, 30_000_000), uint64(1_000_000); got < exact || got > exact+100_000 {
		t.Errorf("%d bytes since 2,900,000, want about %d", got, exact)
	}
	if got := s.since(0, 30_000_000); got == 0 || got > 30_000_000 {
		t.Errorf("%d bytes since the start", got)
	}
}

// A snapshot that was loaded is shrunk to a file without data, from which nothing
// can be restored.
func TestShrunkSnapshotCannotRestore(t *testing.T) {
	c := newCluster(t, 3, func(cfg *memberConfig) { often(cfg); neverFatal(t)(cfg) })
	leader := c.leader()
	slow := c.members[leader.id%3+1]
	slow.stop()
	c.fillUntilCut(leader, 600)
	total := leader.machine.Count()
	// From here on the member takes no snapshot of its own.
	slow.edit = func(cfg *memberConfig) { cfg.SnapshotEntries = 1 << 40; neverFatal(t)(cfg) }
	slow.start(c.config(slow))
	c.eventually("follower caught up", func() bool { return slow.machine.Count() >= total })
	slow.stop()
	replaceDir(t, filepath.Join(slow.dir, "sm"), "")
	slow.refuses(c.config(slow), ErrStateBehindSnapshot, "snapshot at")
}

func TestSnapshotPathAfterHostnameChange(t *testing.T) {
	m := newMachine(nil, "/data/raft/new", nil)
	const file = "00000000000000000001/snapshot-part-1/snapshot-1-2/snapshot-0000000000000424/" +
		"snapshot-0000000000000424.gbsnap"
	if got, want := m.localPath("/elsewhere/raft/old/"+file), "/data/raft/new/"+file; got != want {
		t.Errorf("found at %s, want %s", got, want)
	}
}
