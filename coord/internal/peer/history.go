package peer

import (
	"slices"
	"sync"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// LogState is what a member knows of its own log.
type LogState struct {
	// Term is the term the log was opened with, Last the index of its last entry now.
	Term, Last uint64
}

// How far a message may raise the term, beyond which nobody could be elected any more. Each election raises it by one,
// and a member stands for election a hundred times a second at the very most, so seven of them need 165 days of nothing
// but elections to get firstJump ahead of one that is down, and never get ahead of one that listens. A peer that lies
// takes longer than the universe is old to reach maxIndex: it gets jumpRate terms a second and one firstJump for each
// start.
const (
	// firstJump is for the first message after a start: elections went on while this member was down. A member whose
	// log is empty takes what the cluster has reached by then.
	firstJump, newbornJump = 1 << 32, 1 << 48
	// nextJump is the most that is saved up for the messages that follow, at jumpRate a second.
	nextJump, jumpRate = 1 << 20, 1024
)

// maxGrowth bounds by how many entries a snapshot may be ahead of the log that it replaces: twelve days at a million
// entries a second.
const maxGrowth = 1 << 40

// history judges messages by what came before them: the terms that were reached, who leads, what was sent. It is one
// for a group, and for all connections.
type history struct {
	// log tells of this member's log, false before it is open. Nil: nothing is known of it.
	log func() (LogState, bool)

	mu struct {
		sync.Mutex
		begun bool
		// term is the highest that is known, jump how far the next message may be above it, at is when that was so.
		term, jump uint64
		at         time.Time
		// leader is who was heard to lead the highest such term; there is one for each.
		leader struct{ term, member uint64 }
		// sent is how far the entries go that this member sent in the latest term that it leads.
		sent struct{ term, end uint64 }
	}
}

// A fate is what becomes of a message that is not wrong.
type fate bool

const (
	deliver fate = true
	drop    fate = false
)

// admit judges a message that passed the validator.
func (h *history) admit(m *pb.Message, now time.Time) (fate, error) {
	var log LogState
	known := h.log != nil
	if known {
		var open bool
		if log, open = h.log(); !open {
			return drop, nil // Dragonboat does not know the shard yet, and would drop it
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begin(log, now)
	if err := h.admitTerm(m, now); err != nil {
		return drop, err
	}
	if leads[m.Type] && !h.admitLeader(m) {
		return drop, reject(ReasonLeader, "%s of term %d from %x: that term's leader is %x", m.Type, m.Term, m.From,
			h.mu.leader.member)
	}
	switch {
	case !known:
	case m.Type == pb.Heartbeat && m.Commit > log.Last:
		return drop, reject(ReasonIndex, "%s with commit %d: the log ends at %d", m.Type, m.Commit, log.Last)
	case m.Type == pb.ReplicateResp:
		return h.admitResponse(m, log)
	}
	return deliver, nil
}

// begin takes the term that the log had when it was opened.
func (h *history) begin(log LogState, now time.Time) {
	if h.mu.begun {
		return
	}
	h.mu.begun, h.mu.at = true, now
	h.mu.term, h.mu.jump = log.Term, firstJump
	if log.Term == 0 {
		h.mu.jump = newbornJump
	}
}

// admitTerm lets the term grow no faster than elections can make it. A vote that is only asked for does not raise it.
func (h *history) admitTerm(m *pb.Message, now time.Time) error {
	if m.Term <= h.mu.term {
		return nil
	}
	if earned := uint64(max(0, now.Sub(h.mu.at))/time.Millisecond) * jumpRate / 1000; earned > 0 {
		h.mu.at = now
		h.mu.jump = max(h.mu.jump, min(nextJump, h.mu.jump+earned))
	}
	ahead := m.Term - h.mu.term
	if ahead > h.mu.jump {
		return reject(ReasonTerm, "%s of term %d: the term was %d a moment ago", m.Type, m.Term, h.mu.term)
	}
	if m.Type == pb.RequestPreVote || m.Type == pb.RequestPreVoteResp {
		return nil
	}
	h.mu.term, h.mu.jump = m.Term, min(nextJump, h.mu.jump-ahead)
	return nil
}

// leads are the messages that only a leader sends.
var leads = map[pb.MessageType]bool{pb.Replicate: true, pb.Heartbeat: true, pb.ReadIndexResp: true, pb.TimeoutNow: true}

func (h *history) admitLeader(m *pb.Message) bool {
	l := &h.mu.leader
	if m.Term > l.term {
		l.term, l.member = m.Term, m.From
	}
	return m.Term < l.term || m.From == l.member
}

// admitResponse judges what a follower says to have. Entries are sent before they are in this member's log, so that a
// follower may have more than that. What is said about a term that began before this member did cannot be judged: it
// does not lead that term any more, so that it has no use for it.
func (h *history) admitResponse(m *pb.Message, log LogState) (fate, error) {
	switch {
	case m.Term != h.mu.sent.term:
		return drop, nil
	case !m.Reject && m.LogIndex > max(log.Last, h.mu.sent.end):
		return drop, reject(ReasonIndex, "%s for index %d: the log ends at %d", m.Type, m.LogIndex,
			max(log.Last, h.mu.sent.end))
	}
	return deliver, nil
}

// sending notes what this member is about to send as a leader.
func (h *history) sending(m *pb.Message) {
	if m.Type != pb.Replicate && m.Type != pb.Heartbeat {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.Term > h.mu.leader.term {
		h.mu.leader.term, h.mu.leader.member = m.Term, m.From
	}
	s := &h.mu.sent
	if m.Term > s.term {
		s.term, s.end = m.Term, 0
	}
	if m.Term == s.term {
		s.end = max(s.end, m.LogIndex+uint64(len(m.Entries)))
	}
}

// admitSnapshot judges what a snapshot says of the log that it replaces. Its sender has led before it sends one.
func (h *history) admitSnapshot(c *pb.Chunk) error {
	if h.log == nil {
		return nil
	}
	log, open := h.log()
	if !open {
		return reject(ReasonSnapshot, "a snapshot for a log that is not open yet")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begin(log, time.Now())
	switch {
	case c.Term > h.mu.term:
		return reject(ReasonTerm, "a snapshot of term %d: the term is %d", c.Term, h.mu.term)
	case c.Index > log.Last+maxGrowth:
		return reject(ReasonIndex, "a snapshot of index %d: the log ends at %d", c.Index, log.Last)
	}
	return nil
}

// prepare notes what is about to be sent, and takes out what others proposed: raft passes a proposal on when the leader
// has changed meanwhile. Each member answers for its own entries alone, and proposes them again by itself.
func (t *Transport) prepare(batch *pb.MessageBatch) {
	passedOn := func(m pb.Message) bool { return m.Type == pb.Propose && !t.own(m.ShardID, m.Entries) }
	for i := range batch.Requests {
		m := &batch.Requests[i]
		if g := t.opt.Groups(m.ShardID); g != nil {
			g.history.sending(m)
		}
		t.stepped(m)
	}
	if slices.ContainsFunc(batch.Requests, passedOn) {
		batch.Requests = slices.DeleteFunc(slices.Clone(batch.Requests), passedOn) // the slice is Dragonboat's
	}
}

func (t *Transport) own(shard uint64, entries []pb.Entry) bool {
	group := t.opt.Groups(shard)
	if group == nil || group.content.CheckCommand == nil {
		return true
	}
	for i := range entries {
		e := &entries[i]
		if e.Type == pb.EncodedEntry && group.content.CheckCommand(t.opt.Self.Member, e.Cmd[1:]) != nil {
			return false
		}
	}
	return true
}
