package recipes_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

const elected = "_coord/elections/a"

// TestElectionByPriority: who leads stays; whatever removes it, the greatest priority leads in the same commit, the
// oldest of equals first (E1, E2, E4).
func TestElectionByPriority(t *testing.T) {
	s := newStage(t, 1, 2, 3, 4, 5, 6)
	low := s.campaign(1, "a", -5)
	if low.State != coordv1.AcquiredEntry_HOLDS || low.Token != s.Rev || low.Key != elected+"/1" {
		t.Fatalf("first: %v", low)
	}
	entries := map[int64]*coordv1.AcquiredEntry{1: low}
	for id, priority := range []int64{2: 3, 3: 9, 4: 9, 5: 1} {
		if priority != 0 {
			entries[int64(id)] = s.campaign(int64(id), "a", priority)
		}
	}
	if e := entries[4]; e.State != coordv1.AcquiredEntry_WAITS || e.Position != 2 || e.Holder.GetKey() != low.Key ||
		e.Holder.GetToken() != low.Token || string(e.Holder.GetValue()) != "1" {
		t.Errorf("waiter: %v", e)
	}
	term := low.Token
	next := func(what string, id int64) {
		t.Helper()
		l := s.leader(elected)
		if l.Key != entries[id].Key || l.Token <= term || l.Token != s.Rev {
			t.Fatalf("after %s: %+v at revision %d, want %v after term %d", what, l, s.Rev, entries[id], term)
		}
		term = l.Token
		entries[id].Token = term
		if !s.holds(entries[id]) {
			t.Errorf("after %s: the leader's grant does not hold", what)
		}
	}
	if n, err := s.release(1, low); n != 1 || err != nil {
		t.Fatalf("resign: %d, %v", n, err)
	}
	next("a resignation", 3)
	waiting := proto.CloneOf(entries[3]) // the leader may also be named by the token it waited with
	waiting.Token = s.Get([]byte(entries[3].Key)).CreateRevision
	s.Revoke(3)
	next("a revocation", 4)
	if n, err := s.release(3, waiting); n != 0 || err != nil {
		t.Errorf("late release: %d, %v", n, err)
	}
	s.Delete(entries[4].Key)
	next("a plain delete", 2)
	s.Expire(2)
	next("an expiry", 5)
	if again := s.campaign(5, "a", 7); again.Token != term || again.State != coordv1.AcquiredEntry_HOLDS {
		t.Errorf("L8: repeated campaign of the leader: %v in term %d", again, term)
	}
	must(t, s.ask(5, coordv1.Kind_KIND_PROCLAIM, &coordv1.Proclaim{Entry: guard(entries[5]), Value: []byte("new")},
		&coordv1.Proclaimed{}))
	if l := s.leader(elected); l.Token != term || string(l.Value) != "new" || l.Priority != 7 {
		t.Errorf("after a proclamation: %+v", l)
	}
	entries[6] = s.campaign(6, "a", 1)
	err := s.ask(6, coordv1.Kind_KIND_PROCLAIM, &coordv1.Proclaim{Entry: guard(entries[6])}, &coordv1.Proclaimed{})
	wantRefusal(t, "proclamation of a waiter", err, recipes.ErrNotHolder, "/6")
	resp := &coordv1.Transferred{}
	must(t, s.ask(5, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{
		Name: "a", To: entries[6].Key, Leader: guard(entries[5]), Priority: 1,
	}, resp))
	next("a transfer", 6)
	s.wantOrder(elected, "6")
	if resp.Term != term || resp.Revision != term {
		t.Errorf("transferred: %v, term %d", resp, term)
	}
	s.Revoke(6)
	if s.Get([]byte(layout.RecordKey(elected, layout.Leader))) != nil {
		t.Error("nobody is there, but the record is")
	}
}

// TestElectionByPriorityHeals: whatever an etcd client does to its keys, afterwards somebody leads, in a new term, and
// who led before has no entry any more.
func TestElectionByPriorityHeals(t *testing.T) {
	leader := layout.RecordKey(elected, layout.Leader)
	for what, harm := range map[string]func(s *stage){
		"record deleted":               func(s *stage) { s.Delete(leader) },
		"record and leader deleted":    func(s *stage) { s.Delete(leader, elected+"/1") },
		"leader and record deleted":    func(s *stage) { s.Delete(elected+"/1", leader) },
		"record and candidate deleted": func(s *stage) { s.Delete(leader, elected+"/3") },
		"leader and next deleted":      func(s *stage) { s.Delete(elected+"/1", elected+"/2") },
	} {
		s := newStage(t, 1, 2, 3)
		a := s.campaign(1, "a", 9)
		s.campaign(2, "a", 5)
		s.campaign(3, "a", 1)
		s.NoSpace = true
		harm(s)
		l := s.leader(elected)
		if l.Key == "" || l.Key == a.Key || l.Token <= a.Token || s.holds(a) || s.Get([]byte(a.Key)) != nil {
			t.Errorf("%s: %+v leads, queue %q", what, l, s.order(elected))
		}
	}
	for what, value := range map[string]string{"garbage": "\xff", "another value": ""} {
		s := newStage(t, 1, 2, 3)
		a := s.campaign(1, "a", 9)
		s.campaign(2, "a", 5)
		must(t, s.Put(leader, value, 0))
		if s.holds(a) || s.leader(elected).Key != "" {
			t.Errorf("%s in the record: somebody leads", what)
		}
		if e := s.campaign(3, "a", 1); e.State != coordv1.AcquiredEntry_WAITS || s.leader(elected).Key != elected+"/2" {
			t.Errorf("%s in the record, after another campaign: %v, %+v", what, e, s.leader(elected))
		}
		s.wantOrder(elected, "2 3")
	}
}

// TestRandomElectionsByPriority: at any time at most one leads, terms grow, and as long as there is a candidate, one
// does.
func TestRandomElectionsByPriority(t *testing.T) {
	for seed := range seeds(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := newStage(t, 1, 2, 3, 4, 5)
		var term int64
		var last string
		for range 100 {
			id := 1 + rng.Int64N(5)
			key := layout.EntryKey(elected, id, "")
			switch rng.IntN(8) {
			case 0, 1, 2:
				linger := 100 * rng.Int64N(2)
				err := s.ask(id, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{
					Name: "a", Priority: 1 + rng.Int64N(3), LingerMs: linger,
				}, &coordv1.Acquired{})
				if err != nil && !errors.Is(err, recipes.ErrKeyTaken) {
					t.Fatal(err)
				}
			case 3:
				s.Delete(key)
			case 4:
				s.Expire(id)
				s.Leases[id], s.Sessions[id] = true, true
			case 5:
				for lease := range s.Leases {
					if statemachine.Lingers(lease) {
						s.Expire(lease)
					}
				}
			case 6:
				err := s.ask(id, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", To: key, Priority: 1},
					&coordv1.Transferred{})
				var refusal statemachine.Refusal
				if err != nil && !errors.As(err, &refusal) {
					t.Fatal(err)
				}
			case 7:
				s.Delete(layout.RecordKey(elected, layout.Leader))
			}
			q := recipes.Read(s, elected)
			l, led := q.Holder()
			_, kept := q.Lingering()
			if !led && !kept && len(q.Waiting()) > 0 {
				t.Fatalf("seed %d: nobody leads %q", seed, s.order(elected))
			}
			if !led {
				continue
			}
			if l.Token < term || l.Token == term && l.Key != last {
				t.Fatalf("seed %d: E2: %+v leads after %q in term %d", seed, l, last, term)
			}
			term, last = l.Token, l.Key
			for _, e := range q.Sorted {
				if s.holds(&coordv1.AcquiredEntry{Name: "a", Key: e.Key, Token: term}) != (e.Key == l.Key) {
					t.Fatalf("seed %d: E1: guard of %+v in term %d of %+v", seed, e, term, l)
				}
			}
		}
	}
}

func TestAskAndForceRelease(t *testing.T) {
	for _, priority := range []int64{0, 4} {
		s := newStage(t, 1, 2, 3)
		s.UnixMS = 5
		asked := &coordv1.Asked{}
		ask := func() *coordv1.Asked {
			t.Helper()
			must(t, s.ask(3, coordv1.Kind_KIND_ASK_RELEASE, &coordv1.AskRelease{
				Name: "a", From: "me", Reason: "now", Priority: priority,
			}, asked))
			return asked
		}
		if ask().Holder != nil {
			t.Errorf("asked %v while nobody holds", asked.Holder)
		}
		a, b := s.campaign(1, "a", priority), s.campaign(2, "a", priority)
		if ask().Holder.GetKey() != a.Key || asked.Holder.Token != a.Token || asked.Holder.SinceUnixMs == 0 ||
			asked.Revision != s.Rev {
			t.Errorf("asked %v", asked)
		}
		kv := s.Get([]byte(layout.AskKey(a.Key)))
		if note := recipes.ParseAsk(kv); kv.Lease != 1 || note.Token != a.Token || note.From != "me" ||
			note.Reason != "now" {
			t.Errorf("note: %v", kv)
		}
		force := func(token int64, kind coordv1.QueueKind, resp *coordv1.ForceReleaseResponse) error {
			return call(t, s.Store, recipes.ForceRelease, &coordv1.ForceReleaseRequest{
				Name: "a", Token: token, Kind: kind, Reason: "stuck",
			}, resp)
		}
		kind := map[bool]coordv1.QueueKind{
			true: coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, false: coordv1.QueueKind_QUEUE_ELECTION,
		}[priority != 0]
		removed := &coordv1.ForceReleaseResponse{}
		wantRefusal(t, "force, another token", force(a.Token+1, kind, removed), recipes.ErrNotHolder, `"a"`)
		if priority == 0 {
			wantRefusal(t, "force, a lock", force(0, coordv1.QueueKind_QUEUE_LOCK, removed), recipes.ErrWrongKind, `"a"`)
		}
		must(t, force(a.Token, kind, removed))
		if removed.Removed.GetKey() != a.Key || removed.Removed.Token != a.Token || removed.Revision != s.Rev ||
			s.leader(layout.ElectionQueue("a", priority)).Key != b.Key {
			t.Errorf("forced: %v", removed)
		}
		if note := recipes.ParseAsk(s.Get([]byte(layout.AskKey(a.Key)))); note.GetReason() != "stuck" {
			t.Errorf("the holder is told %v", note)
		}
		s.Revoke(1)
		if s.Get([]byte(layout.AskKey(a.Key))) != nil {
			t.Error("the note outlives the session")
		}
	}
}

// TestAskDropsStaleNotes: notes of released entries do not gather.
func TestAskDropsStaleNotes(t *testing.T) {
	s := newStage(t, 1, 2)
	names := []string{"f", "e", "d", "c", "b", "a"}
	for _, name := range names {
		e := s.lock(1, name)
		must(t, s.ask(2, coordv1.Kind_KIND_ASK_RELEASE, &coordv1.AskRelease{Name: name}, &coordv1.Asked{}))
		if name != "f" {
			_, err := s.release(1, e...)
			must(t, err)
		}
		if name == "e" { // another grant, of which nobody asked anything
			s.lock(1, name)
		}
	}
	if s.Get([]byte(layout.AskKey("f/1"))) == nil || s.Len() != 2+1+1 {
		t.Errorf("%d keys: two locks are held, one of them asked for, and one note is new", s.Len())
	}
}
