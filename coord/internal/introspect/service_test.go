package introspect_test

import (
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

const (
	lock       = coordv1.QueueKind_QUEUE_LOCK
	election   = coordv1.QueueKind_QUEUE_ELECTION
	priorities = coordv1.QueueKind_QUEUE_PRIORITY_ELECTION
)

func TestSessionsAreListedInPages(t *testing.T) {
	m := newMember(t)
	for id := int64(1); id <= 5; id++ {
		m.session(id*16, fmt.Sprint("host", id)).lock("shared", fmt.Sprint("own", id))
	}
	m.etcdLock("shared", 7)
	m.do(raftv1.KindPut, &pb.PutRequest{Key: []byte("plain"), Lease: 16})

	list := func(leases bool) string {
		var out []string
		for req := (&coordv1.ListSessionsRequest{Limit: 2, Leases: leases}); ; {
			page := must(m.ListSessions(t.Context(), req))(t)
			for _, s := range page.Sessions {
				out = append(out, fmt.Sprintf("%x %s holds %d waits %d keys %d left %d", s.Id, s.Identity.GetHost(),
					s.Holds, s.Waits, s.Keys, s.RemainingMs))
			}
			if !page.More {
				return strings.Join(out, "\n")
			}
			if len(page.Sessions) != 2 {
				t.Fatalf("a page of %d", len(page.Sessions))
			}
			req.After = page.Sessions[1].Id
		}
	}
	sessions := `10 host1 holds 2 waits 0 keys 3 left 10000
20 host2 holds 1 waits 1 keys 2 left 10000
30 host3 holds 1 waits 1 keys 2 left 10000
40 host4 holds 1 waits 1 keys 2 left 10000
50 host5 holds 1 waits 1 keys 2 left 10000`
	if got := list(false); got != sessions {
		t.Errorf("sessions:\n%s", got)
	}
	if got, want := list(true), "7  holds 0 waits 1 keys 1 left 60000\n"+sessions; got != want {
		t.Errorf("leases:\n%s", got)
	}
	_, err := m.ListSessions(t.Context(), &coordv1.ListSessionsRequest{Limit: -1})
	wantReason(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID)
}

func TestSessionIsShownWithItsEntries(t *testing.T) {
	m := newMember(t)
	first := m.session(16, "host1")
	first.lock("a")
	second := m.session(32, "host2")
	second.lock("a", "b")
	second.campaign("e", "me", 0)
	m.do(raftv1.KindPut, &pb.PutRequest{Key: []byte("plain"), Lease: 32})
	resp := must(m.GetSession(t.Context(), &coordv1.GetSessionRequest{Id: 32}))(t)
	var got []string
	for _, e := range resp.Entries {
		got = append(got, fmt.Sprintf("%s %s holds %v position %d since %d", e.Kind, e.Name, e.Holds, e.Position,
			e.Entry.SinceUnixMs))
	}
	want := fmt.Sprintf(`[QUEUE_LOCK a holds false position 1 since %[1]d QUEUE_LOCK b holds true position 0 since %[1]d QUEUE_ELECTION e holds true position 0 since %[1]d]`, wall)
	if fmt.Sprint(got) != want {
		t.Errorf("entries %v\n   want %s", got, want)
	}
	if len(resp.Keys) != 1 || string(resp.Keys[0]) != "plain" {
		t.Errorf("keys %q", resp.Keys)
	}
	if id := resp.Session.Identity; id.GetHost() != "host2" || id.GetLabels()["team"] != "a" ||
		resp.Session.Created != second.created {
		t.Errorf("session %v", resp.Session)
	}
	_, err := m.GetSession(t.Context(), &coordv1.GetSessionRequest{Id: 33})
	wantReason(t, err, codes.NotFound, coordv1.Error_REASON_SESSION_NOT_FOUND)
}

// What a session held is handed on in the commit that ends it.
func TestEndSession(t *testing.T) {
	m := newMember(t)
	m.session(16, "host1").lock("a")
	m.session(32, "host2").lock("a")
	ended := must(m.EndSession(t.Context(), &coordv1.EndSessionRequest{Id: 16}))(t)
	resp := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: lock, Name: "a"}))(t)
	if resp.Queue.Holder.GetLease() != 32 || resp.Revision != ended.Revision {
		t.Errorf("after the end of the holder's session at revision %d: %v", ended.Revision, resp)
	}
	_, err := m.EndSession(t.Context(), &coordv1.EndSessionRequest{Id: 16})
	wantReason(t, err, codes.NotFound, coordv1.Error_REASON_SESSION_NOT_FOUND)
}

func queueText(q *coordv1.QueueInfo) string {
	return fmt.Sprintf("%s %s: %s from %q, %d wait, kept %d", q.Kind, q.Name, entryText(q.Holder), q.Identity.GetHost(),
		q.Waiting, q.LingerMs)
}

func listQueues(t *testing.T, m *member, req *coordv1.ListQueuesRequest) string {
	t.Helper()
	var out []string
	for {
		page := must(m.ListQueues(t.Context(), req))(t)
		for _, q := range page.Queues {
			out = append(out, queueText(q))
		}
		if !page.More {
			return strings.Join(out, "\n")
		}
		if len(page.Queues) == 0 {
			t.Fatal("a page without queues says that there are more")
		}
		req.After = page.Queues[len(page.Queues)-1].Name
	}
}

func TestQueuesAreListedInPagesByKind(t *testing.T) {
	m := newMember(t)
	one, two := m.session(16, "host1"), m.session(32, "host2")
	one.lock("l/1", "l/2")
	two.lock("l/1")
	one.campaign("e/1", "me", 0)
	two.campaign("e/1", "you", 0)
	two.campaign("e/2", "low", 1)
	one.campaign("e/2", "high", 5)
	two.campaign("e/1", "other election", 1) // one name, two elections
	m.etcdLock("l/1", 7)
	m.etcdLock("x", 7)
	m.etcdLock("l/1/nested", 8)
	m.lease(9)
	for _, key := range []string{"l/3/8", "l/3/09", "l/3/zz", "noslash", "/9"} { // attached, but no entries
		m.do(raftv1.KindPut, &pb.PutRequest{Key: []byte(key), Lease: 9})
	}
	m.do(raftv1.KindPut, &pb.PutRequest{Key: []byte("l/3/7")}) // looks like one, and is not attached

	locks := `QUEUE_LOCK l/1: l/1/10 owner16 from "host1", 2 wait, kept 0
QUEUE_ETCD l/1/nested: l/1/nested/8 from "", 0 wait, kept 0
QUEUE_LOCK l/2: l/2/10 owner16 from "host1", 0 wait, kept 0`
	elections := `QUEUE_ELECTION e/1: e/1/10 from "host1", 1 wait, kept 0
QUEUE_PRIORITY_ELECTION e/1: _coord/elections/e/1/20 from "host2", 0 wait, kept 0
QUEUE_PRIORITY_ELECTION e/2: _coord/elections/e/2/20 from "host2", 1 wait, kept 0`
	etcd := `QUEUE_ETCD x: x/7 from "", 0 wait, kept 0`
	nested := strings.Split(locks, "\n")[1]
	for _, c := range []struct {
		req  *coordv1.ListQueuesRequest
		want string
	}{
		{&coordv1.ListQueuesRequest{}, elections + "\n" + locks + "\n" + etcd},
		{&coordv1.ListQueuesRequest{Kind: lock}, locks + "\n" + etcd},
		{&coordv1.ListQueuesRequest{Kind: election}, elections + "\n" + nested + "\n" + etcd},
		{&coordv1.ListQueuesRequest{Kind: priorities}, strings.SplitN(elections, "\n", 2)[1]},
		{&coordv1.ListQueuesRequest{Prefix: "l/"}, locks},
		{&coordv1.ListQueuesRequest{Prefix: "l/2"}, strings.Split(locks, "\n")[2]},
		{&coordv1.ListQueuesRequest{Prefix: "none"}, ""},
	} {
		for _, limit := range []int32{0, 1, 2} {
			req := &coordv1.ListQueuesRequest{Kind: c.req.Kind, Prefix: c.req.Prefix, Limit: limit}
			if got := listQueues(t, m, req); got != c.want {
				t.Errorf("%v with limit %d:\n%s\nwant:\n%s", c.req, limit, got, c.want)
			}
		}
	}
}

// Keys that belong to no lease are never read, however many there are and whatever they are called.
func TestListsDoNotReadTheKeyspace(t *testing.T) {
	m := newMember(t)
	for i := range 100 {
		m.do(raftv1.KindPut, &pb.PutRequest{Key: fmt.Appendf(nil, "data/%d", i)})
	}
	m.session(16, "host1").lock("jobs")
	m.session(32, "host2").lock("jobs")
	m.ranges = nil
	listQueues(t, m, &coordv1.ListQueuesRequest{})
	must(m.ListSessions(t.Context(), &coordv1.ListSessionsRequest{Leases: true}))(t)
	must(m.WaitGraph(t.Context(), &coordv1.WaitGraphRequest{}))(t)
	for _, key := range m.ranges {
		if !strings.Contains(key, "jobs") {
			t.Errorf("read from %q on", key)
		}
	}
}

// A page ends early where the values of its holders are large.
func TestPagesAreBoundedInBytes(t *testing.T) {
	m := newMember(t)
	s := m.session(16, "host1")
	value := strings.Repeat("v", 10_000)
	for i := range 200 {
		s.campaign(fmt.Sprintf("e%03d", i), value, 0)
	}
	page := must(m.ListQueues(t.Context(), &coordv1.ListQueuesRequest{}))(t)
	if n := len(page.Queues); n >= 200 || !page.More {
		t.Errorf("a page of %d queues, more %v", n, page.More)
	}
	if got := strings.Count(listQueues(t, m, &coordv1.ListQueuesRequest{}), "\n") + 1; got != 200 {
		t.Errorf("all pages together have %d queues", got)
	}
}

func TestLingeringPlaceIsShown(t *testing.T) {
	m := newMember(t)
	dead := m.session(16, "host1")
	dead.acquire(&coordv1.Acquire{Names: []string{"a", "b"}, LingerMs: 3000})
	m.pass(9_000)
	m.session(32, "host2").lock("a")
	held := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: lock, Name: "a"}))(t)
	if want := `in at most 1s unless it is renewed, and 3s later`; !strings.HasSuffix(held.Sentence, want) {
		t.Errorf("a holder whose place will be kept: %s", held.Sentence)
	}
	m.pass(1_000) // the session of the holder expires; host2 lives for longer
	want := "QUEUE_LOCK a: - from \"\", 1 wait, kept 3000\nQUEUE_LOCK b: - from \"\", 0 wait, kept 3000"
	if got := listQueues(t, m, &coordv1.ListQueuesRequest{}); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	kept := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: lock, Name: "a"}))(t)
	want = fmt.Sprintf(`lock "a" is kept for "owner16" (session 10) with token %d since 2026-12-01T16:00:00Z, who died; 1 waits; it becomes free in at most 3s`, held.Queue.Holder.Token)
	if kept.Sentence != want {
		t.Errorf("%s\nwant %s", kept.Sentence, want)
	}
	m.pass(3_000)
	if got := listQueues(t, m, &coordv1.ListQueuesRequest{}); got != `QUEUE_LOCK a: a/20 owner32 from "host2", 0 wait, kept 0` {
		t.Errorf("after the place was given up: %s", got)
	}
}

func TestExplainAndWaitGraphFindDeadlocks(t *testing.T) {
	m := newMember(t)
	one, two, three := m.session(16, "host1"), m.session(32, "host2"), m.session(48, "host3")
	one.lock("a")
	two.lock("b")
	three.lock("c")
	two.lock("a")
	three.lock("a")
	text := func() (edges, deadlocks string) {
		g := must(m.WaitGraph(t.Context(), &coordv1.WaitGraphRequest{}))(t)
		for _, e := range g.Edges {
			edges += fmt.Sprintf(" %x>%x(%s)", e.Waiter, e.Holder, e.Name)
		}
		for _, c := range g.Deadlocks {
			for _, e := range c.Edges {
				deadlocks += fmt.Sprintf(" %x>%x(%s)", e.Waiter, e.Holder, e.Name)
			}
			deadlocks += ";"
		}
		return edges, deadlocks
	}
	if edges, deadlocks := text(); edges != " 20>10(a) 30>10(a) 30>20(a)" || deadlocks != "" {
		t.Errorf("edges%s, deadlocks%s", edges, deadlocks)
	}
	one.lock("b")
	if _, deadlocks := text(); deadlocks != " 10>20(b) 20>10(a);" {
		t.Errorf("deadlocks%s", deadlocks)
	}
	resp := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: lock, Name: "a"}))(t)
	if want := `; deadlock: 10 waits for 20 ("b"), 20 waits for 10 ("a")`; !strings.HasSuffix(resp.Sentence, want) {
		t.Errorf("%s\nwant it to end in %s", resp.Sentence, want)
	}
	if resp.Queue.Waiting != 2 || len(resp.Waiters) != 2 || resp.Waiters[0].Lease != 32 {
		t.Errorf("explained: %v", resp)
	}
	must(m.EndSession(t.Context(), &coordv1.EndSessionRequest{Id: 16}))(t)
	if _, deadlocks := text(); deadlocks != "" {
		t.Errorf("after the end of one: deadlocks%s", deadlocks)
	}
}

func TestExplainRefusesOtherKinds(t *testing.T) {
	m := newMember(t)
	m.session(16, "host1").lock("a")
	_, err := m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: election, Name: "a"})
	wantReason(t, err, codes.FailedPrecondition, coordv1.Error_REASON_WRONG_KIND)
	_, err = m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: lock})
	wantReason(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID)
	m.etcdLock("b", 7)
	for kind, want := range map[coordv1.QueueKind]string{lock: `lock "b" is held by "" (lease 7)`, election: `election "b" is led by "" (lease 7)`} {
		resp := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: kind, Name: "b"}))(t)
		if !strings.HasPrefix(resp.Sentence, want) || resp.Queue.Kind != coordv1.QueueKind_QUEUE_ETCD {
			t.Errorf("an etcd client as a %s: %v", kind, resp)
		}
	}
}

func TestForceRelease(t *testing.T) {
	m := newMember(t)
	first := m.session(16, "host1").lock("a").Entries[0]
	m.session(32, "host2").lock("a")
	release := func(token int64, kind coordv1.QueueKind, reason string) (*coordv1.ForceReleaseResponse, error) {
		return m.ForceRelease(t.Context(), &coordv1.ForceReleaseRequest{
			Name: "a", Kind: kind, Token: token, Reason: reason,
		})
	}
	_, err := release(first.Token+1, lock, "stuck")
	wantReason(t, err, codes.FailedPrecondition, coordv1.Error_REASON_NOT_HOLDER)
	_, err = release(first.Token, election, "stuck")
	wantReason(t, err, codes.FailedPrecondition, coordv1.Error_REASON_WRONG_KIND)
	_, err = release(first.Token, lock, "")
	wantReason(t, err, codes.InvalidArgument, coordv1.Error_REASON_INVALID)
	resp := must(release(first.Token, lock, "stuck"))(t)
	if resp.Removed.GetKey() != first.Key || resp.Removed.GetOwner() != "owner16" {
		t.Errorf("removed %v", resp.Removed)
	}
	if q := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Name: "a"}))(t).Queue; q.Holder.GetLease() != 32 {
		t.Errorf("then %v holds", q)
	}
}

func TestTransferAndAsk(t *testing.T) {
	m := newMember(t)
	m.session(16, "host1").campaign("e", "one", 0)
	m.session(32, "host2").campaign("e", "two", 0)
	target := m.session(48, "host3").campaign("e", "three", 0)
	asked := must(m.AskHolder(t.Context(), &coordv1.AskRelease{Name: "e", From: "ops", Reason: "upgrade"}))(t)
	if asked.Holder.GetLease() != 16 {
		t.Errorf("asked %v", asked)
	}
	moved := must(m.TransferLeadership(t.Context(), &coordv1.Transfer{Name: "e", To: target.Key}))(t)
	q := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: election, Name: "e"}))(t)
	if q.Queue.Holder.GetKey() != target.Key || q.Queue.Holder.GetToken() != moved.Term || q.Queue.Waiting != 1 {
		t.Errorf("after a transfer in term %d: %v", moved.Term, q)
	}
	_, err := m.TransferLeadership(t.Context(), &coordv1.Transfer{Name: "e", To: "e/99"})
	wantReason(t, err, codes.FailedPrecondition, coordv1.Error_REASON_NO_CANDIDATE)
}
