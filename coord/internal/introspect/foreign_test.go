package introspect_test

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// TestForeignKeyIsNamed: who waits behind a key that no session made learns which, and that it may never go; only its
// full key removes it.
func TestForeignKeyIsNamed(t *testing.T) {
	for key, quoted := range map[string]string{"a/left": `"a/left"`, "a/\xff": `"a/\xff"`, "a/": `"a/"`} {
		m := newMember(t)
		m.do(raftv1.KindPut, &pb.PutRequest{Key: []byte(key)})
		waiter := m.session(32, "host2").lock("a").Entries[0]
		if waiter.State != coordv1.AcquiredEntry_WAITS || string(waiter.Holder.GetForeignKey()) != key {
			t.Fatalf("behind %q: %v", key, waiter)
		}
		resp := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: lock, Name: "a"}))(t)
		for _, want := range []string{"is taken by key " + quoted, "it may never go unless somebody deletes it",
			"1 waits", "--entry " + quoted} {
			if !strings.Contains(resp.Sentence, want) {
				t.Errorf("no %s in %s", want, resp.Sentence)
			}
		}
		if q := must(m.ListQueues(t.Context(), &coordv1.ListQueuesRequest{}))(t).Queues; len(q) != 1 ||
			string(q[0].Holder.GetForeignKey()) != key {
			t.Errorf("listed: %v", q)
		}
		if g := must(m.WaitGraph(t.Context(), &coordv1.WaitGraphRequest{}))(t); len(g.Edges) != 0 {
			t.Errorf("waits for nobody, and yet %v", g.Edges)
		}
		_, err := m.ForceRelease(t.Context(), &coordv1.ForceReleaseRequest{Name: "a", Kind: lock, Reason: "stuck"})
		wantReason(t, err, codes.FailedPrecondition, coordv1.Error_REASON_FOREIGN_KEY)
		_, err = m.ForceRelease(t.Context(), &coordv1.ForceReleaseRequest{Name: "a", Key: []byte("b/left"),
			Reason: "stuck"})
		wantReason(t, err, codes.FailedPrecondition, coordv1.Error_REASON_NOT_HOLDER)
		must(m.ForceRelease(t.Context(), &coordv1.ForceReleaseRequest{Name: "a", Key: []byte(key), Reason: "stuck"}))(t)
		if q := must(m.Explain(t.Context(),
			&coordv1.ExplainRequest{Name: "a"}))(t).Queue; q.Holder.GetKey() != waiter.Key {
			t.Errorf("then %v holds", q)
		}
	}
}

// TestForeignKeyOnALease names the lease whose end would free the name.
func TestForeignKeyOnALease(t *testing.T) {
	m := newMember(t)
	m.do(raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 0x77, TtlMs: 60_000})
	m.do(raftv1.KindPut, &pb.PutRequest{Key: []byte("a/left"), Lease: 0x77})
	m.session(32, "host2").lock("a")
	resp := must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: lock, Name: "a"}))(t)
	if want := `key "a/left", which stands until lease 77 ends`; !strings.Contains(resp.Sentence, want) {
		t.Errorf("no %s in %s", want, resp.Sentence)
	}
}

// TestNeverFreeForWhomEtcdWouldWait: etcd's clients wait for keys that stand deeper below a name, so it is not called
// free.
func TestNeverFreeForWhomEtcdWouldWait(t *testing.T) {
	m := newMember(t)
	explain := func(kind coordv1.QueueKind) string {
		return must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: kind, Name: "jobs"}))(t).Sentence
	}
	if got := explain(lock); !strings.Contains(got, "is free") {
		t.Errorf("without any key: %s", got)
	}
	m.session(16, "host1").lock("jobs/1")
	for _, kind := range []coordv1.QueueKind{lock, election} {
		if got := explain(kind); strings.Contains(got, "free") || !strings.Contains(got, `"jobs/1/10"`) {
			t.Errorf("with a key deeper below: %s", got)
		}
	}
	m.session(32, "host2").lock("jobs")
	if got := explain(lock); !strings.Contains(got, "is held by") || !strings.Contains(got, `"jobs/1/10"`) {
		t.Errorf("held, with a key deeper below: %s", got)
	}
}
