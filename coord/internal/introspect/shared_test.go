package introspect_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Queues in which several hold are listed, explained and counted like the others; one name can have one of each kind,
// and who waits first waits for all who hold.
func TestQueuesWithSeveralHolders(t *testing.T) {
	m := newMember(t)
	one, two, three := m.session(16, "host1"), m.session(32, "host2"), m.session(48, "host3")
	read := func(s *session, write bool) *coordv1.AcquiredEntry {
		resp := &coordv1.Acquired{}
		s.request(coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "a", Owner: "me", Write: write}, resp)
		return resp.Entries[0]
	}
	take := func(s *session, permits int64) {
		s.request(coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, &coordv1.SemaphoreAcquire{
			Name: "a", Owner: "me", Permits: permits, Limit: 3,
		}, &coordv1.Acquired{})
	}
	oldest, second := read(one, false), read(two, false)
	read(three, true)
	take(three, 3)
	take(one, 2)
	for _, s := range []*session{one, two} {
		s.request(coordv1.Kind_KIND_BARRIER_ENTER, &coordv1.BarrierEnter{Name: "a", Parties: 3}, &coordv1.Acquired{})
	}
	one.lock("a")

	list := must(m.ListQueues(t.Context(), &coordv1.ListQueuesRequest{}))(t)
	var got []string
	for _, q := range list.Queues {
		got = append(got, fmt.Sprintf("%v %s: %d hold, %d wait, %d/%d, %d/%d", q.Kind, q.Name, q.Holding, q.Waiting,
			q.Semaphore.GetHeld(), q.Semaphore.GetLimit(), q.Barrier.GetArrived(), q.Barrier.GetParties()))
	}
	want := []string{
		"QUEUE_LOCK a: 1 hold, 0 wait, 0/0, 0/0", "QUEUE_RWLOCK a: 2 hold, 1 wait, 0/0, 0/0",
		"QUEUE_SEMAPHORE a: 1 hold, 1 wait, 3/3, 0/0", "QUEUE_BARRIER a: 0 hold, 2 wait, 0/0, 2/3",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("listed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	rwlocks := &coordv1.ListQueuesRequest{Kind: coordv1.QueueKind_QUEUE_RWLOCK}
	if list := must(m.ListQueues(t.Context(), rwlocks))(t); len(list.Queues) != 1 ||
		list.Queues[0].Holder.GetOwner() != "me" {
		t.Errorf("read-write locks: %v", list)
	}

	var edges string
	graph := must(m.WaitGraph(t.Context(), &coordv1.WaitGraphRequest{}))(t)
	for _, e := range graph.Edges {
		edges += fmt.Sprintf(" %x>%x", e.Waiter, e.Holder)
	}
	if edges != " 10>30 30>10 30>20" || len(graph.Deadlocks) != 1 {
		t.Errorf("edges%s, deadlocks %v", edges, graph.Deadlocks)
	}
	explained := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Name: "a", Kind: coordv1.QueueKind_QUEUE_RWLOCK}))(
		t)
	if !strings.HasPrefix(explained.Sentence, `read-write lock "a" is held for reading by 2, the oldest "me" (host "host1"`) || len(explained.Waiters) != 1 {
		t.Errorf("explained: %v", explained)
	}
	if h := explained.Holders; len(h) != 2 || h[0].Key != oldest.Key || h[1].Key != second.Key ||
		h[1].SinceUnixMs != wall {
		t.Errorf("holders: %v", h)
	}
	info := must(m.GetSession(t.Context(), &coordv1.GetSessionRequest{Id: 16}))(t).Session
	if info.Holds != 2 || info.Waits != 2 {
		t.Errorf("session: %v", info)
	}

	force := &coordv1.ForceReleaseRequest{Name: "a", Kind: coordv1.QueueKind_QUEUE_RWLOCK, Reason: "stuck"}
	_, err := m.ForceRelease(t.Context(), force)
	wantReason(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID)
	force.Token = oldest.Token
	if resp := must(m.ForceRelease(t.Context(), force))(t); resp.Removed.GetKey() != oldest.Key ||
		resp.Removed.Owner != "me" {
		t.Errorf("removed %v", resp)
	}
	explained = must(m.Explain(t.Context(), &coordv1.ExplainRequest{Name: "a", Kind: coordv1.QueueKind_QUEUE_RWLOCK}))(
		t)
	if explained.Queue.Holder.GetKey() != second.Key || explained.Queue.Holding != 1 {
		t.Errorf("then %v", explained)
	}
}
