package datadir

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"go.uber.org/zap"
)

const (
	membersPath   = "/members"
	introducePath = "/coord/introduce"
	// clusterHeader carries the cluster's id, as etcd's peers send it.
	clusterHeader = "X-Etcd-Cluster-ID"
	// refusalHeader tells, beside 409, why: refusedWiped, or anything else for other reasons.
	refusalHeader = "X-Coord-Refusal"
	refusedWiped  = "wiped"
	// maxIntroduction bounds the body of an introduction.
	maxIntroduction = 4096
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
}

// introduction is the body of POST /coord/introduce.
type introduction struct {
	ClusterID   hexID `json:"clusterID"`
	MemberID    hexID `json:"memberID"`
	Incarnation hexID `json:"incarnation"`
	// Fresh: the sender has never taken part in Raft from its directory.
	Fresh bool `json:"fresh"`
	// Record asks to record the incarnation. Without it the answer only says whether it would be, so that a member
	// refused by one peer has left no trace at the others.
	Record bool `json:"record"`
}

// acquaintance is the body of the answer 200.
type acquaintance struct {
	ClusterID   hexID `json:"clusterID"`
	MemberID    hexID `json:"memberID"`
	Incarnation hexID `json:"incarnation"`
	// Peers is what the answering member knows of others.
	Peers map[hexID]hexID `json:"peers"`
}

// Handler serves GET /members and POST /coord/introduce, for the port on which peers are served. It needs a directory
// with an identity (after Open unless Fresh, after Init otherwise) and must be served before Raft starts: the members of
// a new cluster introduce themselves to each other.
//
// An introduction is answered with 200 once it has been recorded, with 409 and a reason if the member must not start,
// and with 503 if it should ask again.
func (d *Dir) Handler(c Cluster) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+membersPath, func(w http.ResponseWriter, r *http.Request) { d.serveMembers(w, c) })
	mux.HandleFunc("POST "+introducePath, func(w http.ResponseWriter, r *http.Request) { d.serveIntroduction(w, r, c) })
	return mux
}

func (d *Dir) serveMembers(w http.ResponseWriter, c Cluster) {
	w.Header().Set(clusterHeader, strconv.FormatUint(d.Identity().ClusterID, 16))
	d.writeJSON(w, c.Members())
}

func (d *Dir) serveIntroduction(w http.ResponseWriter, r *http.Request, c Cluster) {
	w.Header().Set(clusterHeader, strconv.FormatUint(d.Identity().ClusterID, 16))
	var in introduction
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxIntroduction)).Decode(&in); err != nil {
		http.Error(w, "bad introduction: "+err.Error(), http.StatusBadRequest)
		return
	}
	if err := d.receive(in, c); err != nil {
		d.log.Warn("introduction not accepted", zap.Stringer("member", in.MemberID), zap.Stringer("incarnation", in.Incarnation), zap.Error(err))
		answerRefused(w, err)
		return
	}
	m := d.current()
	d.writeJSON(w, acquaintance{ClusterID: m.ClusterID, MemberID: m.MemberID, Incarnation: m.Incarnation, Peers: m.Peers})
}

// errNotYet: the answer may be another one later.
var errNotYet = errors.New("not a member of this cluster as far as this member knows")

func answerRefused(w http.ResponseWriter, err error) {
	status := http.StatusServiceUnavailable
	if errors.Is(err, ErrWiped) {
		w.Header().Set(refusalHeader, refusedWiped)
	}
	if isRefusal(err) {
		status = http.StatusConflict
	}
	http.Error(w, err.Error(), status)
}

// receive decides about an introduction and records it. Its error says what to do about it, for the member refused.
func (d *Dir) receive(in introduction, c Cluster) error {
	self := d.current()
	if in.ClusterID != self.ClusterID {
		return refuse(ErrRefused, "this is a member of cluster %s, not of cluster %s: compare --initial-cluster and --initial-cluster-token of the members", self.ClusterID, in.ClusterID)
	}
	if in.MemberID == self.MemberID {
		return refuse(ErrRefused, "this is member %s itself: two members must not share a peer URL", self.MemberID)
	}
	if c.Removed(uint64(in.MemberID)) {
		return refuse(ErrRefused, "member %s was removed from the cluster and its ID cannot return: add it again as a learner under a new ID with an empty data directory, then promote it", in.MemberID)
	}
	if known, met := self.Peers[in.MemberID]; met {
		return d.checkPeer(in.MemberID, known, in.Incarnation)
	}
	return d.meet(in, c)
}

// meet decides about a member of which nothing was known.
func (d *Dir) meet(in introduction, c Cluster) error {
	members := c.Members()
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == uint64(in.MemberID) })
	if i < 0 {
		return errNotYet
	}
	if in.Fresh && members[i].Started() {
		return refuse(ErrWiped, "member %s (%s) has already been bootstrapped and this data directory is new: its data directory was wiped or replaced; %s", in.MemberID, members[i].Name, fix)
	}
	if !in.Record {
		return nil
	}
	return d.NotePeer(uint64(in.MemberID), uint64(in.Incarnation))
}

func (d *Dir) writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		d.log.Warn("answer a peer", zap.Error(err))
	}
}
