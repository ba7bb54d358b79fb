package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
)

// TransferLeadership implements Raft. hold may be nil. It waits until target has
// applied everything, holds this member's proposals, lets target catch up with
// the rest, and hands over; it tries again until ctx ends. Proposals of other
// members are not held: some may be dropped at the moment of the hand-over, and
// are proposed again like any that are lost.
func (g *Group) TransferLeadership(ctx context.Context, target uint64, hold Hold) error {
	m, err := g.Membership(ctx)
	if err != nil {
		return fmt.Errorf("transfer leadership to %x: %w", target, err)
	}
	if !slices.Contains(m.Voters, target) {
		return fmt.Errorf("transfer leadership to %x: %w: it is not a voter", target, ErrRejected)
	}
	if hold == nil {
		hold = func() func() { return func() {} }
	}
	for attempt := 1; ; attempt++ {
		err := g.tryTransfer(ctx, target, hold)
		if err == nil {
			return nil
		}
		g.log.Info("leadership not transferred yet", zap.Uint64("target", target), zap.Int("attempt", attempt),
			zap.Error(err))
		if perr := g.pause(ctx, changePause); perr != nil {
			return fmt.Errorf("transfer leadership to %x: %w (%v)", target, perr, err)
		}
	}
}

// HandOver makes another voter the leader if this member leads, the one that is
// furthest with the log, and returns when it is. It returns nil at once when there
// is nothing to hand over or nobody to take it.
func (g *Group) HandOver(ctx context.Context, hold Hold) error {
	if !g.Status().IsLeader() {
		return nil
	}
	m, err := g.Membership(ctx)
	if err != nil {
		return fmt.Errorf("hand over leadership: %w", err)
	}
	target := g.furthest(ctx, m.Voters)
	if target == 0 {
		return nil
	}
	return g.TransferLeadership(ctx, target, hold)
}

// furthest returns the one of members, other than this, that answers and has most
// of the log; 0 for none.
func (g *Group) furthest(ctx context.Context, members []uint64) uint64 {
	ctx, cancel := context.WithTimeout(ctx, progressTimeout)
	defer cancel()
	var best Progress
	for _, p := range g.progressOf(ctx, members) {
		if p.Last > best.Last {
			best = p
		}
	}
	return best.Member
}

func (g *Group) tryTransfer(ctx context.Context, target uint64, hold Hold) error {
	leader, _ := g.events.leaderChange()
	switch leader {
	case target:
		return nil
	case 0:
		return ErrNoLeader
	}
	if err := g.catchUp(ctx, target, changeTimeout); err != nil {
		return err
	}
	release := hold()
	defer release()
	if err := g.catchUp(ctx, target, g.host.ElectionTimeout()); err != nil {
		return err
	}
	return g.handOver(ctx, target)
}

// catchUp waits until target has applied everything committed by now.
func (g *Group) catchUp(ctx context.Context, target uint64, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := g.peerBarrier(ctx, target); err != nil {
		return fmt.Errorf("wait for the target to catch up: %w", err)
	}
	return nil
}

// handOver asks for the transfer and waits for its outcome. Dragonboat gives up a
// transfer after an election timeout.
func (g *Group) handOver(ctx context.Context, target uint64) error {
	nh := g.enter()
	if nh == nil {
		return ErrClosed
	}
	err := nh.RequestLeaderTransfer(g.shard, target)
	g.leave()
	if err != nil {
		return err
	}
	timeout := time.NewTimer(g.host.ElectionTimeout() + g.host.Heartbeat())
	defer timeout.Stop()
	for {
		leader, changed := g.events.leaderChange()
		if leader == target {
			return nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return errors.New("the target did not take over")
		case <-ctx.Done():
			return ctx.Err()
		case <-g.ctx.Done():
			return ErrClosed
		}
	}
}
