package datadir

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// JoinOptions says who wants to join which cluster.
type JoinOptions struct {
	// Peers are peer URLs of members to ask, in this order.
	Peers []string
	// PeerURLs are this member's own, with which it was added to the cluster.
	PeerURLs []string
	// InitialCluster has the peer URLs of each member that --initial-cluster names, this one included. They must be
	// those of the cluster. Nothing is compared if it is empty.
	InitialCluster [][]string
	// Client sends the requests; a plain one if nil.
	Client *http.Client
	// Logger is required.
	Logger *zap.Logger
}

// Joined is the cluster that a member was added to.
type Joined struct {
	ClusterID uint64
	// MemberID is the id that the cluster gave to this member.
	MemberID uint64
	// Members are all members, this one included.
	Members []Member
}

// JoinExisting finds out from a running cluster who this member is. Each peer is asked once, until one knows this
// member: others may not have heard yet that it was added. The errors say what etcd's say: no peer could be asked, the
// cluster does not match InitialCluster, this member was not added, or (ErrWiped) it has been started before.
func JoinExisting(ctx context.Context, o JoinOptions) (Joined, error) {
	var refusal error
	var silent []string
	for _, u := range o.Peers {
		j, err := o.ask(ctx, u)
		if err != nil {
			silent = append(silent, err.Error())
			continue
		}
		if err = o.recognise(&j); err == nil {
			return j, nil
		}
		refusal = cmp.Or(refusal, err)
	}
	return Joined{}, cmp.Or(refusal, noAnswer(silent))
}

// AskMembers returns the members that the first peer of a cluster that answers knows, whoever they are. Nothing of it
// is proven: it serves to find addresses, at which the members prove themselves.
func AskMembers(ctx context.Context, o JoinOptions, cluster uint64) ([]Member, error) {
	var silent []string
	for _, u := range o.Peers {
		j, err := o.ask(ctx, u)
		if err == nil && j.ClusterID != cluster {
			err = fmt.Errorf("%s is a member of cluster %s, not of cluster %s", u, hexID(j.ClusterID), hexID(cluster))
		}
		if err == nil {
			return j.Members, nil
		}
		silent = append(silent, err.Error())
	}
	return nil, noAnswer(silent)
}

func noAnswer(silent []string) error {
	return fmt.Errorf("cannot fetch cluster info from peer urls: could not retrieve cluster information from the "+
		"given URLs (%s)", strings.Join(silent, "; "))
}

// recognise finds this member in the cluster and completes j.
func (o *JoinOptions) recognise(j *Joined) error {
	if err := matchCluster(j.Members, o.InitialCluster); err != nil {
		return err
	}
	i := slices.IndexFunc(j.Members, func(m Member) bool { return sameURLs(m.PeerURLs, o.PeerURLs) })
	if i < 0 {
		return refuse(ErrRefused, "unmatched member while checking PeerURLs: the cluster has no member with peer URLs "+
			"%s, its members are %s; add the member first", strings.Join(o.PeerURLs, ","), list(j.Members))
	}
	if me := j.Members[i]; me.Started() {
		return refuse(ErrWiped, "member %s (%s) has already been bootstrapped and this data directory is empty: its "+
			"data directory was wiped or replaced; %s", hexID(me.ID), me.Name, fix)
	}
	j.MemberID = j.Members[i].ID
	return nil
}

// ask gets the members from one peer.
func (o *JoinOptions) ask(ctx context.Context, url string) (Joined, error) {
	client := o.Client
	if client == nil {
		client = &http.Client{}
	}
	j, err := getMembers(ctx, client, url)
	if err != nil {
		o.Logger.Warn("failed to get cluster response", zap.String("address", url+membersPath), zap.Error(err))
	}
	return j, err
}

func getMembers(ctx context.Context, client *http.Client, url string) (Joined, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+membersPath, nil)
	if err != nil {
		return Joined{}, err
	}
	resp, body, err := send(client, req)
	if err != nil {
		return Joined{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return Joined{}, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return parseMembers(url, resp, body)
}

func parseMembers(url string, resp *http.Response, body []byte) (Joined, error) {
	cluster, err := strconv.ParseUint(resp.Header.Get(clusterHeader), 16, 64)
	if err != nil {
		return Joined{}, fmt.Errorf("%s did not say which cluster it belongs to: header %s is %q", url, clusterHeader,
			resp.Header.Get(clusterHeader))
	}
	var members []Member
	if err := json.Unmarshal(body, &members); err != nil {
		return Joined{}, fmt.Errorf("%s did not answer with members: %w", url, err)
	}
	if len(members) == 0 {
		return Joined{}, fmt.Errorf("%s knows no members", url)
	}
	return Joined{ClusterID: cluster, Members: members}, nil
}

// matchCluster compares the members of the running cluster with those that the flags name.
func matchCluster(members []Member, named [][]string) error {
	if len(named) == 0 {
		return nil
	}
	if len(members) != len(named) {
		return refuse(ErrRefused, "error validating peerURLs: member count is unequal: the cluster has %d members, "+
			"%s, and --initial-cluster names %d", len(members), list(members), len(named))
	}
	for _, m := range members {
		if !slices.ContainsFunc(named, func(urls []string) bool { return sameURLs(urls, m.PeerURLs) }) {
			return refuse(ErrRefused, "error validating peerURLs: no match found for existing member (%s, %v) in "+
				"--initial-cluster", hexID(m.ID), m.PeerURLs)
		}
	}
	return nil
}

func list(members []Member) string {
	var parts []string
	for _, m := range members {
		name := m.Name
		if name == "" {
			name = "not started"
		}
		parts = append(parts, fmt.Sprintf("%s (%s, %s)", hexID(m.ID), name, strings.Join(m.PeerURLs, ",")))
	}
	return strings.Join(parts, ", ")
}
