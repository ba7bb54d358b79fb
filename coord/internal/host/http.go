package host

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/coord-dev/coord/coord/internal/peer"
)

// PathPrefix is the part of the peer port's URL space in which members ask each other what Dragonboat does not tell.
const PathPrefix = "/coord/raft/"

// GroupPath is where a member is asked about a shard.
func GroupPath(shard uint64, what string) string {
	return fmt.Sprintf("%sshards/%d/%s", PathPrefix, shard, what)
}

// maxAnswer bounds the answer of a peer in bytes.
const maxAnswer = 64 << 10

// handler serves our own paths on the peer port and leaves the others to the caller's handler. Peers may ask before a
// replica is there.
func (h *Host) handler() http.Handler {
	mux := http.NewServeMux()
	if h.cfg.PeerHandler != nil {
		mux.Handle("/", h.cfg.PeerHandler)
	}
	mux.HandleFunc(PathPrefix+"shards/{shard}/{what}", func(w http.ResponseWriter, r *http.Request) {
		shard, err := strconv.ParseUint(r.PathValue("shard"), 10, 64)
		if err != nil {
			http.Error(w, "a shard is a number", http.StatusBadRequest)
			return
		}
		replica := h.replicas.of(shard)
		if replica == nil {
			http.Error(w, fmt.Sprintf("this member has no replica of shard %d, or has not started it yet", shard),
				http.StatusServiceUnavailable)
			return
		}
		replica.ServePeer(w, r, r.PathValue("what"))
	})
	return mux
}

// CallPeer asks a member, at a path of its peer port, and returns the answer.
func (h *Host) CallPeer(ctx context.Context, method string, member uint64, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, peer.URL(member, path), nil)
	if err != nil {
		return nil, err
	}
	resp, err := h.Transport().Client().Do(req)
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
