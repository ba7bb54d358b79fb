package group

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coord-dev/coord/coord/internal/host"
)

// beside opens a group of its own beside the first one of a member that is alone.
func (m *member) beside(shard uint64, dir string, edit func(*logMachine)) (*Group, *logMachine) {
	m.t.Helper()
	sm := &logMachine{dir: filepath.Join(dir, "sm"), fs: vfs.Default}
	if edit != nil {
		edit(sm)
	}
	g := New(shard, m.id)
	cfg := Config{Machine: sm, Initial: map[uint64]string{m.id: m.addr}, Logger: testLogger(m.t)}
	if err := g.Start(testContext(m.t), m.node.on, cfg); err != nil {
		m.t.Fatal(err)
	}
	return g, sm
}

// TestMachinesAreClosedWithTheHost: Dragonboat lets the machines close for five seconds, two at a time, and forgets
// about the rest.
func TestMachinesAreClosedWithTheHost(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for longer than Dragonboat does")
	}
	c := newCluster(t, 1, neverFatal(t))
	m := c.leader()
	var groups []*Group
	var machines []*logMachine
	for i := range uint64(5) {
		g, sm := m.beside(testShard+1+i, t.TempDir(), func(sm *logMachine) {
			sm.beforeClose = func() { time.Sleep(5500 * time.Millisecond) }
		})
		groups, machines = append(groups, g), append(machines, sm)
	}
	if err := m.node.on.Close(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, g := range groups {
		wg.Go(func() { _ = g.Close() })
	}
	wg.Wait()
	for i, sm := range machines {
		if !sm.isClosed() {
			t.Errorf("the machine of shard %d is open still", testShard+1+i)
		}
	}
}

// TestCloseOfARemovedReplica: who is removed from one group is a member in the others still. Dragonboat stops the
// replica by itself; its machine is closed all the same when Close returns.
func TestCloseOfARemovedReplica(t *testing.T) {
	c := newCluster(t, 2, neverFatal(t))
	c.leader()
	var wg sync.WaitGroup
	groups, machines := map[uint64]*Group{}, map[uint64]*logMachine{}
	var mu sync.Mutex
	for id, m := range c.members {
		wg.Go(func() {
			sm := &logMachine{dir: filepath.Join(t.TempDir(), "sm"), fs: vfs.Default}
			sm.beforeClose = func() { time.Sleep(300 * time.Millisecond) }
			g := New(testShard+1, id)
			cfg := Config{Machine: sm, Initial: c.addrs, Logger: testLogger(t)}
			if err := g.Start(testContext(t), m.node.on, cfg); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			groups[id], machines[id] = g, sm
		})
	}
	wg.Wait()
	if err := groups[1].Remove(testContext(t), 2, nil); err != nil {
		t.Fatal(err)
	}
	c.members[2].mustPut(name("a member still", 0))
	c.eventually("end of the removed replica", groups[2].removed)
	c.eventually("end of the replica in Dragonboat", func() bool { _, ok := groups[2].shardInfo(); return !ok })
	if node := c.members[2].node; node.removed() || node.Book().Removed(1) || c.members[1].node.Book().Removed(2) {
		t.Error("a member was removed from the cluster")
	}
	for id, g := range groups {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if !machines[id].isClosed() {
			t.Errorf("the machine of member %d is open behind Close", id)
		}
	}
}

// TestCloseUnderWay: a group is closed and opened again while all that may be asked of it is under way, by this
// process, by peers, and over HTTP.
func TestCloseUnderWay(t *testing.T) {
	c := newCluster(t, 2, neverFatal(t))
	c.leader()
	const shard = testShard + 1
	dirs := map[uint64]string{1: t.TempDir(), 2: t.TempDir()}
	open := func(id uint64) *Group {
		m := c.members[id]
		g := New(shard, id)
		cfg := Config{
			Machine: &logMachine{dir: filepath.Join(dirs[id], "sm"), fs: vfs.Default}, Initial: c.addrs,
			SnapshotEntries: 20, KeepEntries: 5, Logger: testLogger(t),
			Events: Events{Leader: func(_, _ uint64) { _ = g.Status() }},
		}
		if err := g.Start(testContext(t), m.node.on, cfg); err != nil {
			t.Fatalf("member %d: %v", id, err)
		}
		return g
	}
	stay := open(2)
	defer stay.Close()
	for range 12 {
		g := open(1)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		until := func(f func()) {
			wg.Go(func() {
				for ctx.Err() == nil {
					f()
				}
			})
		}
		entry := make([]byte, 1000)
		until(func() { _ = g.Propose(entry); time.Sleep(100 * time.Microsecond) })
		until(func() { _ = stay.Propose(entry); time.Sleep(100 * time.Microsecond) })
		for range 2 {
			until(func() {
				ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
				_ = g.ReadIndex(ctx)
			})
		}
		until(func() {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			_, _ = g.Membership(ctx)
		})
		until(func() {
			peer := c.members[2].node.on
			_, _ = peer.CallPeer(ctx, http.MethodGet, 1, host.GroupPath(shard, askProgress))
			_, _ = peer.CallPeer(ctx, http.MethodPost, 1, host.GroupPath(shard, askBarrier+"?timeout_ms=5"))
			_, _ = peer.CallPeer(ctx, http.MethodGet, 1, host.GroupPath(shard, askLeader+"?leader=2"))
		})
		until(func() {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, "", "BREW"} {
				for _, what := range []string{askProgress, askBarrier, askLeader, "x", ""} {
					r := httptest.NewRequest(method, "/", nil)
					g.ServePeer(httptest.NewRecorder(), r, what)
				}
			}
			time.Sleep(time.Millisecond)
		})
		until(func() { g.Voters(); g.Status(); g.Leader(); g.MemberGone(2); time.Sleep(time.Millisecond) })
		until(func() { _ = g.HandOver(ctx, nil); time.Sleep(time.Millisecond) })
		time.Sleep(300 * time.Millisecond)
		for range 2 {
			wg.Go(func() { _ = g.Close() })
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
		if err := g.ReadIndex(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("ReadIndex of a closed group: %v", err)
		}
	}
}
