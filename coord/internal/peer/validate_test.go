package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// errForeign is what the tests' judge of commands says of one that begins with 'x', or with another member's id.
var errForeign = errors.New("not one of ours")

func testTransport() *Transport {
	ours := func(proposer uint64, cmd []byte) error {
		if cmd[0] == 'x' || proposer != 0 && uint64(cmd[0]) != proposer {
			return errForeign
		}
		return nil
	}
	return &Transport{
		validator: validator{self: 2, deployment: 1},
		opt:       Options{Groups: only(Content{CheckCommand: ours})},
	}
}

// only is Options.Groups of a member that has a replica of shard 1 alone.
func only(c Content) func(shard uint64) *Group {
	g := NewGroup(c)
	return func(shard uint64) *Group {
		if shard != 1 {
			return nil
		}
		return g
	}
}

func goodEntry(index, term uint64) pb.Entry {
	return pb.Entry{
		Type: pb.EncodedEntry, Index: index, Term: term, Key: 7, ClientID: 8, Cmd: []byte{plainHeader, 1, 2},
	}
}

func changeEntry(index uint64, c pb.ConfigChange) pb.Entry {
	return pb.Entry{Type: pb.ConfigChangeEntry, Index: index, Term: 5, Key: 7, Cmd: pb.MustMarshal(&c)}
}

var addLearner = pb.ConfigChange{ConfigChangeId: 3, Type: pb.AddNonVoting, ReplicaID: 9, Address: Target(9)}

func edited[T any](v T, edit func(*T)) T {
	edit(&v)
	return v
}

// goodMessages are what members send to each other, by what they are.
func goodMessages() map[string]pb.Message {
	m := func(typ pb.MessageType, edit func(*pb.Message)) pb.Message {
		m := pb.Message{Type: typ, From: 1, To: 2, ShardID: 1}
		edit(&m)
		return m
	}
	return map[string]pb.Message{
		"entries": m(pb.Replicate, func(m *pb.Message) {
			m.Term, m.LogIndex, m.LogTerm, m.Commit = 5, 100, 4, 99
			m.Entries = []pb.Entry{goodEntry(101, 4), {Type: pb.ApplicationEntry, Index: 102, Term: 5},
				changeEntry(103, addLearner)}
		}),
		"entries from the first on": m(pb.Replicate, func(m *pb.Message) {
			founder := pb.ConfigChange{Type: pb.AddNode, ReplicaID: 1, Address: Target(1), Initialize: true}
			other := pb.ConfigChange{Type: pb.AddNode, ReplicaID: 2, Address: Target(2), Initialize: true}
			m.Term, m.Entries = 5, []pb.Entry{changeEntry(1, founder), changeEntry(2, other)}
		}),
		"no entries":      m(pb.Replicate, func(m *pb.Message) { m.Term, m.LogIndex, m.LogTerm = 5, 100, 5 }),
		"acknowledgement": m(pb.ReplicateResp, func(m *pb.Message) { m.Term, m.LogIndex = 5, 100 }),
		"rejection": m(pb.ReplicateResp, func(m *pb.Message) {
			m.Term, m.LogIndex, m.Hint, m.Reject = 5, 100, 90, true
		}),
		"heartbeat": m(pb.Heartbeat, func(m *pb.Message) {
			m.Term, m.Commit, m.Hint, m.HintHigh = 5, 90, math.MaxUint64, 3
		}),
		"answer to it": m(pb.HeartbeatResp, func(m *pb.Message) { m.Term, m.Hint, m.HintHigh = 5, math.MaxUint64, 3 }),
		"vote":         m(pb.RequestVote, func(m *pb.Message) { m.Term, m.LogIndex, m.LogTerm = 6, 100, 5 }),
		"vote of a transfer": m(pb.RequestVote, func(m *pb.Message) {
			m.Term, m.LogIndex, m.LogTerm, m.Hint = 6, 100, 5, 1
		}),
		"vote given": m(pb.RequestVoteResp, func(m *pb.Message) { m.Term = 6 }),
		"pre-vote": m(pb.RequestPreVote, func(m *pb.Message) {
			m.Term, m.LogIndex, m.LogTerm = 6, 100, 5
		}),
		"pre-vote given":         m(pb.RequestPreVoteResp, func(m *pb.Message) { m.Term = 6 }),
		"pre-vote of a newcomer": m(pb.RequestPreVoteResp, func(m *pb.Message) { m.Reject = true }),
		"proposal":               m(pb.Propose, func(m *pb.Message) { m.Entries = []pb.Entry{goodEntry(0, 0)} }),
		"proposal of a change": m(pb.Propose, func(m *pb.Message) {
			m.Entries = []pb.Entry{edited(changeEntry(0, addLearner), func(e *pb.Entry) { e.Term = 0 })}
		}),
		"read": m(pb.ReadIndex, func(m *pb.Message) { m.Hint, m.HintHigh = 4, 5 }),
		"answer to a read": m(pb.ReadIndexResp, func(m *pb.Message) {
			m.Term, m.LogIndex, m.Hint, m.HintHigh = 5, 90, 4, 5
		}),
		"transfer":       m(pb.LeaderTransfer, func(m *pb.Message) { m.Hint = 1 }),
		"takeover":       m(pb.TimeoutNow, func(m *pb.Message) { m.Term = 5 }),
		"nothing":        m(pb.NoOP, func(m *pb.Message) { m.Term = 5 }),
		"snapshot taken": m(pb.SnapshotReceived, func(*pb.Message) {}),
	}
}

func encodeBatch(messages ...pb.Message) []byte {
	return pb.MustMarshal(&pb.MessageBatch{BinVer: raftio.TransportBinVersion, DeploymentId: 1, Requests: messages})
}

func TestWhatMembersSendPasses(t *testing.T) {
	for what, m := range goodMessages() {
		if _, _, _, err := testTransport().decodeBatch(encodeBatch(m), 1); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// poison is what no member sends: what it is made of, how, and the reason for which it is rejected.
var poison = map[string]struct {
	of, reason string
	edit       func(*pb.Message)
}{
	"type of one process":     {"nothing", ReasonType, func(m *pb.Message) { m.Type = pb.Unreachable }},
	"local tick":              {"nothing", ReasonType, func(m *pb.Message) { m.Type = pb.LocalTick }},
	"snapshot without chunks": {"nothing", ReasonType, func(m *pb.Message) { m.Type = pb.InstallSnapshot }},
	"rate limit":              {"nothing", ReasonType, func(m *pb.Message) { m.Type = pb.RateLimit }},
	"quiesce":                 {"nothing", ReasonType, func(m *pb.Message) { m.Type = pb.Quiesce }},
	"unknown type":            {"nothing", ReasonType, func(m *pb.Message) { m.Type = 99 }},
	"negative type":           {"nothing", ReasonType, func(m *pb.Message) { m.Type = -1 }},
	"another's message":       {"heartbeat", ReasonAddress, func(m *pb.Message) { m.From = 3 }},
	"to another":              {"heartbeat", ReasonAddress, func(m *pb.Message) { m.To = 3 }},
	"to nobody":               {"heartbeat", ReasonAddress, func(m *pb.Message) { m.To = 0 }},
	"entries in a vote":       {"vote", ReasonType, func(m *pb.Message) { m.Entries = []pb.Entry{goodEntry(1, 1)} }},
	"snapshot in a heartbeat": {"heartbeat", ReasonType, func(m *pb.Message) { m.Snapshot.Index = 5 }},
	"members in a heartbeat": {"snapshot taken", ReasonType, func(m *pb.Message) {
		m.Snapshot.Membership.Addresses = map[uint64]string{5: Target(5), 6: Target(6), 7: Target(7)}
	}},
	"heartbeat without term":   {"heartbeat", ReasonTerm, func(m *pb.Message) { m.Term = 0 }},
	"entries without term":     {"no entries", ReasonTerm, func(m *pb.Message) { m.Term, m.LogTerm = 0, 0 }},
	"vote without term":        {"vote", ReasonTerm, func(m *pb.Message) { m.Term, m.LogTerm = 0, 0 }},
	"proposal with a term":     {"proposal", ReasonTerm, func(m *pb.Message) { m.Term = 1000 }},
	"read with a term":         {"read", ReasonTerm, func(m *pb.Message) { m.Term = 1000 }},
	"transfer with a term":     {"transfer", ReasonTerm, func(m *pb.Message) { m.Term = 1000 }},
	"term of 2^64-1":           {"vote", ReasonTerm, func(m *pb.Message) { m.Term = math.MaxUint64 }},
	"term of 2^62+1":           {"nothing", ReasonTerm, func(m *pb.Message) { m.Term = maxIndex + 1 }},
	"log above the term":       {"vote", ReasonTerm, func(m *pb.Message) { m.LogTerm = 7 }},
	"vote for another":         {"vote", ReasonType, func(m *pb.Message) { m.Hint = 3 }},
	"index of 2^64-1":          {"acknowledgement", ReasonIndex, func(m *pb.Message) { m.LogIndex = math.MaxUint64 }},
	"hint of 2^64-1":           {"rejection", ReasonIndex, func(m *pb.Message) { m.Hint = math.MaxUint64 }},
	"commit of 2^64-1":         {"heartbeat", ReasonIndex, func(m *pb.Message) { m.Commit = math.MaxUint64 }},
	"read of 2^63":             {"answer to a read", ReasonIndex, func(m *pb.Message) { m.LogIndex = 1 << 63 }},
	"read without a context":   {"read", ReasonType, func(m *pb.Message) { m.Hint = 0 }},
	"transfer to nobody":       {"transfer", ReasonType, func(m *pb.Message) { m.Hint = 0 }},
	"entries after term 0":     {"no entries", ReasonIndex, func(m *pb.Message) { m.LogTerm = 0 }},
	"entries before the first": {"no entries", ReasonIndex, func(m *pb.Message) { m.LogIndex = 0 }},
	"gap":                      {"entries", ReasonIndex, func(m *pb.Message) { m.Entries[1].Index = 104 }},
	"gap before the first":     {"entries", ReasonIndex, func(m *pb.Message) { m.LogIndex = 99 }},
	"entry without term": {"entries", ReasonTerm, func(m *pb.Message) {
		m.LogIndex, m.LogTerm, m.Entries = 0, 0, []pb.Entry{goodEntry(1, 0)}
	}},
	"falling terms": {"entries", ReasonTerm, func(m *pb.Message) {
		m.Entries[0].Term = 5
		m.Entries[1].Term = 4
	}},
	"terms below the log's":  {"entries", ReasonTerm, func(m *pb.Message) { m.Entries[0].Term = 3 }},
	"entry above the leader": {"entries", ReasonTerm, func(m *pb.Message) { m.Entries[2].Term = 6 }},
	"two changes at once": {"entries", ReasonChange, func(m *pb.Message) {
		m.Entries[1] = changeEntry(102, addLearner)
	}},
	"empty proposal":      {"proposal", ReasonEntry, func(m *pb.Message) { m.Entries = nil }},
	"proposal of nothing": {"proposal", ReasonEntry, func(m *pb.Message) { m.Entries[0] = pb.Entry{} }},
	"entry of type 99":    {"proposal", ReasonEntry, func(m *pb.Message) { m.Entries[0].Type = 99 }},
	"metadata":            {"entries", ReasonEntry, func(m *pb.Message) { m.Entries[0].Type = pb.MetadataEntry }},
	"key 0":               {"proposal", ReasonEntry, func(m *pb.Message) { m.Entries[0].Key = 0 }},
	"no client":           {"proposal", ReasonEntry, func(m *pb.Message) { m.Entries[0].ClientID = 0 }},
	"session":             {"proposal", ReasonEntry, func(m *pb.Message) { m.Entries[0].SeriesID = 1 }},
	"session that begins": {"proposal", ReasonEntry, func(m *pb.Message) {
		m.Entries[0].SeriesID, m.Entries[0].Cmd = math.MaxUint64-1, nil
	}},
	"registered in the log": {"entries", ReasonEntry, func(m *pb.Message) {
		m.Entries[1].ClientID, m.Entries[1].SeriesID = 9, math.MaxUint64-1
	}},
	"plain command": {"entries", ReasonEntry, func(m *pb.Message) { m.Entries[1].Cmd = []byte("plain") }},
	"no command":    {"entries", ReasonEntry, func(m *pb.Message) { m.Entries[0].Cmd = nil }},
	"header alone":  {"entries", ReasonEntry, func(m *pb.Message) { m.Entries[0].Cmd = []byte{plainHeader} }},
	"compressed": {"entries", ReasonEntry, func(m *pb.Message) {
		m.Entries[0].Cmd = []byte{1 << 1, 0xff, 0xff, 0xff, 0xff, 0x7f, 0}
	}},
	"unknown compression": {"proposal", ReasonEntry, func(m *pb.Message) { m.Entries[0].Cmd = []byte{3 << 1, 1, 1} }},
	"unknown encoding":    {"proposal", ReasonEntry, func(m *pb.Message) { m.Entries[0].Cmd = []byte{1 << 4, 1, 1} }},
	"foreign command": {"proposal", ReasonCommand, func(m *pb.Message) {
		m.Entries[0].Cmd = []byte{plainHeader, 'x'}
	}},
	"foreign in the log": {"entries", ReasonCommand, func(m *pb.Message) {
		m.Entries[0].Cmd = []byte{plainHeader, 'x'}
	}},
	"another's proposal": {"proposal", ReasonCommand, func(m *pb.Message) {
		m.Entries[0].Cmd = []byte{plainHeader, 3}
	}},
	"garbled change": {"proposal of a change", ReasonChange, func(m *pb.Message) {
		m.Entries[0].Cmd = []byte{0xff}
	}},
	"empty change":         {"proposal of a change", ReasonChange, func(m *pb.Message) { m.Entries[0].Cmd = nil }},
	"witness":              changed(func(c *pb.ConfigChange) { c.Type = pb.AddWitness }),
	"change of type 99":    changed(func(c *pb.ConfigChange) { c.Type = 99 }),
	"member 0":             changed(func(c *pb.ConfigChange) { c.ReplicaID, c.Address = 0, Target(0) }),
	"member elsewhere":     changed(func(c *pb.ConfigChange) { c.Address = Target(8) }),
	"removal with address": changed(func(c *pb.ConfigChange) { c.Type = pb.RemoveNode }),
	"founding again":       changed(func(c *pb.ConfigChange) { c.Type, c.Initialize = pb.AddNode, true }),
	"change of no version": changed(func(c *pb.ConfigChange) { c.ConfigChangeId = 0 }),
}

func changed(edit func(*pb.ConfigChange)) struct {
	of, reason string
	edit       func(*pb.Message)
} {
	return struct {
		of, reason string
		edit       func(*pb.Message)
	}{"proposal of a change", ReasonChange, func(m *pb.Message) {
		m.Entries[0] = changeEntry(0, edited(addLearner, edit))
	}}
}

func TestPoisonIsRejected(t *testing.T) {
	for what, p := range poison {
		m := goodMessages()[p.of]
		p.edit(&m)
		_, _, _, err := testTransport().decodeBatch(encodeBatch(goodMessages()["nothing"], m), 1)
		var rejected *RejectedError
		if !errors.As(err, &rejected) || rejected.Reason != p.reason {
			t.Errorf("%s: %v, want a rejection for %s", what, err, p.reason)
		}
	}
}

// A batch is not decoded if it would need much more memory than it has bytes.
func TestBatchThatSwells(t *testing.T) {
	empty := []byte{0x0a, 0} // a message of no bytes
	// The same under a number that Dragonboat takes for that of messages, as it looks at its low 32 bits alone.
	disguised := append(binary.AppendUvarint(nil, 1<<32<<3|0x0a), 0)
	for what, b := range map[string][]byte{
		"messages":  bytes.Repeat(empty, maxMessages+1),
		"disguised": bytes.Repeat(disguised, maxMessages+1),
		"entries":   append([]byte{0x0a, 0x80, 0x80, 0x80, 2}, bytes.Repeat([]byte{0x5a, 0}, 2<<20)...),
	} {
		before := testing.AllocsPerRun(1, func() {
			_, _, _, err := testTransport().decodeBatch(b, 1)
			var rejected *RejectedError
			if !errors.As(err, &rejected) || rejected.Reason != ReasonFrame {
				t.Errorf("%s: %v", what, err)
			}
		})
		if before > 100 {
			t.Errorf("%s: %v allocations", what, before)
		}
	}
}

func historyAt(term, last uint64) *history {
	return &history{log: func() (LogState, bool) { return LogState{term, last}, true }}
}

func TestTermGrowsAsElectionsMakeIt(t *testing.T) {
	now := time.Now()
	vote := func(term uint64) *pb.Message { return &pb.Message{Type: pb.RequestVote, From: 1, Term: term} }
	g := historyAt(7, 100)
	refused := func(m *pb.Message, at time.Time) bool { _, err := g.admit(m, at); return err != nil }
	if !refused(vote(8+firstJump), now) {
		t.Error("a term that nobody can have reached passed")
	}
	if refused(vote(1_000_000_000), now) {
		t.Error("a member that was down for long cannot come back")
	}
	if refused(&pb.Message{
		Type: pb.RequestPreVote, From: 1, Term: 1_000_000_001,
	}, now) || refused(vote(1_000_000_000+nextJump), now) {
		t.Error("a burst of elections was refused")
	}
	reached := uint64(1_000_000_000 + nextJump)
	if !refused(vote(reached+1), now) {
		t.Error("the term may grow without end")
	}
	if refused(vote(reached+1000), now.Add(time.Second)) || !refused(vote(reached+3000), now.Add(time.Second)) {
		t.Error("the term may not grow as fast as elections can make it, or faster")
	}
	// Ten thousand years of a message a millisecond.
	for year := range 10_000 {
		now = now.Add(365 * 24 * time.Hour)
		for term := g.mu.term + nextJump; refused(vote(term), now); {
			t.Fatalf("year %d: a term within the bound was refused", year)
		}
	}
	if g.mu.term > maxIndex>>20 {
		t.Errorf("a peer that lies brought the term to %d", g.mu.term)
	}
}

func TestNewcomerTakesTheTerm(t *testing.T) {
	g := historyAt(0, 0)
	if _, err := g.admit(&pb.Message{Type: pb.Heartbeat, From: 1, Term: 1 << 40}, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestOneLeaderATerm(t *testing.T) {
	g, now := historyAt(7, 100), time.Now()
	admit := func(m pb.Message) error { _, err := g.admit(&m, now); return err }
	for _, m := range []pb.Message{
		{Type: pb.Heartbeat, From: 1, Term: 8}, {Type: pb.Heartbeat, From: 1, Term: 8},
		{Type: pb.Replicate, From: 3, Term: 9},
		{Type: pb.Heartbeat, From: 1, Term: 8}, // late
	} {
		if err := admit(m); err != nil {
			t.Errorf("%+v: %v", m, err)
		}
	}
	for _, typ := range []pb.MessageType{pb.Heartbeat, pb.Replicate, pb.TimeoutNow, pb.ReadIndexResp} {
		if admit(pb.Message{Type: typ, From: 1, Term: 9}) == nil {
			t.Errorf("%s of a second leader passed", typ)
		}
	}
	g.sending(&pb.Message{Type: pb.Heartbeat, From: 2, Term: 10})
	if admit(pb.Message{Type: pb.Heartbeat, From: 3, Term: 10}) == nil {
		t.Error("another leads this member's own term")
	}
}

func TestIndexesBeyondTheLog(t *testing.T) {
	g, now := historyAt(7, 100), time.Now()
	for _, c := range []struct {
		m    pb.Message
		fate fate
		ok   bool
	}{
		{pb.Message{Type: pb.Heartbeat, From: 1, Term: 7, Commit: 100}, deliver, true},
		{pb.Message{Type: pb.Heartbeat, From: 1, Term: 7, Commit: 101}, drop, false},
		// of a term before this start
		{pb.Message{Type: pb.ReplicateResp, From: 1, Term: 7, LogIndex: 1 << 40}, drop, true},
	} {
		if fate, err := g.admit(&c.m, now); fate != c.fate || (err == nil) != c.ok {
			t.Errorf("%+v: %v, %v", c.m, fate, err)
		}
	}
	g.sending(&pb.Message{Type: pb.Replicate, From: 2, Term: 8, LogIndex: 100, Entries: make([]pb.Entry, 3)})
	for index, ok := range map[uint64]bool{90: true, 103: true, 104: false, 1 << 61: false} {
		if _, err := g.admit(&pb.Message{
			Type: pb.ReplicateResp, From: 1, Term: 8, LogIndex: index,
		}, now); (err == nil) != ok {
			t.Errorf("acknowledgement of %d: %v", index, err)
		}
	}
}

// What is said of one group is no news of another, and what is for a group that this member has no replica of is
// dropped alone.
func TestGroupsAreJudgedApart(t *testing.T) {
	var taken []pb.Message
	groups := map[uint64]*Group{1: NewGroup(Content{}), 2: NewGroup(Content{})}
	tr := NewFactory(Options{
		Self: identity(2), Book: NewBook(), Groups: func(shard uint64) *Group { return groups[shard] },
	}).
		Create(config.NodeHostConfig{DeploymentID: 1}, func(b pb.MessageBatch) {
			taken = append(taken, b.Requests...)
		}, nil).(*Transport)
	defer tr.cancel()
	from := func(leader, shard uint64) pb.Message {
		return edited(goodMessages()["heartbeat"], func(m *pb.Message) { m.From, m.ShardID = leader, shard })
	}
	send := func(leader uint64, messages ...pb.Message) error {
		return tr.handleBatch(handshake.Hello{Member: leader}, encodeBatch(messages...), tr.inbound(leader))
	}
	if err := send(1, from(1, 77), from(1, 1), from(1, 78)); err != nil || len(taken) != 1 || taken[0].ShardID != 1 ||
		tr.Strays() != 2 {
		t.Errorf("%v, taken: %+v, strays: %d", err, taken, tr.Strays())
	}
	if err := send(3, from(3, 2)); err != nil || len(taken) != 2 {
		t.Errorf("another member leads another group in the same term: %v, taken: %+v", err, taken)
	}
	if err := send(3, from(3, 1)); err == nil || len(taken) != 2 {
		t.Error("two members lead one group in one term")
	}
}

// Nobody sends what another proposed: it could not be told from a forgery.
func TestProposalsArePassedOnByNobody(t *testing.T) {
	tr := testTransport()
	tr.opt.Self.Member = 2
	own := pb.Message{Type: pb.Propose, Entries: []pb.Entry{{Type: pb.EncodedEntry, Cmd: []byte{plainHeader, 2}}}}
	change := pb.Message{Type: pb.Propose, Entries: []pb.Entry{changeEntry(0, addLearner)}}
	batch := pb.MessageBatch{Requests: []pb.Message{own, goodMessages()["proposal"], change, goodMessages()["vote"]}}
	kept := batch.Requests
	tr.prepare(&batch)
	if len(batch.Requests) != 3 || batch.Requests[1].Entries[0].Type != pb.ConfigChangeEntry {
		t.Errorf("sent: %+v", batch.Requests)
	}
	if kept[3].Type != pb.RequestVote {
		t.Error("Dragonboat's own slice was changed")
	}
}

// FuzzMessages feeds the decoders of what the network sends; they must neither panic nor let a message through that
// Dragonboat would panic on.
func FuzzMessages(f *testing.F) {
	for _, m := range goodMessages() {
		f.Add(encodeBatch(m))
	}
	for _, p := range poison {
		m := goodMessages()[p.of]
		p.edit(&m)
		f.Add(encodeBatch(m))
	}
	for i := range uint64(3) {
		c := chunk(i, i == 2)
		c.Data = c.Data[:min(len(c.Data), chunkHeader+64)]
		f.Add(pb.MustMarshal(&c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tr := testTransport()
		v := &tr.validator
		if batch, _, _, err := tr.decodeBatch(b, 1); err == nil {
			for i := range batch.Requests {
				mustBeHarmless(t, &batch.Requests[i])
			}
		}
		var c pb.Chunk
		if unmarshal(&c, b) == nil && v.checkChunk(&c, 1) == nil && (c.From != 1 || c.ReplicaID != 2 ||
			c.Filepath != snapshotName(c.Index)) {
			t.Fatalf("let through %+v", c)
		}
		if checkStreamHeader(c.Data) == nil {
			_, _ = io.Copy(io.Discard, newBlocks(bytes.NewReader(c.Data[chunkHeader:])))
		}
	})
}

// mustBeHarmless checks again, in other words, what Dragonboat relies on.
func mustBeHarmless(t *testing.T, m *pb.Message) {
	bad := m.Type == pb.InstallSnapshot || m.From != 1 || m.To != 2 || m.ShardID != 1 || m.Term > 1<<62 ||
		m.Snapshot.Index != 0 ||
		m.Type == pb.LeaderTransfer && m.Hint == 0
	for i := range m.Entries {
		e := &m.Entries[i]
		var c pb.ConfigChange
		switch e.Type {
		case pb.ApplicationEntry:
			bad = bad || len(e.Cmd) > 0 || e.ClientID != 0
		case pb.EncodedEntry:
			bad = bad || len(e.Cmd) < 2 || e.Cmd[0] != 0 || e.Key == 0 || e.ClientID == 0 || e.SeriesID != 0
		case pb.ConfigChangeEntry:
			bad = bad || c.Unmarshal(e.Cmd) != nil || c.ReplicaID == 0 || c.Type == pb.AddWitness
		default:
			bad = true
		}
	}
	if bad {
		t.Fatalf("let through %+v", m)
	}
}
