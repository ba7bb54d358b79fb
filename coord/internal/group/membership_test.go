package group

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// joinConfig is the configuration of a member that joins.
func (c *cluster) joinConfig(m *member) memberConfig {
	cfg := c.config(m)
	cfg.Initial, cfg.Join = nil, true
	cfg.Peers = c.peers()
	return cfg
}

// restartConfig is the configuration of a member that knows its group.
func (c *cluster) restartConfig(m *member) memberConfig {
	cfg := c.joinConfig(m)
	cfg.Join = false
	return cfg
}

func (c *cluster) peers() map[uint64][]string {
	peers := map[uint64][]string{}
	for id, addr := range c.addrs {
		peers[id] = []string{addr}
	}
	return peers
}

// join adds a member, as a learner, and starts it.
func (c *cluster) join(via *member, id uint64) *member {
	c.t.Helper()
	m := c.add(id, via.edit)
	for _, other := range c.live() {
		other.node.Book().Set(id, []string{m.addr})
	}
	if err := via.node.AddLearner(testContext(c.t), id, nil); err != nil {
		c.t.Fatal(err)
	}
	m.start(c.joinConfig(m))
	c.eventually("learner caught up", func() bool { return m.machine.Count() >= via.machine.Count() })
	return m
}

func (c *cluster) membership(via *member) Membership {
	c.t.Helper()
	m, err := via.node.Membership(testContext(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func TestGrowAndShrink(t *testing.T) {
	c := newCluster(t, 1, neverFatal(t))
	first := c.leader()
	ctx := testContext(t)
	for i := range 50 {
		first.mustPut(name("alone", i))
	}
	second := c.join(first, 2)
	if m := c.membership(first); !slices.Equal(m.Learners, []uint64{2}) || !slices.Equal(m.Voters, []uint64{1}) {
		t.Fatalf("members %+v after a learner was added", m)
	}
	c.eventually("learner status", func() bool { return second.node.Status().Learner })
	second.mustPut(name("through the learner", 0))
	if err := second.node.ReadIndex(ctx); err != nil {
		t.Fatal(err)
	}
	second.stop() // a learner is one again after a restart
	second.start(c.restartConfig(second))
	c.eventually("learner status", func() bool { return second.node.Status().Learner })

	if err := first.node.Promote(ctx, 2, nil); err != nil {
		t.Fatal(err)
	}
	c.eventually("promotion", func() bool { return !second.node.Status().Learner })
	second.stop() // and a voter is a voter
	second.start(c.restartConfig(second))
	third := c.join(first, 3)
	if err := second.node.Promote(ctx, 3, nil); err != nil { // any member can be asked
		t.Fatal(err)
	}
	first.mustPut(name("three", 0))

	c.leader()
	if err := first.node.TransferLeadership(ctx, 2, nil); err != nil {
		t.Fatal(err)
	}
	if err := second.node.Remove(ctx, 2, nil); err != nil { // the leader removes itself
		t.Fatal(err)
	}
	c.eventually("end of the removed member", func() bool { return second.node.Propose([]byte("x")) == ErrClosed })
	if err := second.node.ReadIndex(ctx); err != ErrClosed {
		t.Errorf("ReadIndex at a removed member: %v", err)
	}
	second.stop()
	first.mustPut(name("two", 0))
	if err := first.node.Remove(ctx, 3, nil); err != nil {
		t.Fatal(err)
	}
	third.stop()
	first.mustPut(name("alone again", 0))
	if m := c.membership(first); !slices.Equal(m.Voters, []uint64{1}) || !slices.Equal(m.Removed, []uint64{2, 3}) {
		t.Errorf("members %+v at the end", m)
	}
	first.stop()
	start := time.Now()
	first.start(c.restartConfig(first))
	c.leader()
	t.Logf("the last voter leads %v after its restart", time.Since(start))
	checkEntries(t, c.equal(), 54)
}

// A member learns of its removal, also when it was down at the time.
func TestRemovedMemberIsTold(t *testing.T) {
	removed := make(chan uint64, 10)
	c := newCluster(t, 3, nil)
	leader := c.leader()
	out := c.members[leader.id%3+1]
	out.stop()
	out.edit = func(cfg *memberConfig) { cfg.Events.Removed = func() { removed <- cfg.Member } }
	if err := leader.node.Remove(testContext(t), out.id, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out.start(c.restartConfig(out))
		select {
		case <-removed:
		case <-time.After(patience):
			t.Fatal("a removed member was not told")
		}
		if err := out.node.Propose([]byte("x")); err != ErrClosed {
			t.Errorf("Propose at a removed member: %v", err)
		}
		out.stop()
	}
}

func TestRefusedChanges(t *testing.T) {
	c := newCluster(t, 1, neverFatal(t))
	m := c.leader()
	ctx := testContext(t)
	c.join(m, 2)
	for what, f := range map[string]func() error{
		"adding a learner again":  func() error { return m.node.AddLearner(ctx, 2, nil) },
		"adding a voter":          func() error { return m.node.AddLearner(ctx, 1, nil) },
		"promoting a voter":       func() error { return m.node.Promote(ctx, 1, nil) },
		"promoting a stranger":    func() error { return m.node.Promote(ctx, 9, nil) },
		"removing a stranger":     func() error { return m.node.Remove(ctx, 9, nil) },
		"removing the only voter": func() error { return m.node.Remove(ctx, 1, nil) },
	} {
		if err := f(); !errors.Is(err, ErrRejected) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := m.node.Remove(ctx, 2, nil); err != nil {
		t.Fatal(err)
	}
	if err := m.node.AddLearner(ctx, 2, nil); !errors.Is(err, ErrRejected) {
		t.Errorf("adding a removed id: %v", err)
	}
}

// A change without a quorum must not be reported as done or refused.
func TestChangeWithoutQuorum(t *testing.T) {
	c := newCluster(t, 2, nil)
	m := c.leader()
	other := c.members[m.id%2+1]
	other.stop()
	ctx, cancel := contextFor(time.Second)
	defer cancel()
	err := m.node.AddLearner(ctx, 9, nil)
	if err == nil || errors.Is(err, ErrRejected) {
		t.Fatalf("without a quorum: %v", err)
	}
	if _, err := m.node.Membership(ctx); err == nil {
		t.Error("members read without a quorum")
	}
	if err := m.node.ReadIndex(ctx); err == nil {
		t.Error("linearizable read without a quorum")
	}
}

// A member may come back under another address.
func TestAddressChange(t *testing.T) {
	c := newCluster(t, 3, neverFatal(t))
	leader := c.leader()
	moved := c.members[leader.id%3+1]
	moved.stop()
	leader.mustPut(name("while away", 0))
	moved.addr = freeAddr(t)
	c.addrs[moved.id] = moved.addr
	for _, m := range c.live() {
		m.node.Book().Set(moved.id, []string{moved.addr})
	}
	moved.start(c.restartConfig(moved))
	moved.mustPut(name("from the new address", 0))
	checkEntries(t, c.equal(), 2)
}

// All addresses may change at once: nothing but the book holds them.
func TestAllAddressesChange(t *testing.T) {
	c := newCluster(t, 3, neverFatal(t))
	c.leader().mustPut(name("before", 0))
	c.close()
	for id, m := range c.members {
		m.addr = freeAddr(t)
		c.addrs[id] = m.addr
	}
	for _, m := range c.members {
		m.start(c.restartConfig(m))
	}
	c.leader().mustPut(name("after", 0))
	checkEntries(t, c.equal(), 2)
}

// The ids of removed members are kept for ever, and so bounded; removing goes on.
func TestRemovedMembersAreBounded(t *testing.T) {
	m := Membership{Voters: []uint64{1, 2}}
	for id := range uint64(maxRemoved) {
		m.Removed = append(m.Removed, 100+id)
		if err := checkAdd(m, 3); (err != nil) != (len(m.Removed) == maxRemoved) {
			t.Fatalf("with %d removed: %v", len(m.Removed), err)
		}
	}
	if err := checkAdd(m, 3); !errors.Is(err, ErrNoMoreMembers) {
		t.Error(err)
	}
}

// An id that was excluded is no member's ever after, and a member's cannot be excluded.
func TestExclude(t *testing.T) {
	c := newCluster(t, 1, neverFatal(t))
	m := c.leader()
	ctx := testContext(t)
	for range 2 {
		if err := m.node.Exclude(ctx, 9); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.node.AddLearner(ctx, 9, nil); !errors.Is(err, ErrRejected) || errors.Is(err, ErrUnknown) {
		t.Errorf("an excluded member is added: %v", err)
	}
	if err := m.node.Exclude(ctx, m.id); !errors.Is(err, ErrRejected) {
		t.Errorf("a member is excluded: %v", err)
	}
	m.mustPut(name("after", 0))
}
