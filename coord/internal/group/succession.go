package group

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/lni/dragonboat/v4"
	"go.uber.org/zap"
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
	g    *Group
	kick chan struct{}
}

// successionRetry lies between two looks: the others notice at other times.
const successionRetry = 10 * time.Millisecond

func newSuccession(g *Group) *succession { return &succession{g: g, kick: make(chan struct{}, 1)} }

// MemberGone implements host.Replica.
func (g *Group) MemberGone(member uint64) {
	if leader, _ := g.Leader(); leader == member {
		signal(g.succession.kick)
	}
}

func (s *succession) run() {
	for {
		select {
		case <-s.g.ctx.Done():
			return
		case <-s.kick:
			s.succeed()
		}
	}
}

// succeed looks again and again until there is another leader, the old one is
// back, or the election timeout does its work anyway.
func (s *succession) succeed() {
	ctx, cancel := context.WithTimeout(s.g.ctx, s.g.host.ElectionTimeout())
	defer cancel()
	dead, term := s.g.Leader()
	for dead != 0 && s.g.host.Transport().Gone(dead) {
		if leader, now := s.g.Leader(); leader != dead || now != term {
			return
		}
		if s.due(ctx, dead) {
			s.g.log.Info("leader's process has ended: standing for election",
				zap.String("leader", strconv.FormatUint(dead, 16)), zap.Uint64("term", term))
			s.g.host.Transport().CampaignNow(s.g.shard)
		}
		if s.g.pause(ctx, successionRetry) != nil {
			return
		}
	}
}

// due says whether a majority of the voters lost the leader and this member is
// the one of them to stand for election.
func (s *succession) due(ctx context.Context, dead uint64) bool {
	info, ok := s.g.shardInfo()
	if _, voter := info.Replicas[s.g.member]; !ok || info.Pending || !voter {
		return false
	}
	self := s.g.leaderReport(dead)
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

// ahead says whether v is to stand for election rather than other: votes go to
// the longer log.
func (v leaderReport) ahead(other leaderReport) bool {
	return cmp.Or(cmp.Compare(v.LastTerm, other.LastTerm), cmp.Compare(v.Last, other.Last),
		cmp.Compare(other.Member, v.Member)) > 0
}

func (g *Group) leaderReport(leader uint64) leaderReport {
	known, _ := g.Leader()
	v := leaderReport{
		Cluster: g.host.ClusterID(), Member: g.member, Leader: known, Gone: g.host.Transport().Gone(leader),
	}
	_ = g.withLog(func(log dragonboat.ReadonlyLogReader) {
		_, v.Last = log.GetRange()
		v.LastTerm, _ = log.Term(v.Last)
	})
	return v
}

func (g *Group) serveLeaderReport(w http.ResponseWriter, r *http.Request) {
	leader, err := strconv.ParseUint(r.URL.Query().Get("leader"), 16, 64)
	if err != nil {
		http.Error(w, "leader must be a member's id in hex", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(g.leaderReport(leader))
}

// ask asks the voters but for the dead one.
func (s *succession) ask(ctx context.Context, info dragonboat.ShardInfo, dead uint64) []leaderReport {
	ctx, cancel := context.WithTimeout(ctx, s.g.host.ElectionTimeout()/3)
	defer cancel()
	voters := slices.Collect(maps.Keys(info.Replicas))
	voters = slices.DeleteFunc(voters, func(id uint64) bool { return id == dead })
	return atOnce(s.g, voters, func(id uint64) (report leaderReport, err error) {
		body, err := s.g.askPeer(ctx, http.MethodGet, id, fmt.Sprintf("%s?leader=%x", askLeader, dead))
		if err == nil {
			err = json.Unmarshal(body, &report)
		}
		if err == nil && (report.Cluster != s.g.host.ClusterID() || report.Member != id) {
			err = fmt.Errorf("answered by member %x of cluster %x", report.Member, report.Cluster)
		}
		return report, err
	})
}
