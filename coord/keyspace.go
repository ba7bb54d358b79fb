package coord

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/group"
	"github.com/coord-dev/coord/coord/internal/keyspace"
	"github.com/coord-dev/coord/coord/internal/leaseclock"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// SystemShard is the raft group whose keyspace says who the members are. It is the only one for now.
const SystemShard = 1

// servedKeyspace is a keyspace that this member has a replica of: its state and what hears from it, and its raft group.
type servedKeyspace struct {
	*keyspace.Keyspace
	group  *group.Group
	events group.Events
	last   *lastEntries
}

// lastEntries has, by shard, the number of the last entry that this process has proposed in a keyspace that it closed:
// one that opens the keyspace again counts on from there.
type lastEntries struct {
	mu sync.Mutex
	of map[uint64]uint64
}

func (l *lastEntries) get(shard uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[shard]
}

func (l *lastEntries) set(shard, number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = make(map[uint64]uint64)
	}
	l.of[shard] = number
}

// keyspaceOptions are what keyspaces differ in.
type keyspaceOptions struct {
	shard uint64
	// memory bounds what the store holds beside the shared caches, in bytes; 0: as much as one of few may.
	memory int
	// refused are commands that the operator has refused.
	refused []statemachine.Refused
	// members hears from the state machine; nil: nobody does.
	members statemachine.Observer
	// events are called beside what the keyspace itself does.
	events group.Events
}

// newKeyspace makes the parts of a keyspace. None of them does anything before it is opened.
func (s *Server) newKeyspace(o keyspaceOptions) *servedKeyspace {
	k := &servedKeyspace{group: group.New(o.shard, s.identity.MemberID), events: o.events, last: &s.lastEntries}
	began := time.Now()
	k.Keyspace = keyspace.New(keyspace.Options{
		Log: k.group, Retry: 2 * s.cfg.ElectionTimeout,
		Dir: s.dir.StorePath(o.shard), Caches: s.caches, MemoryBytes: o.memory, Shard: o.shard,
		Member: s.identity.MemberID, Boot: s.dir.Boot(), Start: s.dir.Start(), After: k.last.get(o.shard),
		Displaced: s.fail,
		Now:       func() time.Duration { return time.Since(began) }, Nonce: rand.Uint64(),
		Members: o.members, Memory: s.memory, End: s.cfg.onFatal(), Refused: o.refused, Logger: s.log,
	})
	return k
}

// open starts the replica on the server's host, and returns when its store is open. founding are the members of a
// cluster that is being founded, nil for a member that joins.
func (k *servedKeyspace) open(ctx context.Context, s *Server, founding map[uint64]string) error {
	events := k.events
	leader := events.Leader
	events.Leader = func(id, term uint64) {
		s.log.Info("leader changed", zap.Uint64("shard", k.Shard), zap.String("leader", hex(id)),
			zap.Uint64("term", term))
		if leader != nil {
			leader(id, term)
		}
		if id != 0 {
			k.Proposer.LeaderChanged()
		}
	}
	events.Dropped = k.Proposer.LeaderChanged
	return k.group.Start(ctx, s.host, group.Config{
		Initial: founding, Join: founding == nil, SnapshotEntries: s.cfg.SnapshotCount,
		Machine:       k.Machine,
		CheckCommand:  judge(k.Machine.CheckCommand, k.Machine.Version),
		CheckSnapshot: func(r io.Reader) (uint64, error) { return machine.CheckSnapshot(r, k.Shard) },
		Events:        events,
		Logger:        s.log.Named("raft").With(zap.Uint64("shard", k.Shard)),
	})
}

// tick lets the log time of the keyspace pass while this member leads, until ctx ends.
func (k *servedKeyspace) tick(ctx context.Context, patience time.Duration) {
	runner := &leaseclock.Runner{
		Clock: k.Clock, Leads: k.group.IsLeader, Propose: k.Proposer.Propose, Patience: patience,
	}
	runner.Run(ctx)
}

// release releases what the keyspace holds, behind Close, and behind the host's Close where that closes, too.
func (k *servedKeyspace) release() error {
	k.last.set(k.Shard, k.Proposer.Last())
	if err := k.group.Close(); err != nil {
		return fmt.Errorf("close shard %d: %w", k.Shard, err)
	}
	return nil
}
