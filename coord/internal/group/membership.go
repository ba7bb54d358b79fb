package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/coord-dev/coord/coord/internal/peer"
)

const (
	// changeTimeout bounds one attempt at a membership change or a look at the
	// members; a request can be lost on its way to the leader.
	changeTimeout = time.Second
	// changePause lies between two attempts when nothing better is known to wait for.
	changePause = 20 * time.Millisecond
)

// Membership implements Raft.
func (g *Group) Membership(ctx context.Context) (Membership, error) {
	for {
		m, err := g.askMembership(ctx)
		if err == nil {
			return m, nil
		}
		if err := g.pause(ctx, changePause); err != nil {
			return Membership{}, err
		}
	}
}

func (g *Group) askMembership(ctx context.Context) (Membership, error) {
	ctx, cancel := g.attempt(ctx)
	defer cancel()
	nh := g.enter()
	if nh == nil {
		return Membership{}, ErrClosed
	}
	m, err := nh.SyncGetShardMembership(ctx, g.shard)
	g.leave()
	if err != nil {
		return Membership{}, err
	}
	return Membership{
		Version:  m.ConfigChangeID,
		Voters:   slices.Sorted(maps.Keys(m.Nodes)),
		Learners: slices.Sorted(maps.Keys(m.NonVotings)),
		Removed:  slices.Sorted(maps.Keys(m.Removed)),
	}, nil
}

// attempt returns a context for one request to Dragonboat, which ends with the
// group, so that Close does not wait for it.
func (g *Group) attempt(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	stop := context.AfterFunc(g.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// pause waits for d; an error means that ctx or the group ended.
func (g *Group) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-g.gone:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case <-g.ctx.Done():
		return ErrClosed
	}
}

// change is one kind of membership change.
type change struct {
	name string
	// refuse says why the change cannot be made to m, or nil.
	refuse func(m Membership) error
	// check is the caller's refuse.
	check Check
	// done says whether m is as the change makes it.
	done func(m Membership) bool
	// request hands the change to Dragonboat, for the version of the members seen.
	request func(nh *dragonboat.NodeHost, version uint64) (*dragonboat.RequestState, error)
}

// maxRemoved bounds the members that were ever removed: their ids are kept for ever, and are part of every chunk of a
// snapshot. What removes is never refused.
const maxRemoved = 10_000

// checkAdd says why a member cannot be added to m.
func checkAdd(m Membership, member uint64) error {
	switch {
	case slices.Contains(m.Removed, member):
		return errors.New("this id was removed and cannot be used again")
	case isMember(m, member):
		return errors.New("it is a member already")
	case len(m.Removed) >= maxRemoved:
		return fmt.Errorf("%w: %d members were removed from this cluster, whose ids are kept for ever: restore a "+
			"snapshot into a new cluster, which begins without them", ErrNoMoreMembers, len(m.Removed))
	}
	return nil
}

// AddLearner implements Raft. The member's address must be in the Book.
func (g *Group) AddLearner(ctx context.Context, member uint64, check Check) error {
	return g.change(ctx, member, change{
		name: "add learner", check: check,
		refuse: func(m Membership) error { return checkAdd(m, member) },
		done:   func(m Membership) bool { return isMember(m, member) },
		request: func(nh *dragonboat.NodeHost, version uint64) (*dragonboat.RequestState, error) {
			return nh.RequestAddNonVoting(g.shard, member, peer.Target(member), version, changeTimeout)
		},
	})
}

// Promote implements Raft. The caller makes sure that the learner has caught up.
func (g *Group) Promote(ctx context.Context, member uint64, check Check) error {
	return g.change(ctx, member, change{
		name: "promote", check: check,
		refuse: func(m Membership) error {
			if !slices.Contains(m.Learners, member) {
				return errors.New("it is not a learner")
			}
			return nil
		},
		done: func(m Membership) bool { return slices.Contains(m.Voters, member) },
		request: func(nh *dragonboat.NodeHost, version uint64) (*dragonboat.RequestState, error) {
			return nh.RequestAddReplica(g.shard, member, peer.Target(member), version, changeTimeout)
		},
	})
}

// Remove implements Raft.
func (g *Group) Remove(ctx context.Context, member uint64, check Check) error {
	return g.change(ctx, member, change{
		name: "remove", check: check,
		refuse: func(m Membership) error {
			switch {
			case !isMember(m, member):
				return errors.New("it is not a member")
			case len(m.Voters) == 1 && m.Voters[0] == member:
				return errors.New("it is the only voter")
			}
			return nil
		},
		done: func(m Membership) bool { return !isMember(m, member) },
		request: func(nh *dragonboat.NodeHost, version uint64) (*dragonboat.RequestState, error) {
			return nh.RequestDeleteReplica(g.shard, member, version, changeTimeout)
		},
	})
}

// Exclude implements Raft.
func (g *Group) Exclude(ctx context.Context, member uint64) error {
	return g.change(ctx, member, change{
		name: "exclude",
		refuse: func(m Membership) error {
			if isMember(m, member) {
				return errors.New("it is a member")
			}
			return nil
		},
		done: func(m Membership) bool { return slices.Contains(m.Removed, member) },
		request: func(nh *dragonboat.NodeHost, version uint64) (*dragonboat.RequestState, error) {
			return nh.RequestDeleteReplica(g.shard, member, version, changeTimeout)
		},
	})
}

func isMember(m Membership, id uint64) bool {
	return slices.Contains(m.Voters, id) || slices.Contains(m.Learners, id)
}

// change makes a change once, however often it has to ask: each request names
// the version of the members it was made for, and is rejected if any other change
// came first.
func (g *Group) change(ctx context.Context, member uint64, c change) error {
	var at uint64 // the version of the last request, which cannot be executed any more when there is another
	for asked := false; ; {
		m, err := g.Membership(ctx)
		if err != nil {
			return g.interrupted(err, member, c, asked)
		}
		if asked && c.done(m) {
			return nil
		}
		err = c.refuse(m)
		if err == nil && c.check != nil {
			err = c.check(m)
		}
		if err != nil && asked && at == m.Version {
			err = fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		if err != nil {
			return fmt.Errorf("%s %x: %w: %w", c.name, member, ErrRejected, err)
		}
		switch g.ask(ctx, m.Version, c) {
		case applied:
			return nil
		case sent:
			asked, at = true, m.Version
		}
		if err := g.pause(ctx, changePause); err != nil {
			return g.interrupted(err, member, c, asked)
		}
	}
}

// interrupted says what an end before the outcome means. A member that removed
// itself is told by its own end.
func (g *Group) interrupted(err error, member uint64, c change, asked bool) error {
	switch {
	case member == g.member && g.removed() && asked:
		return nil
	case asked:
		return fmt.Errorf("%s %x: %w: %w", c.name, member, ErrUnknown, err)
	}
	return fmt.Errorf("%s %x: %w", c.name, member, err)
}

// outcome is what is known after one request.
type outcome int

const (
	notSent outcome = iota // certainly without effect
	sent                   // rejected, lost, or still under way
	applied
)

func (g *Group) ask(ctx context.Context, version uint64, c change) outcome {
	ctx, cancel := g.attempt(ctx)
	defer cancel()
	nh := g.enter()
	if nh == nil {
		return notSent
	}
	rs, err := c.request(nh, version)
	g.leave()
	if err != nil {
		return notSent
	}
	select {
	case r := <-rs.AppliedC():
		if r.Completed() {
			return applied
		}
		return sent
	case <-ctx.Done():
		return sent
	}
}
