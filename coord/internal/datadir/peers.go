package datadir

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// PeerRecords is the record of the peers for the handshakes with them. c is what is known of the cluster.
func (d *Dir) PeerRecords(c Cluster) handshake.PeerRecords { return peerRecords{d, c} }

// Party is this member's side of a handshake.
func (d *Dir) party(c Cluster) handshake.Party {
	m := d.current()
	return handshake.Party{PeerRecords: peerRecords{d, c}, Self: handshake.Identity{
		Cluster: uint64(m.ClusterID), Member: uint64(m.MemberID), Incarnation: m.Incarnation.Incarnation,
		Boot: m.Boot, Start: d.start, Fresh: !m.Admitted,
	}}
}

type peerRecords struct {
	d *Dir
	c Cluster
}

// Version implements handshake.PeerRecords.
func (r peerRecords) Version() raftv1.Version {
	if r.c.Version == nil {
		return 0
	}
	return r.c.Version()
}

// History implements handshake.PeerRecords.
func (r peerRecords) History() uint64 {
	if r.c.History == nil {
		return 0
	}
	return r.c.History()
}

// Known implements handshake.PeerRecords.
func (r peerRecords) Known(member uint64) (handshake.Incarnation, bool) {
	a, _ := r.d.peer(member)
	return a.Incarnation.Incarnation, a.met()
}

// errNotYet: the answer may be another one later.
var errNotYet = errors.New("not a member of this cluster as far as this member knows")

// Judge implements handshake.PeerRecords: it refuses who was removed, who is known by another directory, and a new
// directory for a member that nobody has met but that has published itself.
//
// Who comes for raft's sake need not be among the members known here: it may be the leader from whom this member has
// yet to hear of it. Who wants to be introduced can wait.
func (r peerRecords) Judge(h handshake.Hello) error {
	if r.c.Removed != nil && r.c.Removed(h.Member) {
		return handshake.RefuseRemoved(h.Member)
	}
	if a, heard := r.d.peer(h.Member); heard {
		return checkPeer(h.Member, a.Fingerprint.Fingerprint, h.Fingerprint)
	}
	if r.c.Members == nil || h.Purpose != handshake.Ask && h.Purpose != handshake.Introduce {
		return nil
	}
	members := r.c.Members()
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == h.Member })
	if i < 0 {
		return errNotYet
	}
	if h.Fresh && members[i].Started() {
		return handshake.Refuse(handshake.Wiped, "member %x (%s) has already been bootstrapped and this data "+
			"directory is new: its data directory was wiped or replaced; %s", h.Member, members[i].Name, fix)
	}
	return nil
}

func checkPeer(member uint64, known, shown handshake.Fingerprint) error {
	if known == shown {
		return nil
	}
	return handshake.Refuse(handshake.Wiped, "member %x has incarnation %s but was known as %s: its data directory "+
		"was wiped or replaced; %s", member, shown, known, fix)
}

// Record implements handshake.PeerRecords. When it returns nil, the incarnation has been recorded durably, now or
// before.
func (r peerRecords) Record(member uint64, i handshake.Incarnation) error {
	d := r.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta == nil {
		return d.noIdentity()
	}
	a, heard := d.meta.Peers[hexID(member)]
	if heard {
		if err := checkPeer(member, a.Fingerprint.Fingerprint, i.Fingerprint()); err != nil {
			return err
		}
	}
	if a.met() {
		return nil
	}
	m := d.meta.clone()
	if !heard {
		r.makeRoom(&m)
	}
	if len(m.Peers) >= maxPeers && !heard {
		return fmt.Errorf("%d members are on record here already", len(m.Peers))
	}
	m.Peers[hexID(member)] = metWith(i)
	return d.storeLocked(m)
}

// maxPeers bounds the members on record. A cluster has a few; more are of somebody who makes them up.
const maxPeers = 256

// makeRoom drops those that are not members as far as this member knows, once there are too many.
func (r peerRecords) makeRoom(m *metadata) {
	if len(m.Peers) < maxPeers || r.c.Members == nil {
		return
	}
	members := r.c.Members()
	maps.DeleteFunc(m.Peers, func(id hexID, _ acquaintance) bool {
		return !slices.ContainsFunc(members, func(each Member) bool { return each.ID == uint64(id) })
	})
}

// Heard implements handshake.PeerRecords.
func (r peerRecords) Heard() map[uint64]handshake.Fingerprint {
	heard := make(map[uint64]handshake.Fingerprint)
	for id, a := range r.d.current().Peers {
		heard[uint64(id)] = a.Fingerprint.Fingerprint
	}
	return heard
}

// Learn implements handshake.PeerRecords. What is known already stays: the first sight counts.
func (r peerRecords) Learn(told map[uint64]handshake.Fingerprint) error {
	d, m := r.d, r.d.current()
	fresh := maps.Clone(told)
	maps.DeleteFunc(fresh, func(id uint64, f handshake.Fingerprint) bool {
		had, heard := m.Peers[hexID(id)]
		if heard && had.Fingerprint.Fingerprint != f {
			d.log.Warn("members disagree about an incarnation", zap.Stringer("member", hexID(id)),
				zap.Stringer("known", had.Fingerprint), zap.Stringer("told", f))
		}
		return heard || hexID(id) == m.MemberID || r.c.Removed != nil && r.c.Removed(id)
	})
	if len(fresh) == 0 {
		return nil
	}
	return d.update(func(m *metadata) {
		for id, f := range fresh {
			if len(m.Peers) >= maxPeers {
				break
			}
			if _, heard := m.Peers[hexID(id)]; !heard {
				m.Peers[hexID(id)] = acquaintance{Fingerprint: fingerprint{f}}
			}
		}
	})
}

// peer is what is on record of another member. It writes nothing.
func (d *Dir) peer(id uint64) (acquaintance, bool) {
	a, heard := d.current().Peers[hexID(id)]
	return a, heard
}

// ForgetPeer drops what is known of a member that was removed from the cluster, durably.
func (d *Dir) ForgetPeer(id uint64) error {
	if _, heard := d.peer(id); !heard {
		return nil
	}
	return d.update(func(m *metadata) { delete(m.Peers, hexID(id)) })
}
