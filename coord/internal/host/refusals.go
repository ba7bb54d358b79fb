package host

import (
	"slices"
	"sync"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// refusals has the voters that do not let this member in. A member that is removed need not hear of it through raft:
// the leader stops talking to it as soon as it has applied the change itself. It hears it in the handshake.
//
// What one peer says is never enough: behind an address may be anybody. A refusal counts from a peer that proved itself
// by the incarnation on record here, and this member stops when a majority of the voters it knows refuses it at the
// same time. That is what had to agree to the removal, and what this member would need for anything that it could do.
type refusals struct {
	self   uint64
	voters func() []uint64
	// hear is told of each refusal, counted or not; stop once those of a majority stand.
	hear, stop func(*handshake.RefusedError)

	mu sync.Mutex
	by map[uint64]*handshake.RefusedError
}

func newRefusals(h *Host) *refusals {
	voters := func() (ids []uint64) {
		h.replicas.tell(h.cfg.Voters, func(r Replica) { ids = r.Voters() })
		return ids
	}
	return &refusals{
		self: h.cfg.Member, voters: voters, hear: h.cfg.Refused, stop: h.stopFor,
		by: make(map[uint64]*handshake.RefusedError),
	}
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
	case handshake.Wiped, handshake.Removed, handshake.Copy, handshake.Refused, handshake.OtherVersion,
		handshake.OtherHistory:
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

// stopFor ends the service of this process, which the others do not let in, in all groups.
func (h *Host) stopFor(why *handshake.RefusedError) {
	h.outcast.Do(func() {
		h.replicas.each(func(r Replica) { r.Outcast(why) })
		h.cfg.Outcast(why)
	})
}
