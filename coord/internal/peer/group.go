package peer

import (
	"io"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// Group is a raft group of this member as the transport knows it: what the messages of peers are judged by, and what
// came before them. Its owner keeps it as long as the replica, and makes a new one when the replica is started again.
type Group struct {
	content Content
	history history
}

// NewGroup makes a group of which nothing was heard yet.
func NewGroup(c Content) *Group { return &Group{content: c, history: history{log: c.Log}} }

// Content is what is known of a raft group beside what raft itself prescribes. The zero value knows nothing and judges
// the form alone. Its functions must be safe for concurrent use.
type Content struct {
	// Log tells of this member's log; false before it is open.
	Log func() (LogState, bool)
	// CheckCommand returns what is wrong with the command in an entry that proposer wants in the log, or that is in the
	// leader's log when proposer is 0. It is called for each, and must be fast.
	CheckCommand func(proposer uint64, cmd []byte) error
	// AdmitMembers returns why this member cannot take a snapshot of index with these members.
	AdmitMembers func(index uint64, m pb.Membership) error
	// CheckSnapshot reads a snapshot's content and returns the index of its state, or what is wrong with it.
	CheckSnapshot func(r io.Reader) (applied uint64, err error)
}

// anyGroup is a function for Options.Groups that has one group for all shards.
func anyGroup() func(shard uint64) *Group {
	g := NewGroup(Content{})
	return func(uint64) *Group { return g }
}
