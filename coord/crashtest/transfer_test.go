package crashtest

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// transferAttempt is longer than a member takes to give up on a write: what fails is what the servers refused.
const transferAttempt = 20 * time.Second

// TestTransfersFailNoWrite moves leadership ten times under 64 writers that know all members, and then stops the leader
// as an operator does.
func TestTransfersFailNoWrite(t *testing.T) {
	c := startCluster(t, 3)
	w := startWriters(t, c, 64, transferAttempt)
	var moved gaps
	for range 10 {
		w.begin()
		c.moveLeader(t)
		w.calm(electionTimeout)
		moved = append(moved, w.gap())
		w.noneFailed("a transfer of leadership")
	}
	moved.report(t, "transfer of leadership")
	var stopped gaps
	for range rounds(t) {
		leader := c.leader()
		w.begin()
		leader.terminate(t)
		w.calm(electionTimeout)
		c.start()
		w.calm(electionTimeout)
		stopped = append(stopped, w.gap())
		w.noneFailed("SIGTERM of the leader")
	}
	stopped.report(t, "SIGTERM of the leader")
	w.check(c.dial())
	c.checkEqual()
}

// moveLeader makes a follower lead.
func (c *cluster) moveLeader(t *testing.T) {
	t.Helper()
	leader := c.leader()
	cli := dial(t, leader.client)
	defer cli.Close()
	to, term := c.next(leader), c.term()
	_, err := cli.MoveLeader(within(t, patience), idOf(t, cli, to.name))
	if errors.Is(err, rpctypes.ErrNotLeader) && c.term() > term { // there was an election meanwhile
		c.moveLeader(t)
		return
	}
	if err != nil {
		t.Fatalf("move leadership from %s to %s: %v", leader.name, to.name, err)
	}
	if now := c.leader(); now != to && c.term() == term+1 { // nobody was elected since
		t.Errorf("%s leads after leadership was moved to %s", now.name, to.name)
	}
}

// next is the member after m.
func (c *cluster) next(m *member) *member {
	for i, each := range c.members {
		if each == m {
			return c.members[(i+1)%len(c.members)]
		}
	}
	c.t.Fatalf("%s is not of this cluster", m.name)
	return nil
}

// noneFailed sees that no write failed since the last begin.
func (w *writers) noneFailed(what string) {
	w.t.Helper()
	if n, err := w.failures(); n > 0 {
		w.t.Errorf("%s: %d writes failed, the first with %v", what, n, err)
	}
}
