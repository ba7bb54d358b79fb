package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/peer"
)

// Paths on the peer port by which members ask each other what Dragonboat does
// not tell.
const (
	// PathPrefix is the part of the peer port's URL space that belongs to Node.
	PathPrefix       = "/coord/raft/"
	progressPath     = PathPrefix + "progress"
	barrierPath      = PathPrefix + "barrier"
	leaderReportPath = PathPrefix + "leader"
)

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

// maxAnswer bounds the answer of a peer in bytes.
const maxAnswer = 64 << 10

func (n *Node) serveProgress(w http.ResponseWriter, _ *http.Request) {
	s := n.Status()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Progress{
		Cluster: n.cfg.ClusterID, Member: n.cfg.Replica, Shard: n.cfg.Shard,
		Leader: s.Leader, Term: s.Term, Applied: s.Applied, First: s.FirstIndex, Last: s.LastIndex,
	})
}

// serveBarrier answers when this member has applied everything committed when it
// was asked.
func (n *Node) serveBarrier(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.URL.Query().Get("timeout_ms"))
	if err != nil || ms <= 0 {
		http.Error(w, "timeout_ms must be a positive number", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(ms)*time.Millisecond)
	defer cancel()
	if err := n.ReadIndex(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// PeerProgress asks a member how far it is.
func (n *Node) PeerProgress(ctx context.Context, member uint64) (Progress, error) {
	body, err := n.callPeer(ctx, http.MethodGet, member, progressPath)
	if err != nil {
		return Progress{}, err
	}
	var p Progress
	if err := json.Unmarshal(body, &p); err != nil {
		return Progress{}, fmt.Errorf("progress of member %x: %w", member, err)
	}
	if p.Cluster != n.cfg.ClusterID || p.Member != member || p.Shard != n.cfg.Shard {
		return Progress{}, fmt.Errorf("progress of member %x: answered by member %x of cluster %x", member, p.Member, p.Cluster)
	}
	return p, nil
}

// progressOf asks several members at once and returns what those said that
// answered. This member itself is not asked.
func (n *Node) progressOf(ctx context.Context, members []uint64) []Progress {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []Progress
	for _, id := range members {
		if id == n.cfg.Replica {
			continue
		}
		wg.Go(func() {
			defer guard.Recover(n.cfg.Logger, "progress of peers")
			p, err := n.PeerProgress(ctx, id)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, p)
		})
	}
	wg.Wait()
	return all
}

// peerBarrier returns when member has applied everything committed by now.
func (n *Node) peerBarrier(ctx context.Context, member uint64) error {
	if member == n.cfg.Replica {
		return n.ReadIndex(ctx)
	}
	wait := changeTimeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(time.Millisecond, time.Until(deadline))
	}
	_, err := n.callPeer(ctx, http.MethodPost, member, fmt.Sprintf("%s?timeout_ms=%d", barrierPath, wait.Milliseconds()))
	return err
}

func (n *Node) callPeer(ctx context.Context, method string, member uint64, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, peer.URL(member, path), nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.Transport().Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("member %x: %s: %s", member, resp.Status, oneLine(string(body)))
	}
	return body, nil
}
