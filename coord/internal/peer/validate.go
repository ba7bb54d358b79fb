package peer

import (
	"errors"
	"fmt"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
	"google.golang.org/protobuf/encoding/protowire"

	pbwire "github.com/coord-dev/coord/proto/wire"
)

// What a peer sends is judged here by itself, and in history.go by what is known beside it, before Dragonboat sees it.
// Dragonboat trusts its peers: most of what is refused here makes it panic, or gets into the log and does so on every
// member and again after each restart. A peer that keeps to all of these rules and lies within them (acknowledges what
// it does not have, leads with entries that others did not agree on) is beyond what raft can bear, and beyond this.

// Reasons for which a peer's messages are rejected, as the metric has them.
const (
	ReasonFrame    = "frame"    // bytes that are no message, or would take too much memory
	ReasonType     = "type"     // a type, or a field, that no member sends to another
	ReasonAddress  = "address"  // sender, receiver, shard or deployment
	ReasonTerm     = "term"     // a term that no election can have reached
	ReasonLeader   = "leader"   // a second leader of one term
	ReasonIndex    = "index"    // an index that the log cannot have
	ReasonEntry    = "entry"    // an entry that raft would not make
	ReasonCommand  = "command"  // an entry whose command this release would not propose
	ReasonChange   = "change"   // a change of membership that no member makes
	ReasonSnapshot = "snapshot" // a chunk that is out of place, or a stream that is not a snapshot
)

var reasons = []string{ReasonFrame, ReasonType, ReasonAddress, ReasonTerm, ReasonLeader, ReasonIndex, ReasonEntry,
	ReasonCommand, ReasonChange, ReasonSnapshot}

// RejectedError says why a peer's message was not taken; its connection is closed.
type RejectedError struct {
	Reason string // one of the constants above
	Text   string
}

func (e *RejectedError) Error() string { return "rejected: " + e.Text }

func reject(reason, format string, args ...any) error {
	return &RejectedError{reason, fmt.Sprintf(format, args...)}
}

const (
	// maxIndex is above every index and term of a log that lives: at a million entries a second it is reached after
	// 146,000 years. What is above it could not grow any more.
	maxIndex = 1 << 62
	// maxMessages and maxEntries bound what a batch turns into in memory, which can be fifty times its bytes.
	// Dragonboat queues 2,048 messages for a peer, and sends at most 64 MiB of entries beside one message of that size,
	// each entry counted as 128 bytes and more.
	maxMessages, maxEntries = 1 << 16, 1 << 20
	// maxEntry is the size of the largest entry: the proposer's largest command of 64 MiB, and what goes around it.
	maxEntry = 65 << 20
	// maxEmptySnapshot is the size of the snapshot in a message that has none.
	maxEmptySnapshot = 64
	// maxBootstrap bounds the entries in which a new cluster's log names its founders.
	maxBootstrap = 64
)

// remoteTypes are the messages one member may send to another. Dragonboat panics on some of the others, which are meant
// for use inside one process.
var remoteTypes = map[pb.MessageType]bool{
	pb.NoOP: true, pb.Propose: true, pb.Replicate: true, pb.ReplicateResp: true,
	pb.RequestVote: true, pb.RequestVoteResp: true, pb.RequestPreVote: true, pb.RequestPreVoteResp: true,
	pb.Heartbeat: true, pb.HeartbeatResp: true, pb.ReadIndex: true, pb.ReadIndexResp: true,
	pb.SnapshotReceived: true, pb.LeaderTransfer: true, pb.TimeoutNow: true,
}

// termless are the messages that carry no term; one with a term would set the receiver's.
var termless = map[pb.MessageType]bool{
	pb.Propose: true, pb.ReadIndex: true, pb.LeaderTransfer: true, pb.SnapshotReceived: true,
}

// decodeBatch decodes a batch and makes sure that it is one from may send to this member. What is for groups that this
// member does not have is left out; strays is how many messages that were. groups are those of the messages that are
// left.
func (t *Transport) decodeBatch(
	payload []byte, from uint64,
) (batch pb.MessageBatch, groups []*Group, strays int, err error) {
	v := t.validator
	if err := checkBatchSize(payload); err != nil {
		return batch, nil, 0, err
	}
	if err := unmarshal(&batch, payload); err != nil {
		return batch, nil, 0, reject(ReasonFrame, "a batch of messages does not decode: %v", err)
	}
	if batch.DeploymentId != v.deployment || batch.BinVer != raftio.TransportBinVersion {
		return batch, nil, 0, reject(ReasonAddress, "messages of deployment %d, version %d", batch.DeploymentId,
			batch.BinVer)
	}
	known := batch.Requests[:0]
	for i := range batch.Requests {
		group := t.opt.Groups(batch.Requests[i].ShardID)
		if v.command = nil; group != nil {
			v.command = group.content.CheckCommand
		}
		if err := v.checkMessage(&batch.Requests[i], from); err != nil {
			return batch, nil, 0, err
		}
		if group == nil {
			strays++
			continue
		}
		known, groups = append(known, batch.Requests[i]), append(groups, group)
	}
	batch.Requests = known
	return batch, groups, strays, nil
}

// validator is the part of the judgement that needs no memory of what came before.
type validator struct {
	self, deployment uint64
	// command judges an entry's command; from is 0 for one that is in the leader's log already. It is that of the
	// message's group; nil takes all.
	command func(from uint64, cmd []byte) error
}

func (v *validator) checkMessage(m *pb.Message, from uint64) error {
	switch {
	case !remoteTypes[m.Type]:
		return reject(ReasonType, "message of type %d", m.Type)
	case m.From != from || m.To != v.self:
		return reject(ReasonAddress, "a message from %x to %x", m.From, m.To)
	case m.Snapshot.Index != 0:
		return reject(ReasonType, "%s with a snapshot", m.Type)
	case len(m.Entries) > 0 && m.Type != pb.Replicate && m.Type != pb.Propose:
		return reject(ReasonType, "%s with entries", m.Type)
	case m.LogIndex > maxIndex || m.Commit > maxIndex || m.Type == pb.ReplicateResp && m.Hint > maxIndex:
		return reject(ReasonIndex, "%s with index %d, commit %d, hint %d", m.Type, m.LogIndex, m.Commit, m.Hint)
	}
	if err := checkTerms(m); err != nil {
		return err
	}
	return v.checkType(m)
}

// checkTerms checks that a message has a term exactly if its type has one.
func checkTerms(m *pb.Message) error {
	// A member that has heard of no term yet says so when it is asked for a vote.
	unborn := m.Type == pb.RequestPreVoteResp && m.Reject
	switch {
	case termless[m.Type] != (m.Term == 0) && !unborn:
		return reject(ReasonTerm, "%s of term %d", m.Type, m.Term)
	case m.Term > maxIndex:
		return reject(ReasonTerm, "%s of term %d, which could not grow any more", m.Type, m.Term)
	case m.LogTerm > m.Term && !termless[m.Type]:
		return reject(ReasonTerm, "%s of term %d about an entry of term %d", m.Type, m.Term, m.LogTerm)
	}
	return nil
}

func (v *validator) checkType(m *pb.Message) error {
	switch m.Type {
	case pb.Replicate:
		return v.checkReplicate(m)
	case pb.Propose:
		return v.checkPropose(m)
	case pb.RequestVote, pb.RequestPreVote:
		if m.Hint != 0 && m.Hint != m.From {
			return reject(ReasonType, "%s with hint %x", m.Type, m.Hint)
		}
	case pb.LeaderTransfer:
		if m.Hint == 0 {
			return reject(ReasonType, "transfer of leadership to nobody")
		}
	case pb.ReadIndex, pb.ReadIndexResp:
		if m.Hint == 0 {
			return reject(ReasonType, "%s without a context", m.Type)
		}
	}
	return nil
}

// checkReplicate checks the entries that a leader sends. They follow LogIndex without a gap, and terms do not fall from
// LogTerm on, nor are they above the leader's: Dragonboat panics on each. An entry before the first has term 0, and no
// other: an index that the receiver does not have would match it.
func (v *validator) checkReplicate(m *pb.Message) error {
	if (m.LogIndex == 0) != (m.LogTerm == 0) {
		return reject(ReasonIndex, "entries after index %d of term %d", m.LogIndex, m.LogTerm)
	}
	term, changes := m.LogTerm, 0
	for i := range m.Entries {
		e := &m.Entries[i]
		switch {
		case e.Index != m.LogIndex+1+uint64(i):
			return reject(ReasonIndex, "entry %d in the place of %d", e.Index, m.LogIndex+1+uint64(i))
		case e.Term < term || e.Term > m.Term || e.Term == 0:
			return reject(ReasonTerm, "entry %d of term %d after one of term %d, from a leader of term %d", e.Index,
				e.Term, term, m.Term)
		}
		term = e.Term
		if err := v.checkEntry(e, 0); err != nil {
			return err
		}
		if e.Type == pb.ConfigChangeEntry && e.Index > m.Commit && !founds(e) {
			changes++
		}
	}
	if changes > 1 { // a leader makes one at a time; who has two of them uncommitted can never lead
		return reject(ReasonChange, "%d changes of membership under way at once", changes)
	}
	return nil
}

// checkPropose checks what a follower asks the leader to put into the log.
func (v *validator) checkPropose(m *pb.Message) error {
	if len(m.Entries) == 0 {
		return reject(ReasonEntry, "a proposal without entries")
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Type == pb.ApplicationEntry {
			return reject(ReasonEntry, "a proposal of an empty entry")
		}
		if err := v.checkEntry(e, m.From); err != nil {
			return err
		}
	}
	return nil
}

// plainHeader is the first byte of an encoded entry that is not compressed and belongs to no session of Dragonboat's:
// the only kind in use. Dragonboat panics on versions that it does not know, and takes a compressed one's word for its
// size.
const plainHeader = 0

// checkEntry checks an entry's form. proposer is the member that proposes it, 0 if it is in the log.
func (v *validator) checkEntry(e *pb.Entry, proposer uint64) error {
	switch e.Type {
	case pb.ApplicationEntry: // what a leader begins with, and what it makes of a change that it turns down
		if len(e.Cmd) > 0 || e.ClientID != 0 {
			return reject(ReasonEntry, "entry %d of client %x with a plain command of %d bytes", e.Index, e.ClientID,
				len(e.Cmd))
		}
		return nil
	case pb.ConfigChangeEntry:
		return v.checkChange(e, proposer)
	case pb.EncodedEntry:
	default:
		return reject(ReasonEntry, "entry %d of type %d", e.Index, e.Type)
	}
	switch {
	case e.Key == 0 || e.ClientID == 0 || e.SeriesID != 0:
		return reject(ReasonEntry, "entry %d with key %d, client %x, series %d", e.Index, e.Key, e.ClientID, e.SeriesID)
	case len(e.Cmd) < 2 || e.Cmd[0] != plainHeader || len(e.Cmd) > maxEntry:
		return reject(ReasonEntry, "entry %d with %d bytes that begin with %x", e.Index, len(e.Cmd),
			e.Cmd[:min(1, len(e.Cmd))])
	case v.command == nil:
		return nil
	}
	if err := v.command(proposer, e.Cmd[1:]); err != nil {
		return reject(ReasonCommand, "entry %d: %v", e.Index, err)
	}
	return nil
}

// checkChange checks a change of membership: one of those that Node makes, of a member under its own target.
func (v *validator) checkChange(e *pb.Entry, proposer uint64) error {
	var c pb.ConfigChange
	if err := unmarshal(&c, e.Cmd); err != nil || len(e.Cmd) == 0 {
		return reject(ReasonChange, "entry %d: a change of membership that does not decode: %v", e.Index, err)
	}
	adds := c.Type == pb.AddNode || c.Type == pb.AddNonVoting
	switch {
	case !adds && c.Type != pb.RemoveNode:
		return reject(ReasonChange, "entry %d: a change of membership of type %d", e.Index, c.Type)
	case c.ReplicaID == 0 || adds && c.Address != Target(c.ReplicaID) || !adds && c.Address != "":
		return reject(ReasonChange, "entry %d: a change for member %x at %.60q", e.Index, c.ReplicaID, c.Address)
	case c.Initialize && (proposer != 0 || e.Index > maxBootstrap || c.Type != pb.AddNode):
		return reject(ReasonChange, "entry %d founds the cluster again", e.Index)
	case !c.Initialize && c.ConfigChangeId == 0:
		return reject(ReasonChange, "entry %d: a change of members that nobody looked at", e.Index)
	}
	return nil
}

// founds says whether an entry that passed names a founder of the cluster. Those come all at once.
func founds(e *pb.Entry) bool {
	var c pb.ConfigChange
	return c.Unmarshal(e.Cmd) == nil && c.Initialize
}

// checkBatchSize counts what a batch would be in memory before it is decoded.
func checkBatchSize(payload []byte) error {
	const requestsField, entriesField, snapshotField = 1, 11, 12
	messages, entries := 0, 0
	tooMany := func() error {
		if messages > maxMessages || entries > maxEntries {
			return reject(ReasonFrame, "more than %d messages or %d entries in a batch", maxMessages, maxEntries)
		}
		return nil
	}
	err := fields(payload, func(field protowire.Number, message []byte) error {
		if field != requestsField {
			return nil
		}
		if messages++; messages > maxMessages {
			return tooMany()
		}
		return fields(message, func(field protowire.Number, value []byte) error {
			switch {
			case field == entriesField:
				entries++
			case field == snapshotField && len(value) > maxEmptySnapshot:
				return reject(ReasonType, "a message with a snapshot of %d bytes", len(value))
			}
			return tooMany()
		})
	})
	var rejected *RejectedError
	if err != nil && !errors.As(err, &rejected) {
		return reject(ReasonFrame, "a batch of messages does not decode: %v", err)
	}
	return err
}

// fields calls fn for each field of an encoded message, with the bytes of those that have a length. There are no groups
// in what peers send.
func fields(message []byte, fn func(field protowire.Number, value []byte) error) error {
	f := pbwire.Read(message)
	for f.Next() {
		if f.Type == protowire.StartGroupType {
			return fmt.Errorf("wire type %d", f.Type)
		}
		if err := fn(f.Number, f.Bytes); err != nil {
			return err
		}
	}
	return f.Err()
}

// unmarshal decodes bytes from the network. Generated decoders are trusted to return errors; one that panics instead
// must not take the process down.
func unmarshal(m pb.Unmarshaler, payload []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrBadFrame, r)
		}
	}()
	return m.Unmarshal(payload)
}
