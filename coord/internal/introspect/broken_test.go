package introspect_test

import (
	"errors"
	"strings"
	"testing"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// TestBrokenQueueIsNamed: a queue for which what follows from a deletion could not be done is called neither free nor
// held by who is next, and why it grants nobody anything is said. Who enters mends it: whoever is next holds then.
func TestBrokenQueueIsNamed(t *testing.T) {
	m := newMember(t)
	write := func(id int64) *coordv1.AcquiredEntry {
		resp := &coordv1.Acquired{}
		m.session(id, "host").request(coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "a", Write: true}, resp)
		return resp.Entries[0]
	}
	explain := func() *coordv1.ExplainResponse {
		return must(m.Explain(t.Context(), &coordv1.ExplainRequest{Kind: coordv1.QueueKind_QUEUE_RWLOCK, Name: "a"}))(t)
	}
	write(16)
	next := write(32)
	m.failing = errors.New("it cannot be written")
	m.do(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 16})
	m.failing = nil
	resp := explain()
	for _, want := range []string{"is held by nobody; 1 waits", "nobody is granted anything here since revision",
		"it cannot be written", "whoever enters has it tried again"} {
		if !strings.Contains(resp.Sentence, want) {
			t.Errorf("no %q in %s", want, resp.Sentence)
		}
	}
	if resp.Queue.Holder != nil || len(resp.Holders) != 0 {
		t.Errorf("held by %v, %v", resp.Queue.Holder, resp.Holders)
	}
	write(48)
	if resp := explain(); resp.Queue.Holder.GetKey() != next.Key ||
		strings.Contains(resp.Sentence, "nobody is granted") {
		t.Errorf("mended: %s", resp.Sentence)
	}
}
