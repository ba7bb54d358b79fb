package peer

import (
	"net"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// A peer that sends proposals faster than raft takes them has them dropped, and may go on when it has.
func TestProposalsThatWaitAreBounded(t *testing.T) {
	taken := 0
	tr := NewFactory(Options{Self: identity(2), Book: NewBook(), Groups: only(Content{})}).
		Create(config.NodeHostConfig{DeploymentID: 1}, func(b pb.MessageBatch) {
			taken += len(b.Requests)
		}, nil).(*Transport)
	defer tr.cancel()
	m := goodMessages()["proposal"]
	m.Entries[0].Cmd = make([]byte, 16<<20)
	m.Entries[0].Cmd[1] = 1
	payload, vote := encodeBatch(m), encodeBatch(goodMessages()["vote"])
	send := func(payload []byte) {
		t.Helper()
		if err := tr.handleBatch(handshake.Hello{Member: 1}, payload, tr.inbound(1)); err != nil {
			t.Fatal(err)
		}
	}
	const room = maxWaiting / (16<<20 + 1<<10)
	for range room + 4 {
		send(payload)
	}
	if taken != room || tr.Overdue() != 4 {
		t.Errorf("%d proposals were taken and %d dropped, want %d and 4", taken, tr.Overdue(), room)
	}
	send(vote)
	if taken != room+1 {
		t.Error("other messages do not pass")
	}
	beat := func() {
		tr.prepare(&pb.MessageBatch{Requests: []pb.Message{{Type: pb.Heartbeat, From: 2, To: 1, Term: 7, ShardID: 1}}})
	}
	tr.prepare(&pb.MessageBatch{Requests: []pb.Message{{Type: pb.Heartbeat, From: 2, To: 1, Term: 7, ShardID: 2}}})
	beat()
	send(payload)
	if taken != room+1 {
		t.Error("a proposal passed while the others may wait still")
	}
	beat()
	send(payload)
	if taken != room+2 {
		t.Error("no proposal passes when raft took the others")
	}
}

// TestProposalsOfOneGroupDoNotStarveAnother: what waits of a group that this member does not lead, or has closed,
// leaves room for those of others once raft has taken it.
func TestProposalsOfOneGroupDoNotStarveAnother(t *testing.T) {
	groups := map[uint64]*Group{1: NewGroup(Content{}), 2: NewGroup(Content{})}
	taken := 0
	group := func(shard uint64) *Group { return groups[shard] }
	take := func(b pb.MessageBatch) { taken += len(b.Requests) }
	tr := NewFactory(Options{Self: identity(2), Book: NewBook(), Groups: group}).
		Create(config.NodeHostConfig{DeploymentID: 1}, take, nil).(*Transport)
	defer tr.cancel()
	send := func(shard uint64) (passed bool) {
		t.Helper()
		m := goodMessages()["proposal"]
		m.ShardID, m.Entries[0].Cmd = shard, make([]byte, 16<<20)
		m.Entries[0].Cmd[1] = 1
		before := taken
		if err := tr.handleBatch(handshake.Hello{Member: 1}, encodeBatch(m), tr.inbound(1)); err != nil {
			t.Fatal(err)
		}
		return taken > before
	}
	fill := func(shard uint64) {
		t.Helper()
		for send(shard) {
		}
		if send(3 - shard) {
			t.Error("the bound is not one of all groups")
		}
	}
	sends := func(typ pb.MessageType, to uint64) {
		for range 2 {
			tr.prepare(&pb.MessageBatch{Requests: []pb.Message{{Type: typ, From: 2, To: to, Term: 7, ShardID: 2}}})
		}
	}
	for what, passes := range map[string]func(){
		"a follower, of another leader": func() { sends(pb.HeartbeatResp, 3) },
		"who looks for a leader":        func() { sends(pb.RequestPreVote, 1) },
		"a leader":                      func() { sends(pb.Heartbeat, 1) },
		"closed and opened again":       func() { groups[2] = NewGroup(Content{}) },
		"closed":                        func() { delete(groups, 2) },
	} {
		groups[2] = NewGroup(Content{})
		fill(2)
		passes()
		if !send(1) {
			t.Errorf("%s: nothing passes of another group", what)
		}
		groups[1] = NewGroup(Content{}) // nothing of it waits
		send(1)
	}
}

// Nothing is kept of an id that somebody made up once its connection has ended.
func TestMadeUpIDsAreForgotten(t *testing.T) {
	a := newEnd(t, 1, listen(t, "127.0.0.1:0"), nil)
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	for id := range uint64(1000) {
		in, release := b.hear(1000 + id)
		again, other := b.hear(1000 + id)
		if in != again {
			t.Fatal("two connections of one peer count apart")
		}
		release()
		other()
	}
	b.knows(a)
	_, release := b.hear(1)
	release()
	b.Transport.mu.Lock()
	defer b.Transport.mu.Unlock()
	if n := len(b.Transport.mu.inbound); n > 1 || b.Transport.mu.inbound[1] == nil {
		t.Errorf("the counters of %d peers are kept", n)
	}
}

// The oldest connections beyond the bound are closed however long those that were closed before take to leave.
func TestExcessConnectionsAreClosed(t *testing.T) {
	b := newEnd(t, 2, listen(t, "127.0.0.1:0"), nil)
	in, release := b.hear(1)
	defer release()
	var far []net.Conn
	for range 3 * maxConns {
		here, there := net.Pipe()
		far = append(far, there)
		defer there.Close()
		defer b.enter(&peerConn{w: &answerer{wire: newWire(here, time.Second)}, in: in})()
	}
	for i, c := range far {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		timeout, open := err.(net.Error)
		open = open && timeout.Timeout()
		if want := i >= 2*maxConns; open != want {
			t.Errorf("connection %d of %d: open %v", i, len(far), open)
		}
	}
}
