package node

import (
	"testing"
	"time"
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
	if got := len(c.equal()); got != 100 {
		t.Fatalf("%d entries applied, want 100", got)
	}
	m.stop()
	start = time.Now()
	m.start(c.config(m))
	c.leader()
	t.Logf("leader again after %v", time.Since(start))
	if got := len(c.equal()); got != 100 {
		t.Fatalf("%d entries after a restart, want 100", got)
	}
}

func TestThreeMembers(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.leader()
	for i := range 300 {
		c.members[uint64(i%3+1)].mustPut(name("w", i))
	}
	if got := len(c.equal()); got != 300 {
		t.Fatalf("%d entries applied, want 300", got)
	}
	leader := c.leader()
	for _, s := range leader.node.Transport().Stats() {
		if !s.Connected || s.Sent == 0 || s.Received == 0 || s.SentBytes == 0 || s.ReceivedBytes == 0 {
			t.Errorf("traffic of the leader %d: %+v", leader.id, s)
		}
	}
}
