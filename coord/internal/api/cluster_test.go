package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
)

func peerURL(id uint64) string { return fmt.Sprintf("http://10.0.0.%d:2380", id) }

// voters are started members; the first is the one under test.
func voters(n int) []*pb.Member {
	members := []*pb.Member{{ID: testMember, Name: "self", PeerURLs: []string{peerURL(1)}}}
	for id := uint64(2); id <= uint64(n); id++ {
		members = append(members, &pb.Member{ID: id, Name: fmt.Sprint(id), PeerURLs: []string{peerURL(id)}})
	}
	return members
}

var (
	learner   = &pb.Member{ID: 50, Name: "learner", IsLearner: true, PeerURLs: []string{peerURL(50)}}
	unstarted = &pb.Member{ID: 60, PeerURLs: []string{peerURL(60)}}

	wantNotFound   = wants{codes.NotFound, "etcdserver: member not found"}
	wantNotStarted = wants{codes.Unknown, "etcdserver: re-configuration failed due to not enough started members"}
	wantUnhealthy  = wants{codes.Unavailable, "etcdserver: unhealthy cluster"}
	wantURLTaken   = wants{codes.FailedPrecondition, "etcdserver: Peer URLs already exists"}
	wantBadURLs    = wants{codes.InvalidArgument, "etcdserver: given member URLs are invalid"}
)

// cluster serves a Cluster service in front of the members, some of which are down.
func cluster(t *testing.T, members []*pb.Member, down ...uint64) (*fixture, pb.ClusterClient) {
	f := serve(t)
	f.members = nil
	for _, m := range members {
		f.members = append(f.members, &pb.Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, IsLearner: m.IsLearner})
	}
	for _, id := range down {
		f.down[id] = true
	}
	return f, pb.NewClusterClient(f.conn)
}

func TestMemberAdd(t *testing.T) {
	fresh := []string{peerURL(70)}
	for name, c := range map[string]struct {
		members []*pb.Member
		down    []uint64
		request *pb.MemberAddRequest
		want    wants
	}{
		"voter to one":   {voters(1), nil, &pb.MemberAddRequest{PeerURLs: fresh}, wants{}},
		"voter to three": {voters(3), nil, &pb.MemberAddRequest{PeerURLs: fresh}, wants{}},
		"learner to one": {voters(1), nil, &pb.MemberAddRequest{PeerURLs: fresh, IsLearner: true}, wants{}},
		"no URL":         {voters(1), nil, &pb.MemberAddRequest{}, wantBadURLs},
		"no port": {voters(1), nil, &pb.MemberAddRequest{PeerURLs: []string{"http://host"}},
			wantBadURLs},
		"no scheme": {voters(1), nil, &pb.MemberAddRequest{PeerURLs: []string{"10.0.0.9:2380"}},
			wantBadURLs},
		"unix socket": {voters(1), nil, &pb.MemberAddRequest{PeerURLs: []string{"unix://host:2380"}},
			wantBadURLs},
		"credentials": {voters(1), nil, &pb.MemberAddRequest{
			PeerURLs: []string{"http://me:secret@10.0.0.9:2380"},
		}, wantBadURLs},
		"one URL twice": {voters(1), nil, &pb.MemberAddRequest{PeerURLs: []string{peerURL(9), peerURL(9)}},
			wantBadURLs},
		"huge URL": {voters(1), nil, &pb.MemberAddRequest{
			PeerURLs: []string{"http://" + strings.Repeat("a", 1<<20) + ":2380"},
		}, wantBadURLs},
		"many URLs": {voters(1), nil, &pb.MemberAddRequest{PeerURLs: slices.Repeat(fresh, 5000)},
			wantBadURLs},
		"URL taken": {voters(3), nil, &pb.MemberAddRequest{PeerURLs: []string{peerURL(70), peerURL(3)}},
			wantURLTaken},
		"second learner": {append(voters(3), learner), nil,
			&pb.MemberAddRequest{PeerURLs: fresh, IsLearner: true}, wants{codes.FailedPrecondition,
				"etcdserver: too many learner members in cluster"}},
		"taken before too many": {append(voters(3), learner), nil,
			&pb.MemberAddRequest{PeerURLs: learner.PeerURLs, IsLearner: true}, wantURLTaken},
		"unstarted of two": {append(voters(1), unstarted), nil, &pb.MemberAddRequest{PeerURLs: fresh},
			wantNotStarted},
		"unstarted is no obstacle": {append(voters(3), unstarted), nil, &pb.MemberAddRequest{PeerURLs: fresh}, wants{}},
		"one of three is down":     {voters(3), []uint64{2}, &pb.MemberAddRequest{PeerURLs: fresh}, wantUnhealthy},
		"learner, one is down": {voters(3), []uint64{2}, &pb.MemberAddRequest{PeerURLs: fresh, IsLearner: true},
			wantUnhealthy},
		"one of four is down": {voters(4), []uint64{2}, &pb.MemberAddRequest{PeerURLs: fresh}, wants{}},
	} {
		t.Run(name, func(t *testing.T) {
			f, client := cluster(t, c.members, c.down...)
			got, err := client.MemberAdd(t.Context(), c.request)
			c.want.check(t, err)
			if err != nil {
				if len(f.changes) != 0 {
					t.Errorf("a refused change was made: %v", f.changes)
				}
				return
			}
			checkHeader(t, got.Header, 0)
			if got.Member.ID != 99 || got.Member.Name != "" || got.Member.IsLearner != c.request.IsLearner ||
				len(got.Members) != len(c.members)+1 {
				t.Errorf("added %v to %v", got.Member, got.Members)
			}
		})
	}
}

func TestMemberRemove(t *testing.T) {
	for name, c := range map[string]struct {
		members []*pb.Member
		down    []uint64
		id      uint64
		want    wants
	}{
		"the only one":           {voters(1), nil, testMember, wantNotStarted},
		"unknown":                {voters(3), nil, 77, wantNotFound},
		"one of three":           {voters(3), nil, 3, wants{}},
		"itself of three":        {voters(3), nil, testMember, wants{}},
		"a learner":              {append(voters(2), learner), []uint64{2}, learner.ID, wants{}},
		"the one that is down":   {voters(3), []uint64{3}, 3, wants{}},
		"another than is down":   {voters(3), []uint64{3}, 2, wantUnhealthy},
		"started of two":         {append(voters(1), unstarted), nil, testMember, wantNotStarted},
		"unstarted of two, down": {append(voters(1), unstarted), []uint64{unstarted.ID}, unstarted.ID, wants{}},
	} {
		t.Run(name, func(t *testing.T) {
			f, client := cluster(t, c.members, c.down...)
			got, err := client.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: c.id})
			c.want.check(t, err)
			if err == nil && (findMember(got.Members, c.id) != nil || len(got.Members) != len(c.members)-1) {
				t.Errorf("left over: %v", got.Members)
			}
			if err != nil && len(f.changes) != 0 {
				t.Errorf("a refused change was made: %v", f.changes)
			}
		})
	}
}

func TestMemberPromote(t *testing.T) {
	for name, c := range map[string]struct {
		members []*pb.Member
		id      uint64
		want    wants
	}{
		"learner": {append(voters(1), learner), learner.ID, wants{}},
		"voter": {voters(3), 2, wants{codes.FailedPrecondition,
			"etcdserver: can only promote a learner member"}},
		"unknown": {voters(3), 77, wantNotFound},
		"too few started": {append(voters(1), learner, unstarted,
			&pb.Member{ID: 61, PeerURLs: []string{peerURL(61)}}), learner.ID, wantNotStarted},
		"one unstarted of 2": {append(voters(1), learner, unstarted), learner.ID, wants{}},
	} {
		t.Run(name, func(t *testing.T) {
			_, client := cluster(t, c.members)
			got, err := client.MemberPromote(t.Context(), &pb.MemberPromoteRequest{ID: c.id})
			c.want.check(t, err)
			if err == nil && findMember(got.Members, c.id).IsLearner {
				t.Error("still a learner")
			}
		})
	}
}

func TestMemberUpdateAndList(t *testing.T) {
	_, client := cluster(t, voters(3))
	ctx := t.Context()
	for _, c := range []struct {
		id   uint64
		urls []string
		want wants
	}{
		{77, []string{peerURL(9)}, wantNotFound},
		{2, []string{peerURL(3)}, wantURLTaken},
		{2, []string{"nonsense"}, wantBadURLs},
		{2, []string{peerURL(2), peerURL(9)}, wants{}},
	} {
		_, err := client.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: c.id, PeerURLs: c.urls})
		c.want.check(t, err)
	}
	got, err := client.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, got.Header, 0)
	if m := findMember(got.Members, 2); len(got.Members) != 3 || len(m.PeerURLs) != 2 {
		t.Errorf("members %v", got.Members)
	}
}
