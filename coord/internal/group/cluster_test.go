package group

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coord-dev/coord/coord/coordtest/loopback"
	"github.com/coord-dev/coord/coord/internal/handshake"
	"github.com/coord-dev/coord/coord/internal/host"
	"github.com/coord-dev/coord/coord/internal/peer"
)

const (
	testCluster = 0xc1
	testShard   = 1
	// patience is a generous bound for things that must happen.
	patience = 30 * time.Second
)

func contextFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

func testLogger(t testing.TB) *zap.Logger {
	level := zapcore.WarnLevel
	if os.Getenv("COORD_TEST_LOG") != "" {
		level = zapcore.DebugLevel
	}
	enc := zap.NewDevelopmentEncoderConfig()
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(enc), zapcore.Lock(os.Stderr), level)
	return zap.New(core).Named(t.Name())
}

// member is one member of a test cluster, which can be stopped and started again.
type member struct {
	t       testing.TB
	id      uint64
	dir     string
	addr    string
	node    *node
	machine *logMachine
	// acks tells proposers of this member's process what was applied.
	acks *acks
	// edit changes the configuration before each start.
	edit func(*memberConfig)
	// peerRecords and boot are what the member's directory would keep.
	peerRecords *handshake.Memory
	boot        uint64
	// beforeRecover is given to the state machine at each start.
	beforeRecover func(stop <-chan struct{}) error
}

// cluster is some members on loopback addresses.
type cluster struct {
	t       testing.TB
	members map[uint64]*member
	addrs   map[uint64]string
}

// freeAddr returns a loopback address nobody listens on.
func freeAddr(t testing.TB) string {
	addrs, err := loopback.Addrs(1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

func newCluster(t testing.TB, size int, edit func(*memberConfig)) *cluster {
	c := &cluster{t: t, members: map[uint64]*member{}, addrs: map[uint64]string{}}
	for id := uint64(1); id <= uint64(size); id++ {
		c.addrs[id] = freeAddr(t)
	}
	for id := uint64(1); id <= uint64(size); id++ {
		c.add(id, edit)
	}
	for _, m := range c.members {
		m.start(c.config(m))
	}
	t.Cleanup(c.close)
	return c
}

func (c *cluster) add(id uint64, edit func(*memberConfig)) *member {
	if c.addrs[id] == "" {
		c.addrs[id] = freeAddr(c.t)
	}
	m := &member{
		t: c.t, id: id, dir: c.t.TempDir(), addr: c.addrs[id], acks: newAcks(), edit: edit,
		peerRecords: &handshake.Memory{},
	}
	c.members[id] = m
	return m
}

func (c *cluster) config(m *member) memberConfig {
	cfg := memberConfig{hostConfig: hostConfig{
		ClusterID: testCluster, Member: m.id, Incarnation: incarnation(100 + m.id), PeerRecords: m.peerRecords,
		Dir: filepath.Join(m.dir, "raft"), PeerListen: []string{m.addr},
		Peers: map[uint64][]string{}, Logger: testLogger(c.t),
	}}
	cfg.Initial = map[uint64]string{}
	for id, addr := range c.addrs {
		cfg.Initial[id], cfg.Peers[id] = addr, []string{addr}
	}
	return cfg
}

// incarnation is made up of a number.
func incarnation(n uint64) handshake.Incarnation {
	i, err := handshake.ParseIncarnation(fmt.Sprintf("%064x", n))
	if err != nil {
		panic(err)
	}
	return i
}

func (m *member) start(cfg memberConfig) {
	m.t.Helper()
	if err := m.tryStart(cfg); err != nil {
		m.t.Fatalf("start member %d: %v", m.id, err)
	}
}

func (m *member) tryStart(cfg memberConfig) error {
	m.boot++
	cfg.Boot, cfg.Start = m.boot, rand.Uint64()
	m.machine = &logMachine{
		dir: filepath.Join(m.dir, "sm"), fs: vfs.Default, onApply: m.acks.applied, beforeRecover: m.beforeRecover,
	}
	cfg.Machine = m.machine
	if m.edit != nil {
		m.edit(&cfg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	m.node, err = startNode(ctx, cfg)
	return err
}

// memberConfig is that of a member with one group.
type memberConfig struct {
	hostConfig
	groupConfig
}

type (
	hostConfig  = host.Config
	groupConfig = Config
)

// node is a host with one group.
type node struct {
	*Group
	on *host.Host
}

func startNode(ctx context.Context, cfg memberConfig) (*node, error) {
	h, err := host.Start(cfg.hostConfig)
	if err != nil {
		return nil, err
	}
	cfg.groupConfig.Logger = cfg.hostConfig.Logger
	n := &node{New(testShard, cfg.Member), h}
	if err := n.Start(ctx, h, cfg.groupConfig); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return n, nil
}

func (n *node) Book() *peer.Book           { return n.on.Book() }
func (n *node) Transport() *peer.Transport { return n.on.Transport() }

// Close ends all as the process does: the host first.
func (n *node) Close() error { return errors.Join(n.on.Close(), n.Group.Close()) }

func (m *member) stop() {
	if m.node == nil {
		return
	}
	if err := m.node.Close(); err != nil {
		m.t.Errorf("close member %d: %v", m.id, err)
	}
	m.node = nil
}

func (c *cluster) close() {
	for _, m := range c.live() { // members take everything that members send
		for reason, n := range m.node.Transport().Rejected() {
			if n > 0 {
				c.t.Errorf("member %d rejected %d messages of its peers for %s", m.id, n, reason)
			}
		}
	}
	var wg sync.WaitGroup
	for _, m := range c.members {
		wg.Go(m.stop)
	}
	wg.Wait()
}

// live returns the members that run.
func (c *cluster) live() []*member {
	var live []*member
	for id := uint64(1); id <= 64; id++ {
		if m := c.members[id]; m != nil && m.node != nil {
			live = append(live, m)
		}
	}
	return live
}

// leader waits until the running members agree on a leader among them.
func (c *cluster) leader() *member {
	c.t.Helper()
	var leader *member
	c.eventually("a leader", func() bool {
		leader = nil
		for _, m := range c.live() {
			s := m.node.Status()
			l := c.members[s.Leader]
			if l == nil || l.node == nil || leader != nil && leader != l {
				return false
			}
			leader = l
		}
		return leader != nil
	})
	return leader
}

func (c *cluster) eventually(what string, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// equal waits until all running members hold the same entries in the same order,
// and returns them. Entries proposed again may still arrive for a while.
func (c *cluster) equal() []string {
	c.t.Helper()
	ctx := testContext(c.t)
	var first []string
	c.eventually("equal members", func() bool {
		for i, m := range c.live() {
			if err := m.node.ReadIndex(ctx); err != nil {
				c.t.Fatal(err)
			}
			entries, err := m.machine.Entries()
			if err != nil {
				c.t.Fatal(err)
			}
			if i == 0 {
				first = entries
			}
			if n := min(len(first), len(entries)); !slices.Equal(first[:n], entries[:n]) {
				c.t.Fatalf("member %d applied other entries, or in another order", m.id)
			}
			if len(entries) != len(first) {
				return false
			}
		}
		return true
	})
	return first
}

// acks matches proposals with the entries applied.
type acks struct {
	mu      sync.Mutex
	waiting map[string]chan struct{}
	count   map[string]int
}

func newAcks() *acks {
	return &acks{waiting: map[string]chan struct{}{}, count: map[string]int{}}
}

func (a *acks) applied(_ uint64, cmd []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := string(cmd[:min(len(cmd), 24)])
	a.count[key]++
	if c := a.waiting[key]; c != nil {
		close(c)
		delete(a.waiting, key)
	}
}

func (a *acks) wait(key string) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.waiting[key]
	if c == nil {
		c = make(chan struct{})
		a.waiting[key] = c
	}
	return c
}

// name makes an entry's name, 24 bytes.
func name(writer string, i int) string { return fmt.Sprintf("%-12s%012d", writer, i)[:24] }

// put proposes an entry until it is applied here, and returns how often it was
// proposed.
func (m *member) put(ctx context.Context, key string, size int) (int, error) {
	done := m.acks.wait(key)
	entry := append([]byte(key), make([]byte, max(0, size-len(key)))...)
	for tries := 1; ; tries++ {
		_, changed := m.node.events.leaderChange()
		err := m.node.Propose(entry)
		if err != nil && err != ErrBusy {
			return tries, err
		}
		select {
		case <-done:
			return tries, nil
		case <-changed: // proposals may have been lost with the leader
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return tries, ctx.Err()
		}
	}
}

func (m *member) mustPut(key string) {
	m.t.Helper()
	if _, err := m.put(testContext(m.t), key, 100); err != nil {
		m.t.Fatalf("member %d: put %q: %v", m.id, key, err)
	}
}
