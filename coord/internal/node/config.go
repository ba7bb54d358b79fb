package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/lni/dragonboat/v4/statemachine"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
	"github.com/coord-dev/coord/coord/internal/peer"
)

// Config configures one replica. The zero value of a field with a default means
// the default.
type Config struct {
	// ClusterID is the same for all members of a cluster and different for others.
	ClusterID uint64
	// Shard is the raft group, Replica this member's id in it. Both are not zero.
	Shard, Replica uint64
	// Incarnation is the random number made together with the data directory. Boot and Start name the start of this process.
	Incarnation handshake.Incarnation
	Boot, Start uint64
	// Dir holds the raft log; the directory must be locked by the caller and is
	// created. WALDir, when set, holds the log's write-ahead log.
	Dir, WALDir string
	// LogFiles is how many files the log may keep open; 0: logstore's default.
	LogFiles int
	// PeerListen are the addresses (host:port) to listen on for the other members.
	PeerListen []string
	// PeerListeners, when set, are used instead of PeerListen.
	PeerListeners []net.Listener
	// Initial maps each first member of a new cluster to its peer address. It is
	// empty for a member that joins, and ignored on a restart.
	Initial map[uint64]string
	// Join starts a member that was added to a running cluster.
	Join bool
	// Peers maps members to their peer addresses, beside Initial: what is known on
	// a restart or a join. It can be changed later through Node.Book.
	Peers map[uint64][]string

	// Heartbeat and ElectionTimeout mean what etcd's flags of these names mean: a
	// follower stands for election after one to two times ElectionTimeout without
	// a leader. Defaults are 50 ms and 300 ms.
	Heartbeat, ElectionTimeout time.Duration

	// SnapshotEntries is how many entries are applied between two snapshots, and
	// SnapshotBytes how many bytes of entries at most. Defaults: 10,000 entries and
	// 64 MiB. A snapshot here makes the state machine durable and allows the log
	// before it to go; it does not copy the data.
	SnapshotEntries, SnapshotBytes uint64
	// KeepEntries is how many entries stay in the log behind a snapshot for
	// followers that are a little behind. Default 5,000.
	KeepEntries uint64
	// LagEntries and LagBytes bound what the log keeps for a member that is far
	// behind or catching up by a snapshot; past them it is let go and needs
	// another snapshot. Defaults: 1,000,000 entries and 1 GiB.
	LagEntries, LagBytes uint64
	// LagTime is how long the log is kept for a member that cannot be reached.
	// Default 1 minute.
	LagTime time.Duration

	// Machine creates the state machine. It is called once by Start.
	Machine func(shard, replica uint64) statemachine.IOnDiskStateMachine
	// CheckCommand returns what is wrong with the bytes of an entry that proposer wants in the log, or that is in the
	// leader's log when proposer is 0; an entry of a peer's that is refused gets no further. Nil takes all.
	CheckCommand func(proposer uint64, cmd []byte) error
	// CheckSnapshot reads what Machine's SaveSnapshot wrote on another member and returns the index of its state, or why
	// Machine would not take it. Nil takes all.
	CheckSnapshot func(r io.Reader) (applied uint64, err error)
	// Room returns why there is no room on disk for a snapshot from a peer. Nil: there always is.
	Room func() error
	// PeerHandler serves HTTP requests on the peer port outside of PathPrefix.
	PeerHandler http.Handler
	// PeerRecords and Refused are those of peer.Options. What the PeerRecords has on record must outlive the process.
	PeerRecords handshake.PeerRecords
	Refused     func(*handshake.RefusedError)
	// TLS encrypts traffic between members; nil does not.
	TLS *peer.TLS
	// Events are called as things happen.
	Events Events
	// OnFatal is called with one line, logged before, when Dragonboat cannot go on:
	// it panics in goroutines nobody can recover. The process must end; the default
	// exits with status 1. The hooks of all Nodes of the process are called, because
	// it is not known which one is meant.
	OnFatal func(msg string)
	// Logger receives our own and Dragonboat's messages. Nil is silent.
	Logger *zap.Logger
}

// Events are callbacks. They are called one at a time from a goroutine of the
// node's own, never from one of Dragonboat's; a slow one delays the others. Nil
// fields are not called.
type Events struct {
	// Leader is called with the leader (0 for none) and its term at each change.
	// Changes that follow each other quickly are reported as one.
	Leader func(leader, term uint64)
	// Membership is called after a change of the members was applied.
	Membership func()
	// Dropped is called after proposals were turned down here, for want of a leader
	// or during a transfer: they certainly did not get into the log.
	Dropped func()
	// Removed is called when this member was removed from the group.
	Removed func()
	// Outcast is called when a majority of the voters refuses this member for another reason than its removal.
	Outcast func(*handshake.RefusedError)
}

const (
	defaultHeartbeat = 50 * time.Millisecond
	defaultElection  = 300 * time.Millisecond
	// minTick bounds what the timers cost an idle server, maxTick how coarse they
	// may be: election timeouts are random, but only in whole ticks.
	minTick = 5 * time.Millisecond
	maxTick = 20 * time.Millisecond
)

func (c *Config) ensureDefaults() {
	orDefault(&c.Heartbeat, defaultHeartbeat)
	orDefault(&c.ElectionTimeout, defaultElection)
	orDefault(&c.SnapshotEntries, 10_000)
	orDefault(&c.SnapshotBytes, 64<<20)
	orDefault(&c.KeepEntries, 5_000)
	orDefault(&c.LagEntries, 1_000_000)
	orDefault(&c.LagBytes, 1<<30)
	orDefault(&c.LagTime, time.Minute)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.OnFatal == nil {
		c.OnFatal = func(string) { os.Exit(1) }
	}
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate returns what is wrong with the configuration.
func (c *Config) Validate() error {
	switch {
	case c.Shard == 0 || c.Replica == 0:
		return errors.New("shard and replica id must not be zero")
	case c.Dir == "":
		return errors.New("no directory for the raft log")
	case c.Machine == nil:
		return errors.New("no state machine")
	case len(c.PeerListen) == 0 && len(c.PeerListeners) == 0:
		return errors.New("no address to listen on for peers")
	case c.Join && len(c.Initial) > 0:
		return errors.New("a joining member must not have initial members")
	case len(c.Initial) > 0 && c.Initial[c.Replica] == "":
		return fmt.Errorf("this member %x is not among the initial members", c.Replica)
	}
	return CheckTiming(c.Heartbeat, c.ElectionTimeout)
}

// CheckTiming returns why a replica cannot run with these times, which are not zero.
func CheckTiming(heartbeat, election time.Duration) error {
	if heartbeat < minTick {
		return fmt.Errorf("heartbeat interval %v is shorter than %v", heartbeat, minTick)
	}
	c := Config{Heartbeat: heartbeat, ElectionTimeout: election}
	if t := c.timing(); t.election <= 2*t.heartbeat {
		return fmt.Errorf("election timeout %v must be more than twice the heartbeat interval %v", election, heartbeat)
	}
	return nil
}

// timing is Heartbeat and ElectionTimeout in ticks.
type timing struct {
	tick                time.Duration
	heartbeat, election uint64
}

// timing chooses the tick: a fifth of the heartbeat interval within bounds, so
// that random election timeouts spread over many ticks.
func (c *Config) timing() timing {
	tick := min(max(c.Heartbeat/5, minTick), maxTick).Truncate(time.Millisecond)
	ticks := func(d time.Duration) uint64 { return uint64(max(1, (d+tick/2)/tick)) }
	return timing{tick, ticks(c.Heartbeat), ticks(c.ElectionTimeout)}
}
