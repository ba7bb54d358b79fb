package group

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lni/dragonboat/v4"
	"go.uber.org/zap"
)

const (
	compactInterval = time.Second
	progressTimeout = 500 * time.Millisecond
	snapshotTimeout = 5 * time.Minute
)

// compactor takes snapshots and decides how much of the log may go.
//
// A snapshot makes the state machine durable; entries before it are needed only
// by members that are behind. If the log is cut past a member, it needs all data,
// and if it is cut past that member again before it has loaded them, once more.
// So the log is kept from the entry the slowest member has, and not cut at all
// while one is behind the log's start, within the bounds of the configuration.
// Nor is it cut past the snapshot before: raft goes on from there with a member
// that comes back, or joins, while the cut is under way.
type compactor struct {
	g *Group
	// members is the membership last seen.
	members Membership
	// followers is what is known of the other members.
	followers map[uint64]*follower
	// lastApplied and lastBytes are from the latest snapshot.
	lastApplied, lastBytes uint64
	// streamed counts the snapshots this member began to send.
	streamed atomic.Uint64
}

// follower is the latest known progress of another member.
type follower struct {
	applied uint64
	seen    time.Time
}

func newCompactor(g *Group) *compactor {
	return &compactor{g: g, followers: make(map[uint64]*follower)}
}

func (c *compactor) run() {
	tick := time.NewTicker(compactInterval)
	defer tick.Stop()
	c.lastApplied = c.g.machine.applied.Load()
	for {
		select {
		case <-c.g.ctx.Done():
			return
		case <-tick.C:
		}
		if !c.due() {
			continue
		}
		if err := c.snapshot(c.g.ctx); err != nil && c.g.ctx.Err() == nil {
			c.g.log.Warn("raft snapshot failed", zap.Error(err))
		}
	}
}

func (c *compactor) due() bool {
	return c.g.machine.applied.Load()-c.lastApplied >= c.g.cfg.SnapshotEntries ||
		c.g.machine.bytes.Load()-c.lastBytes >= c.g.cfg.SnapshotBytes
}

// snapshot makes the state machine durable and cuts the log.
func (c *compactor) snapshot(ctx context.Context) error {
	applied, bytes := c.g.machine.applied.Load(), c.g.machine.bytes.Load()
	c.look(ctx)
	if err := c.g.machine.flush(); err != nil {
		return err
	}
	s := c.g.Status()
	index, err := c.g.requestSnapshot(ctx, c.cut(s, time.Now()))
	if err != nil {
		return err
	}
	c.lastApplied, c.lastBytes = applied, bytes
	c.g.log.Debug("raft snapshot taken", zap.Uint64("index", index), zap.Uint64("first", s.FirstIndex))
	return nil
}

// look finds out how far the others are.
func (c *compactor) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, progressTimeout)
	defer cancel()
	if m, err := c.g.Membership(ctx); err == nil {
		c.members = m
	}
	for _, p := range c.g.progressOf(ctx, c.others()) {
		c.followers[p.Member] = &follower{p.Applied, time.Now()}
	}
	for id, f := range c.followers {
		if c.g.host.Transport().Hears(id) { // it may only be too busy to answer
			f.seen = time.Now()
		}
	}
}

func (c *compactor) others() []uint64 {
	all := slices.Concat(c.members.Voters, c.members.Learners)
	return slices.DeleteFunc(all, func(id uint64) bool { return id == c.g.member })
}

// cut returns the index up to which the log may go, 0 when it must stay as it is.
func (c *compactor) cut(s Status, now time.Time) uint64 {
	cut := min(s.Snapshot, s.Applied-min(s.Applied, c.g.cfg.KeepEntries))
	if len(c.members.Voters) == 0 { // the members are not known yet
		cut = min(cut, c.bound(s, 0))
	}
	for _, id := range c.others() {
		cut = min(cut, c.needed(s, id, now))
	}
	if cut < s.FirstIndex {
		return 0
	}
	return cut
}

// needed returns the index up to which member id does not need the log.
func (c *compactor) needed(s Status, id uint64, now time.Time) uint64 {
	f := c.followers[id]
	if f == nil {
		f = &follower{seen: now}
		c.followers[id] = f
	}
	if now.Sub(f.seen) > c.g.cfg.LagTime {
		return s.Applied
	}
	return c.bound(s, f.applied)
}

// bound lets a member at index have what it needs of the log within the limits.
// One behind the log's start needs all of the log that there is, to continue after
// the snapshot it is about to get.
func (c *compactor) bound(s Status, index uint64) uint64 {
	index = max(index, s.FirstIndex-1)
	m := c.g.machine
	if s.Applied-min(s.Applied, index) > c.g.cfg.LagEntries || m.sizes.since(index, m.bytes.Load()) > c.g.cfg.LagBytes {
		return s.Applied
	}
	return index
}

// requestSnapshot takes a snapshot and cuts the log up to and including index
// cut, or not at all when that is 0.
func (g *Group) requestSnapshot(ctx context.Context, cut uint64) (uint64, error) {
	opt := dragonboat.SnapshotOption{OverrideCompactionOverhead: true, CompactionIndex: cut}
	if cut == 0 {
		opt = dragonboat.SnapshotOption{OverrideCompactionOverhead: true, CompactionOverhead: math.MaxUint64}
	}
	nh := g.enter()
	if nh == nil {
		return 0, ErrClosed
	}
	rs, err := nh.RequestSnapshot(g.shard, opt, snapshotTimeout)
	g.leave()
	if err != nil {
		return 0, err
	}
	select {
	case r := <-rs.ResultC():
		if r.Completed() {
			return r.SnapshotIndex(), nil
		}
		return 0, nil // nothing new to take a snapshot of, or the replica is closing
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
