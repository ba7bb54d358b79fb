package stream

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// TestHelloNamesFeatures: who needs a feature that the release does not know, or the cluster's version does not have,
// is told its name and gets no welcome.
func TestHelloNamesFeatures(t *testing.T) {
	for _, c := range []struct {
		features []string
		want     string // "": welcome
	}{
		{nil, ""},
		{[]string{"old"}, ""},
		{[]string{"old", "made-up"}, `does not know the feature "made-up"`},
		{[]string{"new"}, fmt.Sprintf(`the feature "new" needs version %d of the cluster, which is at version %d: upgrade all members first`, raftv1.MaxVersion+1, raftv1.MaxVersion)},
	} {
		withServer(t, func(t *testing.T, s *fakeServer) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			f := &fakeClient{
				ctx: ctx, in: make(chan *coordv1.ClientFrame, 1), out: make(chan *coordv1.ServerFrame, 1),
				ended: make(chan error, 1),
			}
			go func() {
				f.ended <- s.Open(&grpc.GenericServerStream[coordv1.ClientFrame, coordv1.ServerFrame]{ServerStream: f})
			}()
			f.in <- &coordv1.ClientFrame{Hello: &coordv1.Hello{Protocol: 1, Features: c.features}}
			if c.want == "" {
				if f.frame(t).Welcome == nil {
					t.Errorf("%q: no welcome", c.features)
				}
				return
			}
			synctest.Wait()
			if len(f.out) > 0 {
				t.Fatalf("%q: welcome", c.features)
			}
			st := status.Convert(<-f.ended)
			if st.Code() != codes.FailedPrecondition || detailed(st) != coordv1.Error_REASON_CLUSTER_VERSION ||
				!strings.Contains(st.Message(), c.want) {
				t.Errorf("%q: ended with %v, %v", c.features, st, detailed(st))
			}
		})
	}
}

// TestEarlyRequest: a request of a kind that the cluster's version does not have is refused by name, and the others of
// its frame are not.
func TestEarlyRequest(t *testing.T) {
	withServer(t, func(t *testing.T, s *fakeServer) {
		s.member.early = coordv1.Kind_KIND_WITHDRAW
		c := s.connect(t)
		c.open(t, s, 5)
		c.in <- &coordv1.ClientFrame{Batches: []*coordv1.Batch{{Session: 5, Requests: []*coordv1.Request{
			{Sequence: 1, Kind: coordv1.Kind_KIND_WITHDRAW, Body: encode(&coordv1.Withdraw{Sequence: 9})},
			{Sequence: 2, Kind: coordv1.Kind_KIND_PUT, Body: encode(aPut)},
		}}}}
		r := c.frame(t).Responses
		if len(r) != 1 || r[0].Sequence != 1 ||
			r[0].Outcome.GetRefusal().GetReason() != coordv1.Error_REASON_CLUSTER_VERSION ||
			codes.Code(r[0].Outcome.Refusal.Code) != codes.FailedPrecondition ||
			!strings.Contains(r[0].Outcome.Refusal.Message, "KIND_WITHDRAW needs version 9") {
			t.Errorf("the early one: %v", r)
		}
		s.member.next(t, raftv1.KindRequests).done(done(nil))
		if r := c.frame(t).Responses; len(r) != 1 || r[0].Sequence != 2 {
			t.Errorf("the other one: %v", r)
		}
	})
}
