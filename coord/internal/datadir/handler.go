package datadir

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

const (
	membersPath   = "/members"
	introducePath = "/coord/introduce"
	// clusterHeader carries the cluster's id, as etcd's peers send it.
	clusterHeader = "X-Etcd-Cluster-ID"
	// protocol is what an introduction upgrades to: the handshake of package handshake.
	protocol = "coord-introduce"
)

// A Member is one member as GET /members shows it: the JSON is etcd's.
type Member struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// Started reports whether the member has published itself, which it does once it takes part in Raft.
func (m *Member) Started() bool { return len(m.ClientURLs) > 0 }

// Cluster is what the handler needs to know of the cluster. Both functions are safe for concurrent use and fast.
type Cluster struct {
	// Members returns the members as far as this one knows them: those of the initial cluster before Raft runs. A
	// member has ClientURLs only if it has published them itself.
	Members func() []Member
	// Removed reports whether a member with this id was removed from the cluster.
	Removed func(id uint64) bool
	// Version is the cluster's version as far as this member has applied the log, 0 before it has.
	Version func() raftv1.Version
	// History is the identity of the history that this member has applied, 0 before it has.
	History func() uint64
}

// Handler serves GET /members and GET /coord/introduce, for the port on which peers are served. It needs a directory
// with an identity (after Open unless Fresh, after Init otherwise) and must be served before Raft starts: the members
// of a new cluster introduce themselves to each other.
func (d *Dir) Handler(c Cluster) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+membersPath, func(w http.ResponseWriter, r *http.Request) { d.serveMembers(w, c) })
	mux.HandleFunc("GET "+introducePath, func(w http.ResponseWriter, r *http.Request) { d.serveIntroduction(w, r, c) })
	return mux
}

func (d *Dir) serveMembers(w http.ResponseWriter, c Cluster) {
	w.Header().Set(clusterHeader, strconv.FormatUint(d.Identity().ClusterID, 16))
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(c.Members()); err != nil {
		d.log.Warn("answer a peer", zap.Error(err))
	}
}

// serveIntroduction shakes hands with a member that asks to be introduced.
func (d *Dir) serveIntroduction(w http.ResponseWriter, r *http.Request, c Cluster) {
	if r.Header.Get("Upgrade") != protocol {
		w.Header().Set("Upgrade", protocol)
		http.Error(w, "only for upgrades to "+protocol, http.StatusUpgradeRequired)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return
	}
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n"
	if _, err := io.WriteString(conn, switching); err != nil {
		return
	}
	rw := struct {
		io.Reader
		io.Writer
	}{buffered.Reader, conn}
	if from, err := handshake.Accept(rw, d.party(c), handshake.Ask, handshake.Introduce); err != nil {
		d.log.Warn("introduction not accepted", zap.Stringer("member", hexID(from.Member)),
			zap.Stringer("incarnation", from.Fingerprint), zap.Error(err))
	}
}
