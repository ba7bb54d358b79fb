package recipes_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

// crowd runs random requests on one queue in which several hold, on a real state machine: retries, releases by old
// tokens, withdrawals, expiries with and without lingering places, plain deletes, restarts and snapshots. Every command
// is one index of the log, and after each one check sees the queue.
type crowd struct {
	*testMachine
	rng       *rand.Rand
	seed      uint64
	queue     string
	sequences map[int64]uint64 // the last one of each session
	made      []made           // every entry there ever was
	seen      map[string]int   // how often something happened
	story     []string
	last      string // what was done last
}

// made is an entry as its request was answered.
type made struct {
	session  int64
	sequence uint64
	*coordv1.AcquiredEntry
}

// crowds runs histories, in which each kind of event in want must happen. request sends one of the recipe's own
// requests.
func crowds(
	t *testing.T, kind coordv1.QueueKind, want []string, request func(*crowd), check func(*crowd, *recipes.Snapshot),
) {
	total := map[string]int{}
	for seed := range seeds(10) {
		c := &crowd{
			testMachine: newMachine(t), rng: rand.New(rand.NewPCG(seed, uint64(kind))), seed: seed,
			queue:     layout.QueueOf(kind, "a"),
			sequences: map[int64]uint64{}, seen: total,
		}
		for range 150 {
			if c.rng.IntN(5) < 3 {
				request(c)
			} else {
				c.disturb()
			}
			check(c, c.snapshot())
		}
		must(t, c.Machine.Close())
	}
	for _, what := range want {
		if total[what] == 0 && !testing.Short() {
			t.Errorf("no history reached %q", what)
		}
	}
}

func (c *crowd) did(kind, format string, args ...any) {
	c.seen[kind]++
	c.last = kind
	c.story = append(c.story, fmt.Sprintf("index %d: %s %s", c.index, kind, fmt.Sprintf(format, args...)))
}

// broken fails with the last things that were done.
func (c *crowd) broken(format string, args ...any) {
	c.Helper()
	for _, l := range c.story[max(0, len(c.story)-20):] {
		c.Log(l)
	}
	c.Fatalf("seed %d, index %d: %s", c.seed, c.index, fmt.Sprintf(format, args...))
}

// someone is a session that lives.
func (c *crowd) someone() int64 {
	id := 1 + c.rng.Int64N(5)
	if _, ok := c.sessions[id]; !ok {
		c.open(id)
		c.sequences[id] = 0
	}
	return id
}

// ask sends a request of a session; the text says why it was refused. The last 20 outcomes are kept.
func (c *crowd) ask(session int64, kind coordv1.Kind, req, resp proto.Message) (sequence uint64, refusal string) {
	c.Helper()
	body, err := proto.Marshal(req)
	must(c.T, err)
	c.sequences[session]++
	sequence = c.sequences[session]
	s := c.sessions[session]
	request, err := proto.Marshal(&coordv1.Request{Sequence: sequence, Kind: kind, Body: body})
	must(c.T, err)
	acknowledged := uint64(max(0, int64(sequence)-20))
	result := c.do(raftv1.KindRequests, &raftv1.Requests{
		Session: session, Created: s.Created, Epoch: s.Epoch, Acknowledged: acknowledged, Requests: [][]byte{request},
		UnixMs: 1,
	})
	must(c.T, result.Err)
	outcome := &coordv1.Outcome{}
	must(c.T, proto.Unmarshal(result.Response.(statemachine.RequestsDone).Outcomes[0], outcome))
	if outcome.Refusal != nil {
		return sequence, outcome.Refusal.Message
	}
	must(c.T, proto.Unmarshal(outcome.Response, resp))
	return sequence, ""
}

// acquire sends a request that makes an entry and remembers it.
func (c *crowd) acquire(kind coordv1.Kind, req proto.Message) (e *coordv1.AcquiredEntry, refusal string) {
	c.Helper()
	session, resp := c.someone(), &coordv1.Acquired{}
	sequence, refusal := c.ask(session, kind, req, resp)
	if refusal != "" {
		c.did("refused", "%v: %s", req, refusal)
		return nil, refusal
	}
	e = resp.Entries[0]
	c.did(e.State.String(), "%v of %d: %v", req, session, e)
	if e.State != coordv1.AcquiredEntry_NONE {
		c.made = append(c.made, made{session, sequence, e})
	}
	return e, ""
}

// disturb does something that has nothing to do with the kind.
func (c *crowd) disturb() {
	switch c.rng.IntN(20) {
	case 0, 1:
		c.did("expired", "")
		c.expire(c.someone())
	case 2, 3:
		id := c.someone()
		c.did("ended", "%d", id)
		c.do(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: id})
		delete(c.sessions, id)
	case 4, 5:
		if q := c.snapshot(); len(q.Sorted) > 0 {
			key := q.Sorted[c.rng.IntN(len(q.Sorted))].Key
			c.did("deleted", "%s", key)
			c.delete(key)
		}
	case 6:
		c.did("crashed", "")
		c.crash()
	case 7:
		c.did("restored", "")
		c.restore()
	case 8, 9, 10:
		c.withdraw()
	default:
		c.release()
	}
}

// release releases an entry that there is or was, by the token it had.
func (c *crowd) release() {
	if len(c.made) == 0 {
		return
	}
	m := c.made[c.rng.IntN(len(c.made))]
	if c.rng.IntN(3) > 0 { // rather one of those that may be there
		m = c.made[max(0, len(c.made)-1-c.rng.IntN(6))]
	}
	kv := c.get(m.Key)
	there := kv != nil && kv.CreateRevision == m.Token
	resp := &coordv1.Released{}
	_, refusal := c.ask(c.someone(), coordv1.Kind_KIND_RELEASE,
		&coordv1.Release{Entries: []*coordv1.Guard{guard(m.AcquiredEntry)}}, resp)
	c.did(map[bool]string{true: "released", false: "released again"}[there], "%s with %d", m.Key, m.Token)
	if refusal != "" || (resp.Removed == 1) != there {
		c.broken("release of %v, there: %v: %v, %s", m, there, resp, refusal)
	}
}

// withdraw withdraws a request of a session that lives, whose outcome it may have.
func (c *crowd) withdraw() {
	if len(c.made) == 0 {
		return
	}
	m := c.made[len(c.made)-1-c.rng.IntN(min(len(c.made), 5))]
	if _, ok := c.sessions[m.session]; !ok || m.sequence+15 < c.sequences[m.session] ||
		m.sequence > c.sequences[m.session] {
		return
	}
	resp := &coordv1.Withdrawn{}
	_, refusal := c.ask(m.session, coordv1.Kind_KIND_WITHDRAW, &coordv1.Withdraw{Sequence: m.sequence}, resp)
	if refusal == "" && resp.Removed {
		c.did("withdrawn", "%s with %d", m.Key, m.Token)
	}
}

func (c *crowd) get(key string) *mvccpb.KeyValue {
	view, err := c.View()
	must(c.T, err)
	defer view.Close()
	kv, err := view.Get([]byte(key))
	must(c.T, err)
	return kv
}

// snapshot reads the queue, and sees that who holds by it also holds by the rule's own look, which guards are checked
// by.
func (c *crowd) snapshot() *recipes.Snapshot {
	view, err := c.View()
	must(c.T, err)
	defer view.Close()
	r := scanner{c.T, view}
	q := recipes.Read(r, c.queue)
	for _, e := range q.Sorted {
		if _, holds := q.Granted(e.Key); holds != recipes.RuleOf(c.queue).Holds(r, c.queue, e, e.Token) {
			c.broken("%+v holds: %v, but the rule's own look differs", e, holds)
		}
	}
	got := c.counts(view)
	if e, there := q.Entry(string(got.Holder)); there && e.Token == got.Token && !e.Lingers {
		if _, holds := q.Granted(e.Key); !holds {
			c.broken("%+v does not hold, and did when it came", e)
		}
	}
	for _, e := range q.Sorted {
		if e.Permits > got.Most {
			c.broken("%+v has more permits than the record says anybody has, %d", e, got.Most)
		}
	}
	for _, e := range q.Sorted {
		if _, inside := q.Granted(e.Key); inside && got.Inside > 0 && e.Token > got.Last ||
			!inside && !e.Lingers && got.Inside > 0 && e.Token <= got.Last {
			c.broken("%+v is inside: %v, but the record says up to %d", e, inside, got.Last)
		}
	}
	got.Holder, got.Token, got.Most, got.Last = nil, 0, 0, 0
	if want := tallyOf(q); !proto.Equal(got, want) {
		c.broken("the record is %v, want %v", got, want)
	}
	return q
}

// counts is what was counted.
func (c *crowd) counts(view *machine.View) *recipesv1.Tally {
	t := &recipesv1.Tally{}
	kv, err := view.Get([]byte(c.queue + "/tally"))
	must(c.T, err)
	if kv != nil {
		must(c.T, proto.Unmarshal(kv.Value, t))
	}
	return t
}

// tallyOf counts.
func tallyOf(q *recipes.Snapshot) *recipesv1.Tally {
	t := &recipesv1.Tally{Entries: int64(len(q.Sorted)), Permits: sum(q.Sorted)}
	for _, e := range q.Sorted {
		if e.Write {
			t.Writers++
		}
	}
	if layout.KindOf(q.Queue) == coordv1.QueueKind_QUEUE_BARRIER {
		return t // whose record says who is inside
	}
	for e := range q.Inside() {
		t.Inside++
		t.InsidePermits += e.Permits
		if e.Write {
			t.InsideWriters++
		}
	}
	return t
}

// scanner makes a recipes.Reader of a view.
type scanner struct {
	*testing.T
	*machine.View
}

func (s scanner) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) {
	if err := s.View.Children(context.Background(), parent, fn); err != nil {
		s.Fatal(err)
	}
}

func (s scanner) Get(key []byte) *mvccpb.KeyValue {
	kv, err := s.View.Get(key)
	must(s.T, err)
	return kv
}

// grants is the dumb twin of all rules by order: it remembers who was let in, instead of finding it out.
type grants []recipes.Entry

// step takes over the queue as it is now: who is gone leaves, then who is next goes in as long as there is room for it.
func (g *grants) step(q *recipes.Snapshot, room func(inside []recipes.Entry, next recipes.Entry) bool) {
	var inside []recipes.Entry
	for i, e := range q.Sorted {
		was := slices.ContainsFunc(*g, func(o recipes.Entry) bool { return o.Key == e.Key && o.Token == e.Token })
		if !was && (len(inside) < i || !room(inside, e)) {
			continue
		}
		inside = append(inside, e)
	}
	*g = inside
}

// holding are the keys of those inside that do not linger.
func (g grants) holding() (keys []string) {
	for _, e := range g {
		if !e.Lingers {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func keysOf(entries []recipes.Entry) (keys []string) {
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys
}

// compare fails if others hold than who were let in.
func (c *crowd) compare(g grants, q *recipes.Snapshot) {
	c.Helper()
	if want, got := g.holding(), keysOf(q.Holders()); !slices.Equal(got, want) {
		c.broken("%q hold, want %q; the queue is %+v", got, want, q.Sorted)
	}
}
