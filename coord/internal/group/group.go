package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/config"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
	"github.com/coord-dev/coord/coord/internal/host"
	"github.com/coord-dev/coord/coord/internal/peer"
)

// Config configures the replica of a group. The zero value of a field with a default means the default.
type Config struct {
	// Initial maps each first member of a new group to its peer address. It is empty for a member that joins, and
	// ignored on a restart.
	Initial map[uint64]string
	// Join starts a replica that was added to a running group.
	Join bool

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

	// Machine is the state machine. The group opens and closes it.
	Machine sm.IOnDiskStateMachine
	// CheckCommand returns what is wrong with the bytes of an entry that proposer wants in the log, or that is in the
	// leader's log when proposer is 0; an entry of a peer's that is refused gets no further. Nil takes all.
	CheckCommand func(proposer uint64, cmd []byte) error
	// CheckSnapshot reads what Machine's SaveSnapshot wrote on another member and returns the index of its state, or
	// why Machine would not take it. Nil takes all.
	CheckSnapshot func(r io.Reader) (applied uint64, err error)
	// Events are called as things happen.
	Events Events
	// Logger receives messages about the group. Nil is silent.
	Logger *zap.Logger
}

// Events are callbacks. They are called one at a time from a goroutine of the
// group's own, never from one of Dragonboat's; a slow one delays the others. Nil
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
}

func (c *Config) ensureDefaults() {
	c.SnapshotEntries = cmp.Or(c.SnapshotEntries, 10_000)
	c.SnapshotBytes = cmp.Or(c.SnapshotBytes, 64<<20)
	c.KeepEntries = cmp.Or(c.KeepEntries, 5_000)
	c.LagEntries = cmp.Or(c.LagEntries, 1_000_000)
	c.LagBytes = cmp.Or(c.LagBytes, 1<<30)
	c.LagTime = cmp.Or(c.LagTime, time.Minute)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
}

// validate returns what is wrong with the configuration of a member's replica.
func (c *Config) validate(member uint64) error {
	switch {
	case c.Machine == nil:
		return errors.New("no state machine")
	case c.Join && len(c.Initial) > 0:
		return errors.New("a joining member must not have initial members")
	case len(c.Initial) > 0 && c.Initial[member] == "":
		return fmt.Errorf("this member %x is not among the initial members", member)
	}
	return nil
}

// Group is this member's part in one raft group, its replica of a shard. Its methods are safe for concurrent use.
// Before it is started it leads nothing, Propose is busy, and nothing else is to be called.
type Group struct {
	shard  uint64
	member uint64

	// Set by Start.
	host    *host.Host
	session *client.Session
	cfg     Config
	log     *zap.Logger
	machine *machine
	running bool // the replica was started and is to be stopped

	ctx       context.Context // ends with Close, and with the host's
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	unbind    func() bool   // ends the group's listening to the host
	opened    chan struct{} // closed when the fields above are set for good and the state machine is open
	// gone is closed when this member was removed.
	gone     chan struct{}
	goneOnce sync.Once

	reads      *readLoop
	reaper     *reaper
	events     *eventLoop
	compactor  *compactor
	succession *succession
}

// New makes the group of a shard, not zero, for a member.
func New(shard, member uint64) *Group {
	g := &Group{shard: shard, member: member, opened: make(chan struct{}), gone: make(chan struct{})}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.events = newEventLoop(g)
	g.reads = newReadLoop(g)
	g.reaper = newReaper(g)
	g.compactor = newCompactor(g)
	g.succession = newSuccession(g)
	return g
}

// Start starts the replica on a host, which has to live longer, and returns when its state machine is open. It may
// still be replaying its log and have no leader then: ReadIndex tells when it can serve. ctx bounds the start alone. A
// group that did not start is closed.
func (g *Group) Start(ctx context.Context, h *host.Host, cfg Config) error {
	cfg.ensureDefaults()
	if err := cfg.validate(g.member); err != nil {
		return errors.Join(fmt.Errorf("raft configuration of shard %d: %w", g.shard, err), g.Close())
	}
	g.host, g.cfg, g.log = h, cfg, cfg.Logger
	g.unbind = context.AfterFunc(h.Context(), g.cancel)
	if err := g.start(ctx); err != nil {
		return errors.Join(fmt.Errorf("start replica %x of shard %d: %w", g.member, g.shard, err), g.Close())
	}
	close(g.opened)
	for _, run := range []func(){g.reads.run, g.reaper.run, g.events.run, g.compactor.run, g.succession.run} {
		g.wg.Go(run)
	}
	return nil
}

func (g *Group) start(ctx context.Context) error {
	g.machine = newMachine(g.cfg.Machine, g.host.SnapshotDir(), g.logReader)
	if err := g.host.Attach(g.shard, peer.NewGroup(g.content()), g); err != nil {
		return err
	}
	if err := g.startReplica(); err != nil {
		g.host.Detach(g.shard)
		return err
	}
	g.running = true
	select {
	case err := <-g.machine.opened:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.ctx.Done():
		return ErrClosed
	}
}

// startReplica starts the replica as what it is: new, joining, or known here.
func (g *Group) startReplica() error {
	nh := g.enter()
	if nh == nil {
		return ErrClosed
	}
	defer g.leave()
	g.session = nh.GetNoOPSession(g.shard)
	known := nh.HasNodeInfo(g.shard, g.member)
	if !known && !g.cfg.Join && len(g.cfg.Initial) == 0 {
		return fmt.Errorf("the raft log in %s does not know this replica, and neither initial members nor join "+
			"is given", g.host.Dir())
	}
	joined, err := g.joined(known)
	if err != nil {
		return err
	}
	initial := map[uint64]dragonboat.Target{}
	if !known {
		for id := range g.cfg.Initial {
			initial[id] = peer.Target(id)
		}
	}
	create := func(shard, replica uint64) sm.IOnDiskStateMachine { return g.machine }
	return nh.StartOnDiskReplica(initial, g.cfg.Join && !known, create, g.replicaConfig(joined))
}

// logReader is that of Dragonboat, which calls it while it opens the replica.
func (g *Group) logReader() (dragonboat.ReadonlyLogReader, error) {
	nh := g.enter()
	if nh == nil {
		return nil, ErrClosed
	}
	defer g.leave()
	return nh.GetLogReader(g.shard)
}

func (g *Group) replicaConfig(learner bool) config.Config {
	t := g.host.Timing()
	return config.Config{
		ReplicaID: g.member, ShardID: g.shard,
		CheckQuorum: true, PreVote: true, OrderedConfigChange: true,
		ElectionRTT: t.Election, HeartbeatRTT: t.Heartbeat,
		CompactionOverhead: g.cfg.KeepEntries,
		IsNonVoting:        learner,
	}
}

// joined says whether this replica joined a running group, and remembers it in a file. Such
// a replica always starts as a learner, whatever it is by now: its snapshot or
// its log promotes it before it takes part, while the opposite makes Dragonboat
// panic.
func (g *Group) joined(known bool) (bool, error) {
	path := filepath.Join(g.host.Dir(), fmt.Sprintf("joined-%d", g.shard))
	if !known && g.cfg.Join {
		f, err := os.Create(path)
		if err != nil {
			return false, err
		}
		return true, errors.Join(f.Sync(), f.Close(), host.SyncDir(g.host.Dir()))
	}
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Close stops the replica and returns when its state machine is closed. It waits for the group's goroutines, and so for
// a callback that is running, and where the host is being closed, for that; callers of its other methods get ErrClosed.
// It may be called more than once, and after the host's Close.
func (g *Group) Close() (err error) {
	g.closeOnce.Do(func() {
		g.cancel()
		if g.unbind != nil {
			g.unbind()
		}
		if g.running {
			err = g.stop()
		}
	})
	g.wg.Wait()
	return err
}

// stop ends the replica. Dragonboat closes the machines of those that it stops, by itself too, where a replica was
// removed. But when it closes as a whole it does so for five seconds, two at a time, and forgets about the rest, which
// nobody calls any more then.
func (g *Group) stop() (err error) {
	defer g.host.Detach(g.shard)
	if nh := g.host.Enter(); nh != nil {
		_ = nh.StopReplica(g.shard, g.member) // an error says that it is stopped already
		g.host.Leave()
	}
	select {
	case <-g.machine.done:
	case <-g.host.Context().Done():
		err = errors.Join(g.host.Close(), g.machine.Close())
	}
	return err
}

// enter admits a call into Dragonboat, nil if it does not; it is followed by leave if it does. Calls in between must
// end soon after g.ctx does.
func (g *Group) enter() *dragonboat.NodeHost {
	nh := g.host.Enter()
	if nh != nil && g.ctx.Err() != nil {
		g.host.Leave()
		return nil
	}
	return nh
}

func (g *Group) leave() { g.host.Leave() }

// removed says whether this member is known to have been removed.
func (g *Group) removed() bool {
	select {
	case <-g.gone:
		return true
	default:
		return false
	}
}

// isOpen says whether Start has come to its end.
func (g *Group) isOpen() bool {
	select {
	case <-g.opened:
		return true
	default:
		return false
	}
}

// Outcast implements host.Replica: the others do not let this member in.
func (g *Group) Outcast(why *handshake.RefusedError) {
	if why.Kind == handshake.Removed {
		g.Removed()
		return
	}
	g.goneOnce.Do(func() { close(g.gone) })
}

// Removed implements host.Replica.
func (g *Group) Removed() {
	g.goneOnce.Do(func() {
		close(g.gone)
		g.events.note(func(p *pendingEvents) { p.removed = true })
	})
}
