package recipes_test

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// acquireBy runs the procedure of an acquire outside of sessions, for the lease that it names.
func (s *stage) acquireBy(procedure string, req proto.Message) (*coordv1.Acquired, error) {
	s.Helper()
	resp := &coordv1.Acquired{}
	return resp, call(s.T, s.Store, procedure, req, resp)
}

// TestRequestsForALease: a request outside of a session is the one of the session whose lease it names: it finds the
// same entry, in a queue of any kind, and does not change for how long the session wants its place kept. In a session
// only that one's lease can be named.
func TestRequestsForALease(t *testing.T) {
	for procedure, c := range map[string]struct {
		kind     coordv1.Kind
		in, call proto.Message // in the session, and outside of it
		queue    string
	}{
		recipes.Acquire: {coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"a"}, LingerMs: 7000},
			&coordv1.Acquire{Names: []string{"a"}, Lease: 1}, "a"},
		recipes.Campaign: {coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "a", LingerMs: 7000},
			&coordv1.Campaign{Name: "a", Lease: 1}, "a"},
		recipes.RWAcquire: {coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "a", LingerMs: 7000},
			&coordv1.RWAcquire{Name: "a", Lease: 1}, "_coord/rwlocks/a"},
		recipes.SemaphoreAcquire: {coordv1.Kind_KIND_SEMAPHORE_ACQUIRE,
			&coordv1.SemaphoreAcquire{Name: "a", LingerMs: 7000, Permits: 1, Limit: 1},
			&coordv1.SemaphoreAcquire{Name: "a", Lease: 1, Permits: 1}, "_coord/semaphores/a"},
	} {
		s := newStage(t, 1, 2)
		in := &coordv1.Acquired{}
		must(t, s.ask(1, c.kind, c.in, in))
		outside, err := s.acquireBy(procedure, c.call)
		if err != nil || !proto.Equal(outside.Entries[0], in.Entries[0]) || outside.Revision <= in.Revision {
			t.Errorf("%s: %v, %v, and of the session %v", procedure, outside, err, in)
		}
		s.wantOrder(c.queue, "1")
		if note := s.Step().Attachment(1, []byte(in.Entries[0].Key)); note.LingerMS != 7000 {
			t.Errorf("%s: %+v", procedure, note)
		}
		err = s.ask(2, c.kind, c.call, &coordv1.Acquired{})
		wantRefusal(t, procedure+" for another's lease", err, statemachine.ErrInvalid, "not that of the session")
	}
}

// TestResumeSeveral: who resumes goes on with all entries of an acquire, or with none and nothing happens.
func TestResumeSeveral(t *testing.T) {
	s := newStage(t, 1, 2)
	held := s.acquire(1, &coordv1.Acquire{Names: []string{"a", "b"}, Owner: "me", LingerMs: 7000})
	resume := &coordv1.Acquire{Names: []string{"a", "b"}, ResumeToken: held[0].Token}
	if resumed := s.acquire(1, resume); fmt.Sprint(resumed) != fmt.Sprint(held) {
		t.Errorf("%v, of %v", resumed, held)
	}
	if kv := s.Get([]byte("b/1")); string(kv.Value) != "me" || s.Step().Attachment(1, kv.Key).LingerMS != 7000 {
		t.Errorf("the entry is another after a resume: %v", kv)
	}
	s.Store.Delete("b/1")
	before := s.Rev
	for _, e := range s.acquire(1, resume) {
		if e.State != coordv1.AcquiredEntry_NONE || e.Token != 0 {
			t.Errorf("resumed without the other one: %v", e)
		}
	}
	if s.Rev != before {
		t.Error("a resume of what is gone has written")
	}
	err := s.ask(1, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "a", Priority: 1, ResumeToken: 3},
		&coordv1.Acquired{})
	wantRefusal(t, "a resume with a priority", err, statemachine.ErrInvalid, "priorities")
}

// TestReleaseByClaim: nothing is released if one of the entries was taken over since.
func TestReleaseByClaim(t *testing.T) {
	s := newStage(t, 1)
	resp := &coordv1.Acquired{}
	must(t, s.ask(1, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"a", "b"}}, resp))
	must(t, s.Put("b/1", "again", 1))
	req := &coordv1.Release{
		Entries: []*coordv1.Guard{guard(resp.Entries[0]), guard(resp.Entries[1])}, Claim: resp.Revision,
	}
	err := s.ask(1, coordv1.Kind_KIND_RELEASE, req, &coordv1.Released{})
	if !errors.Is(err, recipes.ErrSuperseded) {
		t.Errorf("one of both was taken over: %v", err)
	}
	s.wantOrder("a", "1")
	req.Entries = req.Entries[:1]
	must(t, s.ask(1, coordv1.Kind_KIND_RELEASE, req, &coordv1.Released{}))
	s.wantOrder("a", "")
}
