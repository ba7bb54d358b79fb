package group

import (
	"errors"
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"
)

// proposalTimeout is how long Dragonboat remembers a proposal to report on it.
// Nothing depends on the report but Events.Dropped.
const proposalTimeout = 5 * time.Second

// Propose implements Raft.
func (g *Group) Propose(entry []byte) error {
	if len(entry) == 0 {
		return errors.New("propose: empty entry")
	}
	if g.removed() {
		return ErrClosed
	}
	if !g.isOpen() {
		return ErrBusy
	}
	nh := g.enter()
	if nh == nil {
		return ErrClosed
	}
	rs, err := nh.Propose(g.session, entry, proposalTimeout)
	g.leave()
	switch {
	case err == nil:
		g.reaper.take(rs)
		return nil
	case errors.Is(err, dragonboat.ErrSystemBusy), errors.Is(err, dragonboat.ErrShardNotReady):
		return ErrBusy
	case isClosed(err):
		return ErrClosed
	default:
		return err
	}
}

func isClosed(err error) bool {
	return errors.Is(err, dragonboat.ErrClosed) || errors.Is(err, dragonboat.ErrShardClosed) ||
		errors.Is(err, dragonboat.ErrShardNotFound)
}

// reaper looks after the request states of proposals: it gives those that are
// finished back to Dragonboat's pool, and hears of proposals that were dropped. It
// looks now and then instead of waiting for each, because one that was lost on
// its way to the leader stays unanswered for long.
type reaper struct {
	g       *Group
	queue   chan *dragonboat.RequestState
	waiting []*dragonboat.RequestState
}

const (
	// reaperQueue bounds the request states looked after. It is more than a busy
	// server has under way; those past it are left to the garbage collector.
	reaperQueue  = 4096
	reapInterval = 5 * time.Millisecond
)

func newReaper(g *Group) *reaper {
	return &reaper{g: g, queue: make(chan *dragonboat.RequestState, reaperQueue)}
}

func (r *reaper) take(rs *dragonboat.RequestState) {
	select {
	case r.queue <- rs:
	default:
	}
}

func (r *reaper) run() {
	var due <-chan time.Time // set while something is waiting
	for {
		select {
		case <-r.g.ctx.Done():
			return
		case rs := <-r.queue:
			if len(r.waiting) < reaperQueue {
				r.waiting = append(r.waiting, rs)
			}
			if due == nil {
				due = time.After(reapInterval)
			}
		case <-due:
			if due = nil; r.sweep() {
				due = time.After(reapInterval)
			}
		}
	}
}

// sweep releases what is finished and says whether anything is left.
func (r *reaper) sweep() bool {
	dropped := false
	r.waiting = slices.DeleteFunc(r.waiting, func(rs *dragonboat.RequestState) bool {
		select {
		case result := <-rs.AppliedC():
			dropped = dropped || result.Dropped()
			rs.Release()
			return true
		default:
			return false
		}
	})
	if dropped {
		r.g.events.dropped()
	}
	return len(r.waiting) > 0
}
