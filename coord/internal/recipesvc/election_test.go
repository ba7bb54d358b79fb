package recipesvc_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes/recipestest"
)

func (f *fixture) campaign(
	lease int64, value string,
) (*coordv1.AcquireEvent, grpc.ServerStreamingClient[coordv1.AcquireEvent]) {
	f.Helper()
	rpc, err := f.election.Campaign(f.ctx, &coordv1.CampaignRequest{Name: "job", Lease: lease, Value: []byte(value)})
	if err != nil {
		f.Fatal(err)
	}
	ev, err := rpc.Recv()
	if err != nil {
		f.Fatal(err)
	}
	return ev, rpc
}

func TestElection(t *testing.T) {
	f := start(t, 0xa, 0xb)
	_, err := f.election.Leader(f.ctx, &coordv1.LeaderRequest{Name: "job"})
	wantError(t, err, codes.NotFound, coordv1.Error_REASON_NO_LEADER, "election: no leader")
	_, err = f.election.Proclaim(f.ctx, &coordv1.Proclaim{
		Entry: guardOf("job", "job/a", 1), Value: make([]byte, 1<<20+1),
	})
	wantError(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID, "value has")
	first, _ := f.campaign(0xa, "one")
	waiter, rpc := f.campaign(0xb, "two")
	a, b := first.GetGranted(), waiter.GetQueued()
	if a == nil || b == nil || b.Holder.GetToken() != a.Token || string(b.Holder.Value) != "one" {
		t.Fatalf("%v, then %v", first, waiter)
	}
	_, err = f.election.Proclaim(f.ctx, &coordv1.Proclaim{
		Entry: guardOf("job", b.Key, b.Token), Value: []byte("me"),
	})
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_NOT_HOLDER, "job/b")
	if _, err = f.election.Proclaim(f.ctx, &coordv1.Proclaim{
		Entry: guardOf("job", a.Key, a.Token), Value: []byte("uno"),
	}); err != nil {
		t.Fatal(err)
	}
	l, err := f.election.Leader(f.ctx, &coordv1.LeaderRequest{Name: "job"})
	if err != nil || l.Leader.Token != a.Token || string(l.Leader.Value) != "uno" {
		t.Errorf("leader: %v, %v", l, err)
	}
	for _, resigned := range []bool{true, false} {
		r, err := f.election.Resign(f.ctx, releaseOf("job", a.Key, a.Token))
		if err != nil || (r.Removed == 1) != resigned {
			t.Errorf("resign: %v, %v", r, err)
		}
	}
	if ev, err := rpc.Recv(); err != nil || ev.GetGranted().GetToken() != b.Token {
		t.Errorf("next: %v, %v", ev, err)
	}
	_, err = f.election.Proclaim(f.ctx, &coordv1.Proclaim{
		Entry: guardOf("job", a.Key, a.Token), Value: []byte("still me"),
	})
	wantError(t, err, codes.FailedPrecondition, coordv1.Error_REASON_NOT_HOLDER, "job/a")
}

// TestObserversSeeTheSame: every change once and in order (E3), none from within a revision, and a gap is flagged.
func TestObserversSeeTheSame(t *testing.T) {
	f := start(t, 0xa, 0xb, 0xc)
	var streams []grpc.ServerStreamingClient[coordv1.ObserveEvent]
	for range 3 {
		s, err := f.election.Observe(f.ctx, &coordv1.ObserveRequest{Name: "job"})
		if err != nil {
			t.Fatal(err)
		}
		if ev, err := s.Recv(); err != nil || ev.Leader != nil || ev.Gap {
			t.Fatalf("at the start: %v, %v", ev, err)
		}
		streams = append(streams, s)
	}
	put := func(key, value string, lease int64) func(*recipestest.Store) {
		return func(s *recipestest.Store) {
			if err := s.Put(key, value, lease); err != nil {
				t.Error(err)
			}
		}
	}
	f.member.Do(put("job/a", "1", 0xa))   // leads
	f.member.Do(put("job/a.x", "2", 0xa)) // waits
	f.member.Do(put("job/b", "3", 0xb))   // waits
	f.member.Do(put("job/b", "4", 0xb))   // says something else, but nobody listens
	f.member.Do(put("job/a", "5", 0xa))   // proclaims
	f.member.Do(put("job/a", "5", 0xa))   // no news
	f.member.Do(func(s *recipestest.Store) { s.Revoke(0xa) })
	f.member.Do(func(s *recipestest.Store) { s.Delete("job/b") })
	f.member.Do(put("job/c", "6", 0xc))
	f.member.Jump(func(s *recipestest.Store) { s.Delete("job/c") })
	want := []string{"job/a=1", "job/a=5", "job/b=4", "=", "job/c=6", "=!"}
	for i, s := range streams {
		for _, w := range want {
			ev, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%s=%s", ev.GetLeader().GetKey(), ev.GetLeader().GetValue())
			if ev.Gap {
				got += "!"
			}
			if got != w {
				t.Fatalf("observer %d: %s, want %s", i, got, w)
			}
		}
	}
}
