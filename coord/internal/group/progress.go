package group

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/host"
)

// What members ask each other about a group, below host.GroupPath, because Dragonboat does not tell it.
const (
	askProgress = "progress"
	askBarrier  = "barrier"
	askLeader   = "leader"
)

// ServePeer implements host.Replica.
func (g *Group) ServePeer(w http.ResponseWriter, r *http.Request, what string) {
	if !g.isOpen() {
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	switch r.Method + " " + what {
	case "GET " + askProgress:
		g.serveProgress(w, r)
	case "GET " + askLeader:
		g.serveLeaderReport(w, r)
	case "POST " + askBarrier:
		g.serveBarrier(w, r)
	default:
		http.NotFound(w, r)
	}
}

// askPeer asks a member.
func (g *Group) askPeer(ctx context.Context, method string, member uint64, what string) ([]byte, error) {
	return g.host.CallPeer(ctx, method, member, host.GroupPath(g.shard, what))
}

// Progress is how far a member is.
type Progress struct {
	Cluster uint64 `json:"cluster"`
	Member  uint64 `json:"member"`
	Shard   uint64 `json:"shard"`
	Leader  uint64 `json:"leader"`
	Term    uint64 `json:"term"`
	// Applied, First and Last are Status.Applied, FirstIndex and LastIndex.
	Applied uint64 `json:"applied"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
}

func (g *Group) serveProgress(w http.ResponseWriter, _ *http.Request) {
	s := g.Status()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Progress{
		Cluster: g.host.ClusterID(), Member: g.member, Shard: g.shard,
		Leader: s.Leader, Term: s.Term, Applied: s.Applied, First: s.FirstIndex, Last: s.LastIndex,
	})
}

// serveBarrier answers when this member has applied everything committed when it
// was asked.
func (g *Group) serveBarrier(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.URL.Query().Get("timeout_ms"))
	if err != nil || ms <= 0 {
		http.Error(w, "timeout_ms must be a positive number", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(ms)*time.Millisecond)
	defer cancel()
	if err := g.ReadIndex(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// PeerProgress asks a member how far it is.
func (g *Group) PeerProgress(ctx context.Context, member uint64) (Progress, error) {
	body, err := g.askPeer(ctx, http.MethodGet, member, askProgress)
	if err != nil {
		return Progress{}, err
	}
	var p Progress
	if err := json.Unmarshal(body, &p); err != nil {
		return Progress{}, fmt.Errorf("progress of member %x: %w", member, err)
	}
	if p.Cluster != g.host.ClusterID() || p.Member != member || p.Shard != g.shard {
		return Progress{}, fmt.Errorf("progress of member %x: answered by member %x of cluster %x, shard %d", member,
			p.Member, p.Cluster, p.Shard)
	}
	return p, nil
}

// progressOf asks several members at once and returns what those said that
// answered. This member itself is not asked.
func (g *Group) progressOf(ctx context.Context, members []uint64) []Progress {
	return atOnce(g, members, func(id uint64) (Progress, error) { return g.PeerProgress(ctx, id) })
}

// atOnce asks several members at once and returns the answers that came. This member itself is not asked.
func atOnce[Answer any](g *Group, members []uint64, ask func(member uint64) (Answer, error)) (all []Answer) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, id := range members {
		if id == g.member {
			continue
		}
		wg.Go(func() {
			defer guard.Recover(g.log, "asking members")
			answer, err := ask(id)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, answer)
		})
	}
	wg.Wait()
	return all
}

// peerBarrier returns when member has applied everything committed by now.
func (g *Group) peerBarrier(ctx context.Context, member uint64) error {
	if member == g.member {
		return g.ReadIndex(ctx)
	}
	wait := changeTimeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(time.Millisecond, time.Until(deadline))
	}
	_, err := g.askPeer(ctx, http.MethodPost, member, fmt.Sprintf("%s?timeout_ms=%d", askBarrier, wait.Milliseconds()))
	return err
}
