package crashtest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/coord-dev/coord/coord/internal/handshake"
	"github.com/coord-dev/coord/coord/internal/peer"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// impostor is a test that speaks to members as one of them that does not run.
type impostor struct {
	t  *testing.T
	id uint64
	*peer.Transport
	// term is the cluster's, last an index that all have.
	term, last uint64
}

// impersonate takes the identity of a stopped member from its directory.
func (c *cluster) impersonate(t *testing.T, stopped *member) *impostor {
	t.Helper()
	c.hostile = true
	st, err := c.dial().Status(within(t, patience), c.leader().client)
	if err != nil {
		t.Fatal(err)
	}
	self, known := stopped.identity(t)
	book := peer.NewBook()
	for _, m := range c.members {
		if m != stopped {
			book.Set(c.id(m), []string{m.peer})
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := peer.NewFactory(peer.Options{
		Self: self, PeerRecords: known,
		Listeners: []net.Listener{l}, Book: book,
	}).Create(config.NodeHostConfig{}, func(raftpb.MessageBatch) {},
		func(raftpb.Chunk) bool { return false }).(*peer.Transport)
	if err := tr.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return &impostor{t, self.Member, tr, st.RaftTerm, st.RaftAppliedIndex}
}

// identity reads who a stopped member is from its directory, and whom it knows.
func (m *member) identity(t *testing.T) (handshake.Identity, *handshake.Memory) {
	t.Helper()
	var file struct {
		Meta struct {
			ClusterID, MemberID, Incarnation string
			Boot                             uint64
			Peers                            map[string]struct{ Incarnation string }
		}
	}
	b, err := os.ReadFile(filepath.Join(m.dir, "member", "meta.json"))
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	number := func(hex string) uint64 {
		n, err := strconv.ParseUint(hex, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	incarnation := func(text string) handshake.Incarnation {
		i, err := handshake.ParseIncarnation(text)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	known := &handshake.Memory{}
	for id, each := range file.Meta.Peers {
		if err := known.Record(number(id), incarnation(each.Incarnation)); err != nil {
			t.Fatal(err)
		}
	}
	return handshake.Identity{
		Cluster: number(file.Meta.ClusterID), Member: number(file.Meta.MemberID),
		Incarnation: incarnation(file.Meta.Incarnation),
		Boot:        file.Meta.Boot, Start: 1,
	}, known
}

// id is the id of a member that runs.
func (c *cluster) id(m *member) uint64 {
	c.t.Helper()
	st, err := c.dial().Status(within(c.t, patience), m.client)
	if err != nil {
		c.t.Fatal(err)
	}
	return st.Header.MemberId
}

// rejections reads how often a member rejected messages, by reason.
func rejections(t *testing.T, m *member) map[string]int {
	t.Helper()
	resp, err := http.Get("http://" + m.client + "/metrics")
	if err != nil {
		t.Fatalf("%s: %v; its log ends:\n%s", m.name, err, m.tail(10))
	}
	defer resp.Body.Close()
	counts := make(map[string]int)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), `coord_peer_rejected_messages_total{reason="`)
		reason, value, _ := strings.Cut(rest, `"} `)
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil {
			counts[reason] = int(n)
		}
	}
	return counts
}

// rejected sends until the member rejects it for the reason. What is sent while a connection comes back is lost.
func (p *impostor) rejected(what, reason string, to *member, send func() error) {
	p.t.Helper()
	before := rejections(p.t, to)[reason]
	for begin := time.Now(); ; {
		err := send()
		for range 30 {
			if rejections(p.t, to)[reason] > before {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		if time.Since(begin) > patience {
			p.t.Fatalf("%s was not rejected by %s for %s (%v); its log ends:\n%s", what, to.name, reason, err,
				to.tail(5))
		}
	}
}

func (p *impostor) send(to uint64, m raftpb.Message) error {
	c, err := p.GetConnection(context.Background(), peer.Target(to))
	if err != nil {
		return err
	}
	defer c.Close()
	m.From, m.To = p.id, to
	m.ShardID = max(m.ShardID, 1)
	return c.SendMessageBatch(raftpb.MessageBatch{
		BinVer: raftio.TransportBinVersion, DeploymentId: 1, Requests: []raftpb.Message{m},
	})
}

// entry is one as a member proposes it, edited.
func (p *impostor) entry(edit func(*raftpb.Entry)) raftpb.Entry {
	e := raftpb.Entry{Type: raftpb.EncodedEntry, Key: 5, ClientID: 6, Cmd: p.command(p.id, raftv1.KindPut)}
	edit(&e)
	return e
}

func (p *impostor) command(member uint64, kind raftv1.Kind) []byte {
	return raftv1.AppendEntry([]byte{0}, &raftv1.Entry{
		Member: member, Boot: 1 << 40, Number: 1, Commands: []raftv1.Command{{Kind: kind}},
	})
}

func (p *impostor) call(member uint64, procedure string) []byte {
	body := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), procedure)
	return raftv1.AppendEntry([]byte{0}, &raftv1.Entry{
		Member: member, Boot: 1 << 40, Number: 1, Commands: []raftv1.Command{{Kind: raftv1.KindCall, Body: body}},
	})
}

func change(c raftpb.ConfigChange) func(*raftpb.Entry) {
	return func(e *raftpb.Entry) { e.Type, e.Cmd = raftpb.ConfigChangeEntry, raftpb.MustMarshal(&c) }
}

// poison is what each message would do to a member that took it.
func (p *impostor) poison(other uint64) map[string]struct {
	reason string
	m      raftpb.Message
} {
	type poison = struct {
		reason string
		m      raftpb.Message
	}
	propose := func(reason string, edit func(*raftpb.Entry)) poison {
		return poison{reason, raftpb.Message{Type: raftpb.Propose, Entries: []raftpb.Entry{p.entry(edit)}}}
	}
	lead := func(reason string, edit func(*raftpb.Entry)) poison {
		e := p.entry(func(e *raftpb.Entry) { e.Index, e.Term = p.last+1, p.term })
		edit(&e)
		return poison{reason, raftpb.Message{
			Type: raftpb.Replicate, Term: p.term + 1, LogIndex: p.last, LogTerm: p.term, Entries: []raftpb.Entry{e},
		}}
	}
	plain := func(reason string, typ raftpb.MessageType, edit func(*raftpb.Message)) poison {
		m := raftpb.Message{Type: typ, Term: p.term}
		edit(&m)
		return poison{reason, m}
	}
	return map[string]poison{
		"a term of 2^64-1 (nobody can be elected again)": plain("term", raftpb.NoOP, func(m *raftpb.Message) {
			m.Term = math.MaxUint64
		}),
		"a term of 2^61": plain("term", raftpb.RequestVote,
			func(m *raftpb.Message) { m.Term = 1 << 61 }),
		"a term of 2^40": plain("term", raftpb.Heartbeat,
			func(m *raftpb.Message) { m.Term = 1 << 40 }),
		"a read with a term": plain("term", raftpb.ReadIndex, func(m *raftpb.Message) {
			m.Term, m.Hint = p.term+1, 1
		}),
		"a vote of no term": plain("term", raftpb.RequestVote,
			func(m *raftpb.Message) { m.Term = 0 }),
		"an unknown type": plain("type", 99, func(*raftpb.Message) {}),
		"a snapshot in a message": plain("type", raftpb.InstallSnapshot,
			func(m *raftpb.Message) { m.Snapshot.Index = 1 << 40 }),
		"a transfer to nobody (panics)": plain("type", raftpb.LeaderTransfer,
			func(m *raftpb.Message) { m.Term = 0 }),
		"a commit behind the log (panics)": plain("index", raftpb.Heartbeat, func(m *raftpb.Message) {
			m.Term, m.Commit = p.term+1, 1<<40
		}),
		"an index of term 0 (panics)": plain("index", raftpb.Replicate, func(m *raftpb.Message) {
			m.Term, m.LogIndex, m.Commit = p.term+1, 1<<40, 1<<41
		}),
		"an index of 2^63": plain("index", raftpb.ReplicateResp,
			func(m *raftpb.Message) { m.LogIndex = 1 << 63 }),
		"a proposal of kind 99": propose("command", func(e *raftpb.Entry) {
			e.Cmd = p.command(p.id, 99)
		}),
		"a call of an unknown procedure": propose("command", func(e *raftpb.Entry) {
			e.Cmd = p.call(p.id, "acquire.v99")
		}),
		"a proposal of a later version": propose("command",
			func(e *raftpb.Entry) { e.Cmd[1] = 99 }),
		"a proposal that does not parse": propose("command",
			func(e *raftpb.Entry) { e.Cmd = e.Cmd[:4] }),
		"a proposal in another's name (silences it)": propose("command", func(e *raftpb.Entry) {
			e.Cmd = p.command(other, raftv1.KindPut)
		}),
		"a proposal of key 0 (panics)":         propose("entry", func(e *raftpb.Entry) { e.Key = 0 }),
		"a proposal without a client (panics)": propose("entry", func(e *raftpb.Entry) { e.ClientID = 0 }),
		"a proposal of a session":              propose("entry", func(e *raftpb.Entry) { e.SeriesID = 3 }),
		"an unknown encoding (panics)": propose("entry",
			func(e *raftpb.Entry) { e.Cmd[0] = 0xf0 }),
		"a compressed entry (2 TB)": propose("entry", func(e *raftpb.Entry) {
			e.Cmd = []byte{2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 1}
		}),
		"metadata (panics)": propose("entry", func(e *raftpb.Entry) {
			e.Type = raftpb.MetadataEntry
		}),
		"a change that does not parse (panics)": propose("change", func(e *raftpb.Entry) {
			e.Type, e.Cmd = raftpb.ConfigChangeEntry, []byte{0xff}
		}),
		"a change of an unknown kind (panics)": propose("change",
			change(raftpb.ConfigChange{ConfigChangeId: 3, Type: 99, ReplicaID: 8})),
		"a witness": propose("change", change(raftpb.ConfigChange{
			ConfigChangeId: 3, Type: raftpb.AddWitness, ReplicaID: 8, Address: peer.Target(8),
		})),
		"the cluster founded again": propose("change", change(raftpb.ConfigChange{
			Type: raftpb.AddNode, ReplicaID: 8, Address: peer.Target(8), Initialize: true,
		})),
		"a member elsewhere": propose("change", change(raftpb.ConfigChange{
			ConfigChangeId: 3, Type: raftpb.AddNonVoting, ReplicaID: 8, Address: "127.0.0.1:1",
		})),
		"kind 99 in the log": lead("command", func(e *raftpb.Entry) {
			e.Cmd = p.command(p.id, 99)
		}),
		"key 0 in the log (panics)": lead("entry", func(e *raftpb.Entry) { e.Key = 0 }),
		"an entry above its leader's term": lead("term", func(e *raftpb.Entry) {
			e.Term = p.term +
				2
		}),
		"an entry that leaves a gap (panics)": lead("index", func(e *raftpb.Entry) { e.Index++ }),
		"a plain command (panics)": lead("entry", func(e *raftpb.Entry) {
			e.Type, e.ClientID = raftpb.ApplicationEntry, 0
		}),
		"an entry of a term below the log's (panics)": lead("term",
			func(e *raftpb.Entry) { e.Term = p.term - 1 }),
		"two changes under way (whoever leads next panics)": p.twoChanges(),
	}
}

func (p *impostor) twoChanges() struct {
	reason string
	m      raftpb.Message
} {
	m := raftpb.Message{Type: raftpb.Replicate, Term: p.term + 1, LogIndex: p.last, LogTerm: p.term}
	for i := range uint64(2) {
		m.Entries = append(m.Entries, p.entry(func(e *raftpb.Entry) {
			change(raftpb.ConfigChange{
				ConfigChangeId: 3, Type: raftpb.AddNonVoting, ReplicaID: 8 + i, Address: peer.Target(8 + i),
			})(e)
			e.Index, e.Term = p.last+1+i, p.term
		}))
	}
	return struct {
		reason string
		m      raftpb.Message
	}{"change", m}
}

// snapshotPoison is first chunks of snapshots, and what they would do.
func (p *impostor) snapshotPoison(to uint64) map[string]struct {
	reason string
	c      raftpb.Chunk
} {
	type poison = struct {
		reason string
		c      raftpb.Chunk
	}
	chunk := func(reason string, edit func(*raftpb.Chunk)) poison {
		index := p.last + 10
		c := raftpb.Chunk{
			ShardID: 1, ReplicaID: to, From: p.id, Index: index, OnDiskIndex: index, Term: p.term,
			Filepath: fmt.Sprintf("snapshot-%016X.gbsnap", index), DeploymentId: 1, BinVer: raftio.TransportBinVersion,
			Membership: raftpb.Membership{
				ConfigChangeId: 3, Addresses: map[uint64]string{to: peer.Target(to), p.id: peer.Target(p.id)},
			},
			Data: make([]byte, 2048),
		}
		header := raftpb.MustMarshal(&raftpb.SnapshotHeader{Version: 2})
		binary.LittleEndian.PutUint64(c.Data, uint64(len(header)))
		copy(c.Data[8:], header)
		binary.LittleEndian.PutUint64(c.Data[1024:], 4096)
		edit(&c)
		return poison{reason, c}
	}
	last := func(c *raftpb.Chunk) { c.ChunkCount, c.FileChunkCount = raftpb.LastChunkCount, raftpb.LastChunkCount }
	return map[string]poison{
		"another shard (panics)":                 chunk("address", func(c *raftpb.Chunk) { c.ShardID = 9 }),
		"no header (panics)":                     chunk("snapshot", func(c *raftpb.Chunk) { c.Data = c.Data[:100] }),
		"a header that does not decode (panics)": chunk("snapshot", func(c *raftpb.Chunk) { c.Data[8] = 0xff }),
		"a path that leads out (panics)": chunk("snapshot", func(c *raftpb.Chunk) {
			c.Filepath = "../../../x"
		}),
		"a file that is appended to (panics)": chunk("snapshot", func(c *raftpb.Chunk) { c.FileChunkId = 4 }),
		"a chunk from the middle": chunk("snapshot", func(c *raftpb.Chunk) {
			c.ChunkId, c.FileChunkId = 4, 4
		}),
		"a file beside":       chunk("snapshot", func(c *raftpb.Chunk) { c.HasFileInfo = true }),
		"without this member": chunk("change", func(c *raftpb.Chunk) { delete(c.Membership.Addresses, to) }),
		"this member without its vote (panics)": chunk("change", func(c *raftpb.Chunk) {
			delete(c.Membership.Addresses, to)
			c.Membership.NonVotings = map[uint64]string{to: peer.Target(to)}
		}),
		"witnesses": chunk("change", func(c *raftpb.Chunk) {
			c.Membership.Witnesses = map[uint64]string{9: peer.Target(9)}
		}),
		"a term nobody reached": chunk("term", func(c *raftpb.Chunk) { c.Term = 1 << 50 }),
		"an index nobody reached": chunk("index", func(c *raftpb.Chunk) {
			c.Index = 1 << 60
			c.Filepath = fmt.Sprintf("snapshot-%016X.gbsnap", c.Index)
		}),
		"content that is no snapshot (ends it)": chunk("snapshot", last),
		"client sessions": chunk("snapshot", func(c *raftpb.Chunk) {
			c.Data[1032] = 1
			last(c)
		}),
		"more on disk than there is (loses data)": chunk("snapshot", func(c *raftpb.Chunk) {
			c.OnDiskIndex = c.Index + 1
		}),
	}
}

func (p *impostor) sendChunk(to uint64, c raftpb.Chunk) error {
	conn, err := p.GetSnapshotConnection(context.Background(), peer.Target(to))
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.SendChunk(c)
}

// A member that went mad, or somebody who knows all that a member knows, sends each other member what Dragonboat panics
// on, what would be in the log for ever, and what swells. All are rejected, nobody ends, and after a restart of all
// they serve.
func TestHostilePeerMessages(t *testing.T) {
	c := startCluster(t, 3)
	cli := c.dial()
	for i := range 20 {
		if _, err := cli.Put(within(t, patience), fmt.Sprint("k", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	stopped := c.follower()
	stopped.kill()
	p := c.impersonate(t, stopped)
	for _, m := range c.members {
		if m == stopped {
			continue
		}
		id := c.id(m)
		for what, each := range p.poison(p.id ^ 1) {
			p.rejected(what, each.reason, m, func() error { return p.send(id, each.m) })
		}
		for what, each := range p.snapshotPoison(id) {
			p.rejected("a snapshot: "+what, each.reason, m, func() error { return p.sendChunk(id, each.c) })
		}
		if !m.running() {
			t.Fatalf("%s has ended; its log ends:\n%s", m.name, m.tail(10))
		}
	}
	if _, err := cli.Put(within(t, patience), "after", "v"); err != nil {
		t.Fatal(err)
	}
	p.Close()
	stopped.start(t)
	stopped.waitReady(t)
	c.checkEqual()
	killAll(c.members...)
	c.start()
	if _, err := cli.Put(within(t, patience), "after the restart", "v"); err != nil {
		t.Fatal(err)
	}
	c.checkEqual()
}
