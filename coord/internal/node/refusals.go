package node

import (
	"maps"
	"slices"
	"sync"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// refusals has the voters that do not let this member in. A member that is removed need not hear of it through raft: the
// leader stops talking to it as soon as it has applied the change itself. It hears it in the handshake.
//
// What one peer says is never enough: behind an address may be anybody. A refusal counts from a peer that proved itself by
// the incarnation on record here, and this member stops when a majority of the voters it knows refuses it at the same time.
// That is what had to agree to the removal, and what this member would need for anything that it could do.
type refusals struct {
	self   uint64
	voters func() []uint64
	// hear is told of each refusal, counted or not; stop once those of a majority stand.
	hear, stop func(*handshake.RefusedError)

	mu sync.Mutex
	by map[uint64]*handshake.RefusedError
}

func newRefusals(n *Node) *refusals {
	r := &refusals{self: n.cfg.Replica, voters: n.voters, hear: n.cfg.Refused, stop: n.stopFor, by: make(map[uint64]*handshake.RefusedError)}
	if r.hear == nil {
		r.hear = func(*handshake.RefusedError) {}
	}
	return r
}

// refused is told of each refusal.
func (r *refusals) refused(err *handshake.RefusedError) {
	r.hear(err)
	if err.Local || !err.Proven || !final(err.Kind) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by[err.Peer] = err
	if why := r.majority(); why != nil {
		r.stop(why)
	}
}

// final says whether a refusal is meant for good.
func final(k handshake.Kind) bool {
	switch k {
	case handshake.Wiped, handshake.Removed, handshake.Copy, handshake.Refused, handshake.OtherVersion, handshake.OtherHistory:
		return true
	}
	return false
}

// admitted is told when a peer let this member in.
func (r *refusals) admitted(member uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.by, member)
}

// majority returns one of the refusals if they are those of a majority of the voters. Of two voters the other one is
// enough: without it there is no quorum either.
func (r *refusals) majority() (why *handshake.RefusedError) {
	voters := r.voters()
	others := slices.DeleteFunc(slices.Clone(voters), func(id uint64) bool { return id == r.self })
	against := 0
	for _, id := range others {
		if err := r.by[id]; err != nil {
			against++
			if why == nil || err.Kind == handshake.Removed {
				why = err
			}
		}
	}
	if against == 0 || against < min(len(voters)/2+1, len(others)) {
		return nil
	}
	return why
}

// voters are the voters as far as this member has applied the log, none before the replica is there. Nobody is asked.
func (n *Node) voters() []uint64 {
	select {
	case <-n.opened:
	default:
		return nil
	}
	info, _ := n.shardInfo()
	return slices.Sorted(maps.Keys(info.Replicas))
}

// stopFor ends the service of this member, which the others do not let in.
func (n *Node) stopFor(why *handshake.RefusedError) {
	if why.Kind == handshake.Removed {
		n.markRemoved()
		return
	}
	n.goneOnce.Do(func() {
		close(n.gone)
		n.events.note(func(p *pendingEvents) { p.outcast = why })
	})
}

// markRemoved ends the service of this member.
func (n *Node) markRemoved() {
	n.goneOnce.Do(func() {
		close(n.gone)
		n.events.note(func(p *pendingEvents) { p.removed = true })
	})
}
