package crashtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMemberThatWasDownIsRebuilt keeps a member down until the log it needs is gone. It is rebuilt by one snapshot
// while writes go on, and one that is only slow needs none.
func TestMemberThatWasDownIsRebuilt(t *testing.T) {
	t.Parallel() // the log is kept for an absent member for a minute
	c := startCluster(t, 3, "--snapshot-count=200")
	w := startWriters(t, c, 8, 5*time.Second)
	down := c.follower()
	has := progressOf(t, down).Applied
	down.kill()
	c.waitCompacted(t, has)
	sent := c.snapshotsSent()
	if sent > 0 {
		t.Errorf("%d snapshots were sent before any was needed", sent)
	}
	term := c.term()
	down.start(t)
	c.waitCaughtUp(t, down)
	w.calm(0)
	sent = c.snapshotsSent()
	// A leader sends one. A new one does not know of it, and may send another before it is loaded.
	if changes := int(c.term() - term); sent < 1 || sent > 1+changes {
		t.Errorf("%d snapshots were sent to a member that was down, in %d terms", sent, 1+changes)
	}
	for range rounds(t) {
		down.signal(syscall.SIGSTOP)
		w.calm(3 * time.Second)
		down.signal(syscall.SIGCONT)
		c.waitCaughtUp(t, down)
	}
	if now := c.snapshotsSent(); now != sent {
		t.Errorf("%d more snapshots were sent to a member that was slow", now-sent)
	}
	w.check(c.dial())
	c.checkEqual()
}

// progress is how far a member is with the log, as it tells its peers.
type progress struct {
	Applied uint64 `json:"applied"`
	First   uint64 `json:"first"`
}

func progressOf(t *testing.T, m *member) progress {
	t.Helper()
	var p progress
	resp, err := http.Get(fmt.Sprintf("http://%s/coord/raft/shards/1/progress", m.peer))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatalf("progress of %s: %s: %v", m.name, resp.Status, err)
	}
	return p
}

// waitCompacted waits until no running member has the log's entries after index any more.
func (c *cluster) waitCompacted(t *testing.T, index uint64) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 3*time.Minute; time.Sleep(500 * time.Millisecond) {
		compacted := true
		for _, m := range c.members {
			if m.running() {
				compacted = compacted && progressOf(t, m).First > index+1
			}
		}
		if compacted {
			t.Logf("the log was compacted past entry %d after %v", index, time.Since(begin).Round(time.Second))
			return
		}
	}
	t.Fatalf("the log was not compacted past entry %d", index)
}

// waitCaughtUp waits until a member is as far as another was a moment ago.
func (c *cluster) waitCaughtUp(t *testing.T, m *member) {
	t.Helper()
	begin := time.Now()
	m.waitReady(t)
	for goal := progressOf(t, c.next(m)).Applied; progressOf(t, m).Applied < goal; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("%s did not catch up", m.name)
		}
	}
	t.Logf("%s caught up within %v", m.name, time.Since(begin).Round(time.Millisecond))
}

// term is the latest term that a running member knows of.
func (c *cluster) term() uint64 {
	c.t.Helper()
	cli := c.dial()
	defer cli.Close()
	var term uint64
	for _, m := range c.members {
		if m.running() {
			st, err := cli.Status(within(c.t, patience), m.client)
			if err != nil {
				c.t.Fatal(err)
			}
			term = max(term, st.RaftTerm)
		}
	}
	return term
}

// snapshotsSent is how many snapshots members began to send to others.
func (c *cluster) snapshotsSent() int {
	n := 0
	for _, m := range c.members {
		n += strings.Count(m.output(), `"sending a snapshot"`)
	}
	return n
}
