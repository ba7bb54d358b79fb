package recipes_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/recipestest"
	"github.com/coord-dev/coord/statemachine"
)

// stage is a store with sessions.
type stage struct {
	*testing.T
	*recipestest.Store
	sequence uint64
}

func newStage(t *testing.T, sessions ...int64) *stage {
	s := &stage{T: t, Store: recipestest.New()}
	for _, id := range sessions {
		s.Leases[id], s.Sessions[id] = true, true
	}
	return s
}

// ask runs a request of a session.
func (s *stage) ask(session int64, kind coordv1.Kind, req, resp proto.Message) error {
	s.Helper()
	s.sequence++
	return s.Request(session, s.sequence, kind, req, resp)
}

func (s *stage) acquire(session int64, req *coordv1.Acquire) []*coordv1.AcquiredEntry {
	s.Helper()
	resp := &coordv1.Acquired{}
	must(s.T, s.ask(session, coordv1.Kind_KIND_ACQUIRE, req, resp))
	return resp.Entries
}

func (s *stage) lock(session int64, names ...string) []*coordv1.AcquiredEntry {
	s.Helper()
	return s.acquire(session, &coordv1.Acquire{Names: names})
}

func (s *stage) campaign(session int64, name string, priority int64) *coordv1.AcquiredEntry {
	s.Helper()
	resp := &coordv1.Acquired{}
	must(s.T, s.ask(session, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{
		Name: name, Priority: priority, Value: fmt.Append(nil, session),
	}, resp))
	return resp.Entries[0]
}

func guard(e *coordv1.AcquiredEntry) *coordv1.Guard {
	return &coordv1.Guard{Name: e.Name, Key: e.Key, Token: e.Token}
}

func (s *stage) release(session int64, entries ...*coordv1.AcquiredEntry) (int64, error) {
	s.Helper()
	req := &coordv1.Release{}
	for _, e := range entries {
		req.Entries = append(req.Entries, guard(e))
	}
	resp := &coordv1.Released{}
	err := s.ask(session, coordv1.Kind_KIND_RELEASE, req, resp)
	return resp.Removed, err
}

func (s *stage) holds(e *coordv1.AcquiredEntry) bool { return recipes.Guard(s.Step(), guard(e)) }

// order is the queue's entries, a lingering one with a tilde.
func (s *stage) order(queue string) string {
	var keys []string
	for _, e := range recipes.Queue(s, queue) {
		key := strings.TrimPrefix(e.Key, queue+"/")
		if e.Lingers {
			key = "~" + key
		}
		keys = append(keys, key)
	}
	return strings.Join(keys, " ")
}

func (s *stage) wantOrder(queue, want string) {
	s.Helper()
	if got := s.order(queue); got != want {
		s.Fatalf("queue of %q: %q, want %q", queue, got, want)
	}
}

func wantRefusal(t *testing.T, what string, err, want error, text string) {
	t.Helper()
	var r statemachine.Refusal
	if !errors.Is(err, want) || want != statemachine.ErrInvalid && !errors.As(err, &r) ||
		!strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %v with %q", what, err, want, text)
	}
}

func TestAcquireSeveral(t *testing.T) {
	s := newStage(t, 1, 2, 3)
	s.lock(1, "b")
	got := s.lock(2, "a", "b", "c")
	for i, e := range got {
		if e.Token != s.Rev || e.Name != string("abc"[i]) {
			t.Errorf("entry %d: %v at revision %d", i, e, s.Rev)
		}
	}
	if got[0].State != coordv1.AcquiredEntry_HOLDS || got[1].State != coordv1.AcquiredEntry_WAITS ||
		got[1].Position != 1 || got[1].Holder.GetKey() != "b/1" {
		t.Errorf("acquired: %v", got)
	}
	rev := s.Rev
	for _, e := range s.acquire(3, &coordv1.Acquire{Names: []string{"d", "b"}, Try: true}) {
		if e.State != coordv1.AcquiredEntry_NONE || e.Token != 0 || (e.Name == "b") != (e.Holder.GetKey() == "b/1") {
			t.Errorf("try: %v", e)
		}
	}
	if s.Rev != rev {
		t.Error("a try that failed wrote")
	}
	again := s.lock(2, "a", "b", "c")
	for i, e := range again {
		if e.Token != got[i].Token || e.State != got[i].State || e.Position != got[i].Position {
			t.Errorf("L8: taken over: %v, before %v", e, got[i])
		}
	}
	err := s.ask(2, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"a", "z"}}, &coordv1.Acquired{})
	wantRefusal(t, "old and new entries in one acquire", err, recipes.ErrKeyTaken, "one acquire")
	if n, err := s.release(1, s.lock(1, "b")...); n != 1 || err != nil {
		t.Errorf("release: %d, %v", n, err)
	}
	for _, e := range got {
		if !s.holds(e) {
			t.Errorf("%v does not hold", e)
		}
	}
}

// TestMultiLocksCannotDeadlock: whatever sets of names owners acquire, in whatever order they name them, somebody holds
// all of his as long as anybody waits, and in the end everybody did.
func TestMultiLocksCannotDeadlock(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	for seed := range seeds(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		s := newStage(t)
		waiting := map[int64][]*coordv1.AcquiredEntry{}
		for id := int64(1); id <= 12; id++ {
			s.Leases[id], s.Sessions[id] = true, true
			rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			waiting[id] = s.lock(id, names[:1+rng.IntN(4)]...)
		}
		for len(waiting) > 0 {
			var done []int64
			for id, entries := range waiting {
				if !slices.ContainsFunc(entries, func(e *coordv1.AcquiredEntry) bool { return !s.holds(e) }) {
					done = append(done, id)
				}
			}
			if len(done) == 0 {
				t.Fatalf("seed %d: %d wait for each other", seed, len(waiting))
			}
			for _, id := range done {
				if n, err := s.release(id, waiting[id]...); err != nil || int(n) != len(waiting[id]) {
					t.Fatalf("seed %d: release: %d, %v", seed, n, err)
				}
				delete(waiting, id)
			}
		}
	}
}

// TestL8ReleaseIsTokenExact: a release frees the grant of its token and nothing else, however often it comes.
func TestL8ReleaseIsTokenExact(t *testing.T) {
	s := newStage(t, 1, 2)
	first := s.lock(1, "a")[0]
	if n, err := s.release(1, first, first); n != 1 || err != nil {
		t.Errorf("release, named twice: %d, %v", n, err)
	}
	second, other := s.lock(1, "a")[0], s.lock(1, "b")[0]
	if n, err := s.release(1, first, other); n != 1 || err != nil {
		t.Errorf("late release beside a good one: %d, %v", n, err)
	}
	if !s.holds(second) {
		t.Error("a late release freed a newer grant")
	}
	for what, token := range map[string]int64{"of another lock": other.Token, "of the future": s.Rev + 1} {
		bad := proto.CloneOf(second)
		bad.Token = token
		_, err := s.release(1, second, bad)
		wantRefusal(t, "token "+what, err, recipes.ErrTokenMismatch, "a/1")
	}
	gone := proto.CloneOf(other)
	gone.Token = s.Rev + 1
	_, err := s.release(1, gone)
	wantRefusal(t, "token of the future where nothing is", err, recipes.ErrTokenMismatch, "b/1")
	if !s.holds(second) {
		t.Error("a refused release freed something")
	}
}

// TestL1GuardNeedsTheHolder: a waiter has a token, too, and what was released, expired or lingers guards nothing.
func TestL1GuardNeedsTheHolder(t *testing.T) {
	for _, priority := range []int64{0, 5} {
		s := newStage(t, 1, 2)
		a, b := s.campaign(1, "a", priority), s.campaign(2, "a", priority)
		if !s.holds(a) || s.holds(b) {
			t.Errorf("priority %d: holder %v, waiter %v", priority, s.holds(a), s.holds(b))
		}
		wrong := proto.CloneOf(a)
		wrong.Token = b.Token
		elsewhere := proto.CloneOf(a)
		elsewhere.Name = "b"
		if s.holds(wrong) || s.holds(elsewhere) {
			t.Error("another token or another name guards")
		}
		s.Leases[1] = false // overdue
		if s.holds(a) {
			t.Error("an overdue lease guards")
		}
		s.Leases[1] = true
		s.Revoke(1)
		if s.holds(a) {
			t.Errorf("priority %d: what is gone guards", priority)
		}
		if priority == 0 && !s.holds(b) {
			t.Error("the next one does not hold")
		}
	}
}

// TestLingeringPlace: the place of a holder that expired is kept against everybody, given to nobody, and then handed
// on.
func TestLingeringPlace(t *testing.T) {
	for _, priority := range []int64{0, 5} {
		s := newStage(t, 1, 2, 3)
		queue := layout.ElectionQueue("a", priority)
		resp := &coordv1.Acquired{}
		must(t, s.ask(1, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "a", Priority: priority, LingerMs: 500},
			resp))
		a, b := resp.Entries[0], s.campaign(2, "a", priority)
		s.Expire(1)
		s.wantOrder(queue, "~1 2")
		if lingers := recipes.Queue(s, queue)[0]; recipes.RuleOf(queue).Holds(s, queue, lingers, lingers.Token) {
			t.Errorf("%+v holds", lingers)
		}
		c := s.campaign(3, "a", priority)
		if s.holds(a) || s.holds(b) || s.holds(c) || c.State != coordv1.AcquiredEntry_WAITS || c.Holder != nil ||
			c.Position != 2 {
			t.Errorf("priority %d, while it lingers: %v, %v %v %v", priority, c, s.holds(a), s.holds(b), s.holds(c))
		}
		try := &coordv1.Acquired{}
		must(t, s.ask(3, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{
			Name: "a", OwnerId: "x", Priority: priority, Try: true,
		}, try))
		if try.Entries[0].State != coordv1.AcquiredEntry_NONE || try.Entries[0].Holder != nil {
			t.Errorf("try while it lingers: %v", try)
		}
		err := s.ask(2, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", To: b.Key, Priority: priority},
			&coordv1.Transferred{})
		wantRefusal(t, "transfer while it lingers", err, recipes.ErrNoLeader, "")
		asked := &coordv1.Asked{}
		must(t, s.ask(2, coordv1.Kind_KIND_ASK_RELEASE, &coordv1.AskRelease{Name: "a", Priority: priority}, asked))
		if asked.Holder != nil {
			t.Errorf("asked %v, which is dead", asked.Holder)
		}
		s.Leases[1], s.Sessions[1] = true, true // an etcd client may use the id again
		err = s.ask(1, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "a", Priority: priority},
			&coordv1.Acquired{})
		wantRefusal(t, "campaign at a lingering place", err, recipes.ErrKeyTaken, a.Key)
		s.ExpirePlaces()
		s.wantOrder(queue, "2 3")
		if next := s.leader(queue); next.Key != b.Key {
			t.Errorf("after it lingered: %+v", next)
		}
	}
}

// leader is who holds by the pure rule, as the lines and the services see it.
func (s *stage) leader(queue string) recipes.Entry {
	e, _ := recipes.Read(s, queue).Holder()
	return e
}

// TestKindsDoNotMix: a lock and an election of one name, unless only etcd clients were there.
func TestKindsDoNotMix(t *testing.T) {
	s := newStage(t, 1, 2)
	s.lock(1, "a")
	err := s.ask(2, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "a"}, &coordv1.Acquired{})
	wantRefusal(t, "campaign for a lock", err, recipes.ErrWrongKind, `"a"`)
	s.campaign(1, "b", 0)
	err = s.ask(2, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"c", "b"}}, &coordv1.Acquired{})
	wantRefusal(t, "acquire of an election", err, recipes.ErrWrongKind, `"b"`)
	s.wantOrder("c", "")
	must(t, s.Put("d/1", "", 1))
	s.campaign(2, "d", 0)
	s.wantOrder("d", "1 2")
	if e := s.campaign(1, "a", 3); e.State != coordv1.AcquiredEntry_HOLDS {
		t.Errorf("an election with priorities is another one: %v", e)
	}
}

func TestBadStreamRequests(t *testing.T) {
	s := newStage(t, 1)
	many := make([]string, recipes.MaxNames+1)
	for i := range many {
		many[i] = fmt.Sprint("n", i)
	}
	for what, req := range map[string]*coordv1.Acquire{
		"0 names":          {},
		"65 names":         {Names: many},
		"there twice":      {Names: []string{"a", "b", "a"}},
		"name is empty":    {Names: []string{"a", ""}},
		"reserved":         {Names: []string{"_coord/elections/a"}},
		"linger_ms":        {Names: []string{"a"}, LingerMs: recipes.MaxLingerMS + 1},
		"linger_ms -1":     {Names: []string{"a"}, LingerMs: -1},
		"other characters": {Names: []string{"a"}, OwnerId: "a.b"},
		"line break":       {Names: []string{"a"}, Owner: "x\ny"},
	} {
		err := s.ask(1, coordv1.Kind_KIND_ACQUIRE, req, &coordv1.Acquired{})
		wantRefusal(t, what, err, statemachine.ErrInvalid, what)
	}
	for what, c := range map[string]struct {
		kind coordv1.Kind
		req  proto.Message
	}{
		"value has": {coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{
			Name: "a", Value: make([]byte, recipes.MaxValueLen+1),
		}},
		"0 entries": {coordv1.Kind_KIND_RELEASE, &coordv1.Release{}},
		"is not one of an": {coordv1.Kind_KIND_RELEASE, &coordv1.Release{
			Entries: []*coordv1.Guard{{Name: "a", Key: "b/1", Token: 1}},
		}},
		"not positive": {coordv1.Kind_KIND_PROCLAIM,
			&coordv1.Proclaim{Entry: &coordv1.Guard{Name: "a", Key: "a/1"}}},
		"name is empty":    {coordv1.Kind_KIND_PROCLAIM, &coordv1.Proclaim{}},
		"election that is": {coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", To: "a/1", Priority: 1}},
		"text has 1025 bytes": {coordv1.Kind_KIND_ASK_RELEASE,
			&coordv1.AskRelease{Name: "a", Reason: strings.Repeat("x", 1025)}},
	} {
		wantRefusal(t, what, s.ask(1, c.kind, c.req, &coordv1.Asked{}), statemachine.ErrInvalid, what)
	}
	body, err := proto.Marshal(&coordv1.Acquire{Names: []string{"a"}})
	must(t, err)
	_, err = s.Call(recipes.Acquire, body)
	wantRefusal(t, "acquire without a session", err, statemachine.ErrInvalid, "lease 0")
}

// TestE4TransferPutsCandidatesBehind: those ahead of the target keep their order behind it; a transfer is one commit.
func TestE4TransferPutsCandidatesBehind(t *testing.T) {
	s := newStage(t, 1, 2, 3, 4, 5, 6)
	var entries []*coordv1.AcquiredEntry
	for id := int64(1); id <= 5; id++ {
		entries = append(entries, s.campaign(id, "a", 0))
	}
	transfer := func(leader *coordv1.Guard, to string) (*coordv1.Transferred, error) {
		resp := &coordv1.Transferred{}
		return resp, s.ask(6, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", Leader: leader, To: to}, resp)
	}
	rev := s.Rev
	_, err := transfer(guard(entries[1]), "a/3")
	wantRefusal(t, "transfer by a waiter", err, recipes.ErrNotHolder, "a/2")
	_, err = transfer(nil, "a/6")
	wantRefusal(t, "transfer to nobody", err, recipes.ErrNoCandidate, "a/6")
	if resp, err := transfer(nil, "a/1"); err != nil || resp.Term != entries[0].Token || s.Rev != rev {
		t.Errorf("transfer to the leader: %v, %v", resp, err)
	}
	resp, err := transfer(guard(entries[0]), "a/4")
	if err != nil || resp.Term != entries[3].Token || resp.Revision != s.Rev || s.Rev != rev+3 {
		t.Fatalf("transfer: %v, %v, revision %d after %d", resp, err, s.Rev, rev)
	}
	s.wantOrder("a", "4 5 2 3")
	if !s.holds(entries[3]) || s.holds(entries[0]) {
		t.Error("the target does not lead, or the old leader does")
	}
	moved := recipes.ParseTransfer(s.Get([]byte(layout.TransferKey("a"))))
	two := s.Get([]byte("a/2")).CreateRevision
	if now, ok := moved.Moved("a/2", entries[1].Token); !ok || now != two || moved.From != "a/1" || moved.To != "a/4" {
		t.Errorf("note: %v", moved)
	}
	if _, err := transfer(nil, "a/3"); err != nil {
		t.Fatal(err)
	}
	s.wantOrder("a", "3 5 2")
	moved = recipes.ParseTransfer(s.Get([]byte(layout.TransferKey("a"))))
	if now, ok := moved.Moved("a/2", entries[1].Token); !ok || now != s.Get([]byte("a/2")).CreateRevision {
		t.Errorf("note of the second transfer: %v", moved)
	}
	if n, err := s.release(6, &coordv1.AcquiredEntry{
		Name: "a", Key: "a/5", Token: s.Get([]byte("a/5")).CreateRevision,
	}); n != 1 || err != nil {
		t.Error(n, err)
	}
	if _, err := transfer(nil, "a/2"); err != nil {
		t.Fatal(err)
	}
	s.wantOrder("a", "2")
}

// TestTransferIsRefusedWhereNobodyFollows: nothing changes.
func TestTransferIsRefusedWhereNobodyFollows(t *testing.T) {
	s := newStage(t, 1, 2, 3, 4)
	s.Leases[9] = true
	for what, between := range map[string]func(name string){
		"an etcd client":                    func(name string) { must(t, s.Put(name+"/2", "", 2)) },
		"a candidate without a session":     func(name string) { s.unaryCampaign(name, 9) },
		"a unary campaign with a session's": func(name string) { s.unaryCampaign(name, 2) },
	} {
		name := strings.Fields(what)[1]
		s.campaign(1, name, 0)
		between(name)
		s.campaign(3, name, 0)
		rev, order := s.Rev, s.order(name)
		err := s.ask(1, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: name, To: name + "/3"},
			&coordv1.Transferred{})
		wantRefusal(t, what, err, recipes.ErrForeignCandidate, name+"/")
		s.wantOrder(name, order)
		if s.Rev != rev {
			t.Errorf("%s: refused, but revision %d after %d", what, s.Rev, rev)
		}
	}
	a := s.campaign(1, "space", 0)
	for id := int64(2); id <= 3; id++ {
		s.campaign(id, "space", 0)
	}
	s.NoSpace = true
	err := s.ask(1, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "space", To: "space/3"}, &coordv1.Transferred{})
	if !errors.Is(err, statemachine.ErrNoSpace) || !s.holds(a) {
		t.Errorf("transfer without space: %v", err)
	}
}

func (s *stage) unaryCampaign(name string, lease int64) {
	s.Helper()
	_, err := enqueue(s.T, s.Store, true, &coordv1.Campaign{Name: name, Lease: lease})
	must(s.T, err)
}
