package node

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// A member that is removed need not hear of it through raft: the leader stops
// talking to it as soon as it has applied the change itself. So a member without
// a leader asks the others from time to time whether it still belongs to them.
const (
	outcastInterval = time.Second
	// outcastAfter is how many looks in a row must find no leader.
	outcastAfter = 2
)

// memberList is what members tell each other about the group.
type memberList struct {
	Cluster    uint64
	Shard      uint64
	Membership Membership
}

func (n *Node) serveMembers(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), progressTimeout)
	defer cancel()
	m, err := n.Membership(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(memberList{n.cfg.ClusterID, n.cfg.Shard, m})
}

// markRemoved ends the service of this member.
func (n *Node) markRemoved() {
	n.goneOnce.Do(func() {
		close(n.gone)
		n.events.note(func(p *pendingEvents) { p.removed = true })
	})
}

// watchRemoval runs until the node closes or is found to be removed.
func (n *Node) watchRemoval() {
	tick := time.NewTicker(outcastInterval)
	defer tick.Stop()
	for leaderless := 0; ; {
		select {
		case <-n.ctx.Done():
			return
		case <-n.gone:
			return
		case <-tick.C:
		}
		if leaderless++; n.Status().Leader != 0 {
			leaderless = 0
		}
		if leaderless >= outcastAfter && n.removedByOthers() {
			n.markRemoved()
		}
	}
}

// removedByOthers asks until one member of the group answers.
func (n *Node) removedByOthers() bool {
	ctx, cancel := context.WithTimeout(n.ctx, 2*progressTimeout)
	defer cancel()
	for _, id := range n.book.Members() {
		if id == n.cfg.Replica {
			continue
		}
		body, err := n.callPeer(ctx, http.MethodGet, id, membersPath)
		if err != nil {
			continue
		}
		var l memberList
		if json.Unmarshal(body, &l) == nil && l.Cluster == n.cfg.ClusterID && l.Shard == n.cfg.Shard {
			return slices.Contains(l.Membership.Removed, n.cfg.Replica)
		}
	}
	return false
}
