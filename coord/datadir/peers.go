package datadir

import (
	"maps"

	"go.uber.org/zap"
)

// NotePeer remembers the incarnation of another member. When it returns nil, the incarnation has been recorded durably,
// now or before; call it before anything of that member's Raft traffic is accepted. An incarnation other than the one
// known is refused with ErrWiped.
func (d *Dir) NotePeer(id, incarnation uint64) error {
	if known, met := d.peer(id); met {
		return d.checkPeer(hexID(id), known, hexID(incarnation))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta == nil {
		return d.noIdentity()
	}
	if known, met := d.meta.Peers[hexID(id)]; met {
		return d.checkPeer(hexID(id), known, hexID(incarnation))
	}
	m := d.meta.clone()
	m.Peers[hexID(id)] = hexID(incarnation)
	return d.storeLocked(m)
}

func (d *Dir) checkPeer(id, known, incarnation hexID) error {
	if known == incarnation {
		return nil
	}
	return refuse(ErrWiped, "member %s has incarnation %s but was known as %s: its data directory was wiped or replaced; %s", id, incarnation, known, fix)
}

// peer is what is known of another member. It writes nothing.
func (d *Dir) peer(id uint64) (hexID, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta == nil {
		return 0, false
	}
	incarnation, met := d.meta.Peers[hexID(id)]
	return incarnation, met
}

// peers is a copy of all that is known of other members.
func (d *Dir) peers() map[hexID]hexID {
	return maps.Clone(d.current().Peers)
}

// ForgetPeer drops what is known of a member that was removed from the cluster, durably.
func (d *Dir) ForgetPeer(id uint64) error {
	if _, met := d.peer(id); !met {
		return nil
	}
	return d.update(func(m *metadata) { delete(m.Peers, hexID(id)) })
}

// learn takes over what another member knows. What is known already stays: the first sight counts.
func (d *Dir) learn(told map[hexID]hexID) error {
	self, known := hexID(d.Identity().MemberID), d.peers()
	fresh := maps.Clone(told)
	maps.DeleteFunc(fresh, func(id, incarnation hexID) bool {
		had, met := known[id]
		if met && had != incarnation {
			d.log.Warn("members disagree about an incarnation", zap.Stringer("member", id), zap.Stringer("known", had), zap.Stringer("told", incarnation))
		}
		return met || id == self
	})
	if len(fresh) == 0 {
		return nil
	}
	return d.update(func(m *metadata) {
		for id, incarnation := range fresh {
			if _, met := m.Peers[id]; !met {
				m.Peers[id] = incarnation
			}
		}
	})
}
