package recipes_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/recipestest"
	"github.com/coord-dev/coord/statemachine"
)

const (
	sequences = 400
	steps     = 150
)

// grant is an entry of the dumb twin: a line of people.
type grant struct {
	key   string
	lease int64
	token int64
	claim int64
	etcd  bool // made by an etcd client, or written over by one, and not taken over
	// foreign: it counts, and is not the entry of the lease in its name. lease is then the one that it is attached to.
	foreign bool
}

// world runs random operations against the procedures and against a line of people, and compares after each.
type world struct {
	*testing.T
	rng    *rand.Rand
	store  *recipestest.Store
	line   []grant        // who stands in line, first one holds
	past   []grant        // everybody who ever did
	top    int64          // largest token that ever held (L2)
	seen   map[string]int // how often each kind of operation did something
	log    []string       // what was done
	name   string
	elects bool // it is an election, else a lock
}

// call runs a procedure as one command.
func call(t *testing.T, s *recipestest.Store, procedure string, req, resp proto.Message) error {
	t.Helper()
	body, err := proto.Marshal(req)
	must(t, err)
	out, err := s.Call(procedure, body)
	if err != nil {
		return err
	}
	return proto.Unmarshal(out, resp)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRandomOperations checks L1, L2, L4, L5, L7 and L8 after every step of random sequences, mixed with etcd clients
// that create and delete entries by themselves, and put keys of any form directly below the name and below that.
func TestRandomOperations(t *testing.T) {
	total := map[string]int{}
	for seed := range seeds(sequences) {
		w := &world{T: t, rng: rand.New(rand.NewPCG(seed, 1)), store: recipestest.New(), seen: total, name: "job"}
		w.elects = seed%2 == 1
		for range steps {
			w.operate()
			w.check(seed)
		}
	}
	for _, kind := range []string{
		"enqueued", "granted", "retried", "try refused", "try retried", "resumed", "resume gone", "dead session",
		"released",
		"withdrawn", "released twice", "never granted", "superseded", "revoked", "deleted", "etcd", "proclaimed",
		"not leader", "key taken", "wrong kind",
		"foreign", "written over", "moved to another lease", "together", "nested", "blocked", "no more blocked",
	} {
		if total[kind] == 0 {
			t.Errorf("no sequence reached %q", kind)
		}
	}
}

func (w *world) did(kind, format string, args ...any) {
	w.seen[kind]++
	w.log = append(w.log, fmt.Sprintf("rev %d: %s %s", w.store.Rev, kind, fmt.Sprintf(format, args...)))
}

func (w *world) fail(format string, args ...any) {
	w.Helper()
	for _, l := range w.log[max(0, len(w.log)-20):] {
		w.Log(l)
	}
	w.Fatalf(format, args...)
}

func (w *world) operate() {
	lease := int64(0x10 + w.rng.IntN(6))
	switch w.rng.IntN(14) {
	case 0, 1, 2, 3:
		w.enqueue(lease, []string{"", "", "x"}[w.rng.IntN(3)], w.rng.IntN(3) == 0)
	case 4, 5:
		if len(w.past) > 0 {
			w.remove(w.past[w.rng.IntN(len(w.past))], w.rng.IntN(3) == 0)
		}
	case 6:
		if len(w.line) > 0 && !w.line[0].foreign {
			w.remove(w.line[0], false)
		}
	case 7:
		w.store.Leases[lease] = true
	case 8:
		if w.store.Leases[lease] {
			w.store.Revoke(lease)
			w.leave("revoked", func(g grant) bool { return g.lease == lease })
		}
	case 9:
		if len(w.line) > 0 {
			key := w.line[w.rng.IntN(len(w.line))].key
			w.store.Delete(key)
			w.leave("deleted", func(g grant) bool { return g.key == key })
		}
	case 10:
		w.etcdClient(lease)
	case 11:
		w.foreignKey()
	case 12:
		w.proclaim()
	case 13:
		w.resume()
	}
}

func (w *world) find(key string) int {
	return slices.IndexFunc(w.line, func(g grant) bool { return g.key == key })
}

func (w *world) leave(kind string, who func(grant) bool) {
	w.line = slices.DeleteFunc(w.line, who)
	w.did(kind, "")
}

func (w *world) join(g grant) {
	w.line = append(w.line, g)
	w.past = append(w.past, g)
}

// asked is what came of a request for an entry.
type asked struct {
	token, claim int64
	holds        bool
}

// ask asks for an entry, outside of sessions.
func (w *world) ask(lease int64, owner string, try bool, resume int64) (asked, error) {
	w.Helper()
	return enqueue(w.T, w.store, w.elects, &coordv1.Campaign{
		Name: w.name, Lease: lease, OwnerId: owner, Value: []byte("me"), Try: try, ResumeToken: resume,
	})
}

// enqueue asks for what a campaign says: to lead, or for a lock.
func enqueue(t *testing.T, s *recipestest.Store, elects bool, req *coordv1.Campaign) (asked, error) {
	t.Helper()
	var procedure, msg = recipes.Campaign, proto.Message(req)
	if !elects {
		procedure, msg = recipes.Acquire, &coordv1.Acquire{
			Names: []string{req.Name}, Lease: req.Lease, OwnerId: req.OwnerId, Owner: string(req.Value), Try: req.Try,
			ResumeToken: req.ResumeToken,
		}
	}
	resp := &coordv1.Acquired{}
	if err := call(t, s, procedure, msg, resp); err != nil {
		return asked{}, err
	}
	e := resp.Entries[0]
	if (e.Token == 0) != (e.State == coordv1.AcquiredEntry_NONE) {
		t.Fatalf("%v", resp)
	}
	return asked{e.Token, resp.Revision, e.State == coordv1.AcquiredEntry_HOLDS}, nil
}

func (w *world) enqueue(lease int64, owner string, try bool) {
	key := layout.EntryKey(w.name, lease, owner)
	resp, err := w.ask(lease, owner, try, 0)
	i := w.find(key)
	plain := i >= 0 && w.line[i].foreign
	switch {
	case !w.store.Leases[lease]:
		if !errors.Is(err, statemachine.ErrLeaseNotFound) {
			w.fail("L7: enqueue of dead session %x: %v", lease, err)
		}
		w.did("dead session", "%s", key)
	case plain:
		if !errors.Is(err, recipes.ErrKeyTaken) {
			w.fail("enqueue where a foreign key stands: %v, %v", resp, err)
		}
		w.did("key taken", "%s", key)
	case err != nil:
		w.fail("enqueue %s: %v", key, err)
	case i >= 0 && !w.holds(i) && try, i < 0 && try && len(w.line) > 0:
		if resp.token != 0 || resp.holds {
			w.fail("L1: try of %s acquired: %v", key, resp)
		}
		w.did("try refused", "%s", key)
		if w.line[0].foreign {
			w.did("blocked", "%s", key)
		}
	case i >= 0:
		if resp.token != w.line[i].token || resp.holds != w.holds(i) || resp.claim <= w.line[i].claim {
			w.fail("L8: repeated enqueue of %+v: %v", w.line[i], resp)
		}
		w.line[i].claim, w.line[i].etcd = resp.claim, false
		w.did(map[bool]string{true: "try retried", false: "retried"}[try], "%s", key)
	default:
		if resp.token != w.store.Rev || resp.claim != resp.token || resp.holds != (len(w.line) == 0) {
			w.fail("enqueue of %s: %v, %d in line", key, resp, len(w.line))
		}
		w.join(grant{key: key, lease: lease, token: resp.token, claim: resp.claim})
		kind := map[bool]string{true: "granted", false: "enqueued"}[resp.holds]
		w.did(kind, "%s token %d", key, resp.token)
	}
}

// remove releases one who stands in line or once did, with the last claim known of it or none.
func (w *world) remove(g grant, claimed bool) {
	guard := &coordv1.Guard{Name: w.name, Key: g.key, Token: g.token}
	req := &coordv1.Release{Entries: []*coordv1.Guard{guard}}
	if claimed {
		req.Claim = g.claim
	}
	resp := &coordv1.Released{}
	if w.rng.IntN(8) == 0 && w.find(g.key) >= 0 { // a token that was never granted
		guard.Token = w.store.Rev + 1
		if err := call(w.T, w.store, recipes.Release, req, resp); !errors.Is(err, recipes.ErrTokenMismatch) {
			w.fail("release of %s with a token of the future: %v, %v", g.key, resp, err)
		}
		w.did("never granted", "%s", g.key)
		return
	}
	err := call(w.T, w.store, recipes.Release, req, resp)
	superseded := errors.Is(err, recipes.ErrSuperseded)
	if err != nil && !superseded && !errors.Is(err, recipes.ErrTokenMismatch) {
		w.fail("release %+v: %v", g, err)
	} else if err != nil && !superseded {
		// Somebody put a plain key there since; releasing must leave it alone.
		if k := w.store.Get([]byte(g.key)); k == nil || k.CreateRevision >= g.token {
			w.fail("release %+v: %v", g, err)
		}
		return
	}
	i := slices.IndexFunc(w.line, func(o grant) bool { return o.key == g.key && o.token == g.token })
	switch {
	case i < 0:
		if superseded || resp.Removed != 0 {
			w.fail("L8: stale release of %+v: %v", g, resp)
		}
		w.did("released twice", "%+v", g)
	case claimed && w.line[i].claim != g.claim:
		if !superseded {
			w.fail("L8: clean-up of %+v whose claim was taken over: %v", g, resp)
		}
		w.did("superseded", "%+v", g)
	default:
		if superseded || resp.Removed != 1 {
			w.fail("release of %+v: %v", g, resp)
		}
		w.line = slices.Delete(w.line, i, i+1)
		w.did(map[bool]string{true: "released", false: "withdrawn"}[i == 0], "%+v", g)
	}
}

func (w *world) resume() {
	if len(w.past) == 0 {
		return
	}
	g := w.past[w.rng.IntN(len(w.past))]
	_, owner, _ := layout.ParseEntryKey(w.name, g.key)
	value := w.store.Get([]byte(g.key)).GetValue()
	resp, err := w.ask(g.lease, owner, false, g.token)
	i := slices.IndexFunc(w.line, func(o grant) bool { return o.key == g.key && o.token == g.token })
	switch {
	case !w.store.Leases[g.lease]:
		if !errors.Is(err, statemachine.ErrLeaseNotFound) {
			w.fail("L7: resume of dead session: %v", err)
		}
	case i < 0, w.line[i].foreign:
		if err != nil || resp.token != 0 {
			w.fail("resume of %+v, which is gone: %v, %v", g, resp, err)
		}
		w.did("resume gone", "%+v", g)
	default:
		if err != nil || resp.token != g.token || resp.holds != w.holds(i) ||
			!bytes.Equal(w.store.Get([]byte(g.key)).Value, value) {
			w.fail("resume of %+v: %v, %v", g, resp, err)
		}
		w.line[i].claim, w.line[i].etcd = resp.claim, false
		w.did("resumed", "%+v", g)
	}
}

// etcdClient does what concurrency.Mutex does: create the key if it is not there, attached to the session.
func (w *world) etcdClient(lease int64) {
	key := layout.EntryKey(w.name, lease, "")
	if w.store.Leases[lease] && w.store.Get([]byte(key)) == nil {
		must(w.T, w.store.Put(key, "", lease))
		w.join(grant{key: key, lease: lease, token: w.store.Rev, claim: w.store.Rev, etcd: true})
		w.did("etcd", "%s", key)
	}
}

// foreignKey puts what etcd's clients may: keys of any form and lease directly below the name, which count, over
// entries, too; several at once; and keys elsewhere, which do not count.
func (w *world) foreignKey() {
	w.store.Leases[-5] = true
	lease := []int64{0, -5, int64(0x10 + w.rng.IntN(6))}[w.rng.IntN(3)]
	if !w.store.Leases[lease] {
		lease = 0
	}
	own := int64(0x10 + w.rng.IntN(6))
	keys := []string{
		w.name + "/", w.name + "/notes", w.name + "/0x10", w.name + "/10.", w.name + "/010", w.name + "/-5", w.name +
			"/A1", w.name + "/\xff",
		layout.EntryKey(w.name, own, ""), layout.EntryKey(w.name, own, "x"),
	}
	key := keys[w.rng.IntN(len(keys))]
	switch i := w.find(key); {
	case w.rng.IntN(4) == 0:
		for _, key := range []string{w.name + "/10/20", w.name + "/b/11", w.name + "//", w.name + "0", w.name} {
			must(w.T, w.store.Put(key, "", lease))
		}
		w.did("nested", "")
	case i >= 0 && w.line[i].foreign && w.rng.IntN(3) > 0:
		w.store.Delete(key)
		w.line = slices.Delete(w.line, i, i+1)
		w.did("no more blocked", "%q", key)
	case i >= 0:
		must(w.T, w.store.Put(key, "over", lease))
		g := &w.line[i]
		before := *g
		g.claim, g.etcd = w.store.Rev, true
		g.attach(w.name, lease)
		w.did("written over", "%q", key)
		if !before.foreign && g.foreign {
			w.did("moved to another lease", "%q", key)
		}
	default:
		if w.rng.IntN(2) == 0 && w.store.Leases[own] {
			lease = own
		}
		other := w.name + "/together"
		if together := w.rng.IntN(4) == 0 && w.find(other) < 0; together {
			must(w.T, w.store.PutTogether(lease, key, other))
			w.putForeign(lease, min(key, other), max(key, other))
			w.did("together", "%q and %q", key, other)
		} else {
			must(w.T, w.store.Put(key, "", lease))
			w.putForeign(lease, key)
			w.did("foreign", "%q of %x", key, lease)
		}
	}
}

// putForeign has keys stand at the end of the line, in the order of those that were created at once.
func (w *world) putForeign(lease int64, keys ...string) {
	for _, key := range keys {
		g := grant{key: key, token: w.store.Rev, claim: w.store.Rev, etcd: true}
		g.attach(w.name, lease)
		w.line = append(w.line, g)
	}
}

// attach says whose key it is that stands on a lease.
func (g *grant) attach(name string, lease int64) {
	own, _, ok := layout.ParseEntryKey(name, g.key)
	g.lease, g.foreign = lease, !ok || own != lease
}

// holds says whether who stands at place i holds: the first one, if it came alone and is known.
func (w *world) holds(i int) bool {
	return i == 0 && !w.line[0].foreign && (len(w.line) == 1 || w.line[1].token > w.line[0].token)
}

func (w *world) proclaim() {
	if len(w.line) == 0 {
		return
	}
	i := w.rng.IntN(min(2, len(w.line)))
	g := w.line[i]
	if !utf8.ValidString(g.key) {
		return // cannot be said in a request
	}
	err := call(w.T, w.store, recipes.Proclaim, &coordv1.Proclaim{
		Entry: &coordv1.Guard{Name: w.name, Key: g.key, Token: g.token}, Value: []byte("new"),
	}, &coordv1.Proclaimed{})
	if _, _, ok := layout.ParseEntryKey(w.name, g.key); !ok {
		if !errors.Is(err, statemachine.ErrInvalid) {
			w.fail("proclaim by %q: %v", g.key, err)
		}
		return
	}
	if !w.holds(i) {
		if !errors.Is(err, recipes.ErrNotHolder) {
			w.fail("proclaim of %+v at place %d, which does not hold: %v", g, i, err)
		}
		w.did("not leader", "%+v", g)
		return
	}
	if !w.elects && !g.etcd {
		if !errors.Is(err, recipes.ErrWrongKind) {
			w.fail("proclaim of the holder of a lock: %v", err)
		}
		w.did("wrong kind", "%+v", g)
		return
	}
	if err != nil || string(w.store.Get([]byte(g.key)).Value) != "new" ||
		w.store.Get([]byte(g.key)).CreateRevision != g.token {
		w.fail("proclaim: %v, %v", err, w.store.Get([]byte(g.key)))
	}
	w.line[i].claim = w.store.Rev
	w.did("proclaimed", "%+v", g)
}

// check compares the queue with the line: same people, same order (L4), the first one holds and nobody else (L1), at
// once after whatever removed the one before (L5), nobody of a dead session (L7), nobody twice (L8).
func (w *world) check(seed uint64) {
	queue := recipes.Queue(w.store, w.name)
	if len(queue) != len(w.line) {
		w.fail("seed %d: queue %+v, line %+v", seed, queue, w.line)
	}
	for i, e := range queue {
		g := w.line[i]
		if got, ok := recipes.Read(w.store, w.name).Granted(e.Key); ok != w.holds(i) || ok && got.Token != g.token {
			w.fail("seed %d: L1: place %d: granted %+v, %v", seed, i, got, ok)
		}
		if e.Key != g.key || e.Token != g.token || e.Claim != g.claim || e.Lease != g.lease || e.Foreign != g.foreign {
			w.fail("seed %d: place %d: %+v, want %+v", seed, i, e, g)
		}
		if recipes.RuleOf(w.name).Holds(w.store, w.name, e, e.Token) != w.holds(i) {
			w.fail("seed %d: L1: %+v at place %d: holds is wrong", seed, e, i)
		}
	}
	if len(queue) > 0 && w.holds(0) {
		if queue[0].Token < w.top {
			w.fail("seed %d: L2: token %d granted after %d", seed, queue[0].Token, w.top)
		}
		w.top = queue[0].Token
	}
}
