package coord

import (
	"cmp"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coord-dev/coord/coord/internal/datadir"
)

// An InitialMember is one member that --initial-cluster names.
type InitialMember struct {
	// ID is the id the member has if the cluster is founded now; in a cluster that exists it may have another.
	ID   uint64
	Name string
	// PeerURLs is sorted and not empty.
	PeerURLs []string
}

// MemberID computes a member's id as etcd does: from its peer URLs in any order, the cluster's token and, for a member
// added to a running cluster, the time of adding in seconds, without which now is nil. All members compute the same id.
func MemberID(peerURLs []string, token string, now *time.Time) uint64 {
	b := []byte(strings.Join(slices.Sorted(slices.Values(peerURLs)), "") + token)
	if now != nil {
		b = strconv.AppendInt(b, now.Unix(), 10)
	}
	hash := sha1.Sum(b)
	return binary.BigEndian.Uint64(hash[:8])
}

// ClusterID computes a new cluster's id from the ids of its first members, in any order, as etcd does.
func ClusterID(ids []uint64) uint64 {
	var b []byte
	for _, id := range slices.Sorted(slices.Values(ids)) {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	hash := sha1.Sum(b)
	return binary.BigEndian.Uint64(hash[:8])
}

// InitialMembers parses InitialCluster. The members are sorted by id.
func (c *Config) InitialMembers() ([]InitialMember, error) {
	urls, err := parseInitialCluster(c.InitialCluster)
	if err != nil {
		return nil, err
	}
	members := make([]InitialMember, 0, len(urls))
	for name, list := range urls {
		slices.Sort(list)
		members = append(members, InitialMember{ID: MemberID(list, c.ClusterToken, nil), Name: name, PeerURLs: list})
	}
	slices.SortFunc(members, func(a, b InitialMember) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name))
	})
	return members, nil
}

// LocalMember is this member's own entry in InitialCluster, and whether there is one.
func (c *Config) LocalMember() (InitialMember, bool) {
	members, err := c.InitialMembers()
	if err != nil {
		return InitialMember{}, false
	}
	i := slices.IndexFunc(members, func(m InitialMember) bool { return m.Name == c.Name })
	if i < 0 {
		return InitialMember{}, false
	}
	return members[i], true
}

// ExpectedIdentity is whose data directory the flags describe, for datadir.Open. The cluster's id is known of a cluster
// that is founded only. The member's is not: one that was removed and added again has another than the flags give.
func (c *Config) ExpectedIdentity() datadir.Identity {
	me, _ := c.LocalMember()
	id := datadir.Identity{Name: c.Name, PeerURLs: me.PeerURLs}
	members, err := c.InitialMembers()
	if err != nil || c.ClusterState == ClusterStateExisting {
		return id
	}
	ids := make([]uint64, len(members))
	for i, m := range members {
		ids[i] = m.ID
	}
	id.ClusterID = ClusterID(ids)
	return id
}

// parseInitialCluster reads NAME=URL,NAME=URL,…; a name may come several times. Every URL was checked.
func parseInitialCluster(s string) (map[string][]string, error) {
	urls := make(map[string][]string)
	for pair := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, raw, ok := strings.Cut(pair, "=")
		name, raw = strings.TrimSpace(name), strings.TrimSpace(raw)
		if !ok || name == "" {
			return nil, fmt.Errorf("--initial-cluster %q: %q must have the form NAME=URL", s, pair)
		}
		if err := advertisePeerRule.check(raw); err != nil {
			return nil, fmt.Errorf("--initial-cluster: member %q has peer URL %q: %w", name, raw, err)
		}
		urls[name] = append(urls[name], raw)
	}
	return urls, nil
}

// checkCluster checks InitialCluster by itself and against this member's name and addresses, as etcd does.
func (c *Config) checkCluster() error {
	members, err := c.InitialMembers()
	if err != nil {
		return err
	}
	if err := checkDistinct(members); err != nil {
		return err
	}
	me, ok := c.LocalMember()
	if !ok {
		return fmt.Errorf("couldn't find local name %q in the initial cluster configuration (--initial-cluster=%s)",
			c.Name, c.InitialCluster)
	}
	if c.ClusterState == ClusterStateExisting {
		// The member was announced before, so etcd does not ask for its addresses again.
		return nil
	}
	return c.checkAdvertised(me)
}

func checkDistinct(members []InitialMember) error {
	owner := make(map[string]string)
	for _, m := range members {
		if m.ID == 0 {
			return fmt.Errorf("--initial-cluster: member %q with peer URLs %s has the id 0, which cannot be used: "+
				"change its URL or --initial-cluster-token", m.Name, strings.Join(m.PeerURLs, ","))
		}
		for _, u := range m.PeerURLs {
			other, taken := owner[canonicalURL(u)]
			if taken && other == m.Name {
				return fmt.Errorf("--initial-cluster has duplicate url %s for member %q", u, m.Name)
			}
			if taken {
				pair := slices.Sorted(slices.Values([]string{other, m.Name}))
				return fmt.Errorf("--initial-cluster has duplicate url %s for members %q and %q: each member needs "+
					"its own", u, pair[0], pair[1])
			}
			owner[canonicalURL(u)] = m.Name
		}
	}
	return nil
}

// checkAdvertised compares what the cluster is told of this member with what it tells the others itself.
func (c *Config) checkAdvertised(me InitialMember) error {
	advertised := strings.Join(c.InitialAdvertisePeerURLs, ",")
	for _, u := range me.PeerURLs {
		if firstShared(c.InitialAdvertisePeerURLs, []string{u}) == "" {
			return fmt.Errorf("--initial-cluster has %s=%s but missing from --initial-advertise-peer-urls=%s", c.Name,
				u, advertised)
		}
	}
	for _, u := range c.InitialAdvertisePeerURLs {
		if firstShared(me.PeerURLs, []string{u}) == "" {
			return fmt.Errorf("--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s", u,
				c.InitialCluster)
		}
	}
	return nil
}
