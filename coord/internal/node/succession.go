package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/guard"
)

// succession replaces a leader whose process has ended without waiting for the
// election timeout.
//
// When the leader's connections have ended and its host says that nobody listens
// at its address, a follower asks the others whether they see the same. If a
// majority of the voters does, the leader could not lead any more even if it
// lived, so an election disturbs nobody; the one among them with most of the log
// stands for it, and the election itself is raft's. When anything of this fails,
// for example because the leader's whole machine is gone, the timeout decides as
// ever.
type succession struct {
	n    *Node
	kick chan struct{}
}

// successionRetry lies between two looks: the others notice at other times.
const successionRetry = 10 * time.Millisecond

func newSuccession(n *Node) *succession { return &succession{n: n, kick: make(chan struct{}, 1)} }

// gone is told by the transport that a member's process seems to have ended.
func (s *succession) gone(member uint64) {
	if leader, _ := s.n.Leader(); leader == member {
		signal(s.kick)
	}
}

func (s *succession) run() {
	for {
		select {
		case <-s.n.ctx.Done():
			return
		case <-s.kick:
			s.succeed()
		}
	}
}

// succeed looks again and again until there is another leader, the old one is
// back, or the election timeout does its work anyway.
func (s *succession) succeed() {
	ctx, cancel := context.WithTimeout(s.n.ctx, s.n.cfg.ElectionTimeout)
	defer cancel()
	dead, term := s.n.Leader()
	for dead != 0 && s.n.Transport().Gone(dead) {
		if leader, now := s.n.Leader(); leader != dead || now != term {
			return
		}
		if s.due(ctx, dead) {
			s.n.log.Info("leader's process has ended: standing for election", zap.String("leader", strconv.FormatUint(dead, 16)), zap.Uint64("term", term))
			s.n.Transport().CampaignNow(s.n.cfg.Shard)
		}
		if s.n.pause(ctx, successionRetry) != nil {
			return
		}
	}
}

// due says whether a majority of the voters lost the leader and this member is
// the one of them to stand for election.
func (s *succession) due(ctx context.Context, dead uint64) bool {
	info, ok := s.n.shardInfo()
	if _, voter := info.Replicas[s.n.cfg.Replica]; !ok || info.Pending || !voter {
		return false
	}
	self := s.n.leaderReport(dead)
	agree := 1
	for _, other := range s.ask(ctx, info, dead) {
		if !other.Gone || other.Leader != dead {
			continue
		}
		if agree++; other.ahead(self) {
			return false
		}
	}
	return agree > len(info.Replicas)/2
}

// leaderReport is what a follower says about a leader that may have ended.
type leaderReport struct {
	Cluster uint64 `json:"cluster"`
	Member  uint64 `json:"member"`
	// Leader is the leader it knows, Gone whether that one's process seems to have
	// ended.
	Leader uint64 `json:"leader"`
	Gone   bool   `json:"gone"`
	// LastTerm and Last are of the last entry of its log.
	LastTerm uint64 `json:"last_term"`
	Last     uint64 `json:"last"`
}

// ahead says whether r is to stand for election rather than other: votes go to
// the longer log.
func (r leaderReport) ahead(other leaderReport) bool {
	return cmp.Or(cmp.Compare(r.LastTerm, other.LastTerm), cmp.Compare(r.Last, other.Last),
		cmp.Compare(other.Member, r.Member)) > 0
}

func (n *Node) leaderReport(leader uint64) leaderReport {
	known, _ := n.Leader()
	b := leaderReport{Cluster: n.cfg.ClusterID, Member: n.cfg.Replica, Leader: known, Gone: n.Transport().Gone(leader)}
	_ = n.withLog(func(log dragonboat.ReadonlyLogReader) {
		_, b.Last = log.GetRange()
		b.LastTerm, _ = log.Term(b.Last)
	})
	return b
}

func (n *Node) serveLeaderReport(w http.ResponseWriter, r *http.Request) {
	leader, err := strconv.ParseUint(r.URL.Query().Get("leader"), 16, 64)
	if err != nil {
		http.Error(w, "leader must be a member's id in hex", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(n.leaderReport(leader))
}

// ask asks the other voters at once.
func (s *succession) ask(ctx context.Context, info dragonboat.ShardInfo, dead uint64) []leaderReport {
	ctx, cancel := context.WithTimeout(ctx, s.n.cfg.ElectionTimeout/3)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []leaderReport
	for id := range info.Replicas {
		if id == s.n.cfg.Replica || id == dead {
			continue
		}
		wg.Go(func() {
			defer guard.Recover(s.n.cfg.Logger, "succession")
			var b leaderReport
			body, err := s.n.callPeer(ctx, http.MethodGet, id, fmt.Sprintf("%s?leader=%x", leaderReportPath, dead))
			if err != nil || json.Unmarshal(body, &b) != nil || b.Cluster != s.n.cfg.ClusterID || b.Member != id {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, b)
		})
	}
	wg.Wait()
	return all
}
