package node

import (
	"errors"
	"time"

	"github.com/lni/dragonboat/v4"
)

// proposalTimeout is how long Dragonboat remembers a proposal to report on it.
// Nothing depends on the report but Events.Dropped.
const proposalTimeout = 5 * time.Second

// Propose implements Raft.
func (n *Node) Propose(entry []byte) error {
	if len(entry) == 0 {
		return errors.New("propose: empty entry")
	}
	if n.removed.Load() || !n.enter() {
		return ErrClosed
	}
	rs, err := n.host.Propose(n.session, entry, proposalTimeout)
	n.leave()
	switch {
	case err == nil:
		n.reaper.take(rs)
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

// reaper waits for what Dragonboat says about each proposal, to give its request
// state back to Dragonboat's pool and to hear of proposals that were dropped.
type reaper struct {
	n     *Node
	queue chan *dragonboat.RequestState
}

// reaperQueue is more than the proposals a busy server has under way. Those past
// it are left to the garbage collector.
const reaperQueue = 4096

func newReaper(n *Node) *reaper {
	return &reaper{n: n, queue: make(chan *dragonboat.RequestState, reaperQueue)}
}

func (r *reaper) take(rs *dragonboat.RequestState) {
	select {
	case r.queue <- rs:
	default:
	}
}

func (r *reaper) run() {
	for {
		select {
		case <-r.n.ctx.Done():
			return
		case rs := <-r.queue:
			r.reap(rs)
		}
	}
}

func (r *reaper) reap(rs *dragonboat.RequestState) {
	select {
	case <-r.n.ctx.Done():
	case result := <-rs.AppliedC():
		if result.Dropped() {
			r.n.events.dropped()
		}
		rs.Release()
	}
}
