package recipes_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// seeds is how many seeds a random test tries; a fifth of n with -short.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return n / 5
	}
	return n
}

// history runs random commands of sessions and etcd clients on locks and elections, and calls check after each: every
// command is one commit. What check sees is decided by keys alone, and by Guard.
func history(t *testing.T, check func(h *run)) {
	for seed := range seeds(60) {
		h := &run{stage: newStage(t), rng: rand.New(rand.NewPCG(seed, 6)), seed: seed}
		for range 120 {
			h.step()
			check(h)
		}
	}
}

// run is one history.
type run struct {
	*stage
	rng  *rand.Rand
	seed uint64
	// came are the entries in the order in which they came, or were moved by a transfer; with priorities not.
	came map[string][]*coordv1.AcquiredEntry
}

var queues = []string{"lock", "other", "election", layout.ElectionQueue("election", 1)}

func (h *run) step() {
	id := 1 + h.rng.Int64N(6)
	h.Leases[id], h.Sessions[id] = true, true
	linger := 1000 * max(0, h.rng.Int64N(5)-3)
	queue := queues[h.rng.IntN(len(queues))]
	entries := recipes.Queue(h, queue)
	switch h.rng.IntN(12) {
	case 0, 1, 2:
		names := [][]string{{"lock"}, {"other"}, {"lock", "other"}}[h.rng.IntN(3)]
		resp := &coordv1.Acquired{}
		err := h.ask(id, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{
			Names: names, Try: h.rng.IntN(4) == 0, LingerMs: linger,
		}, resp)
		h.enqueued(resp, err)
	case 3, 4, 5:
		resp := &coordv1.Acquired{}
		err := h.ask(id, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{
			Name: "election", Priority: h.rng.Int64N(3), LingerMs: linger,
		}, resp)
		h.enqueued(resp, err)
	case 6, 7:
		if holder, ok := recipes.Read(h, queue).Holder(); ok {
			e := &coordv1.AcquiredEntry{Name: layout.NameOf(queue), Key: holder.Key, Token: holder.Token}
			if n, err := h.release(id, e); n != 1 || err != nil {
				h.Fatalf("seed %d: release of %v: %d, %v", h.seed, e, n, err)
			}
		}
	case 8:
		if len(entries) > 0 {
			h.Delete(entries[h.rng.IntN(len(entries))].Key)
		}
	case 9:
		if key := layout.EntryKey(queue, id, ""); h.Get([]byte(key)) == nil && !recipes.ByPriority(queue) {
			must(h.T, h.Put(key, "", id)) // as etcd's clients do
			h.arrived(queue, &coordv1.AcquiredEntry{Name: queue, Key: key, Token: h.Rev})
		}
	case 10:
		if h.rng.IntN(2) == 0 {
			h.Expire(id)
			break
		}
		for lease := range h.Leases {
			if statemachine.Lingers(lease) {
				h.Expire(lease)
			}
		}
	case 11:
		h.transfer(id, queue, entries)
	}
}

func (h *run) enqueued(resp *coordv1.Acquired, err error) {
	var refusal statemachine.Refusal
	if err != nil && !errors.As(err, &refusal) {
		h.Fatalf("seed %d: %v", h.seed, err)
	}
	for _, e := range resp.Entries {
		if e.State != coordv1.AcquiredEntry_NONE {
			queue, _ := layout.QueueOfKey(e.Key)
			h.arrived(queue, e)
		}
	}
}

func (h *run) arrived(queue string, e *coordv1.AcquiredEntry) {
	if h.came == nil {
		h.came = map[string][]*coordv1.AcquiredEntry{}
	}
	for _, o := range h.came[queue] {
		if o.Key == e.Key && o.Token == e.Token {
			return // taken over
		}
	}
	h.came[queue] = append(h.came[queue], e)
}

func (h *run) transfer(id int64, queue string, entries []recipes.Entry) {
	if len(entries) == 0 || layout.NameOf(queue) != "election" {
		return
	}
	to := entries[h.rng.IntN(len(entries))].Key
	priority := int64(strings.Count(queue, layout.Reserved))
	resp := &coordv1.Transferred{}
	if h.ask(id, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "election", To: to, Priority: priority},
		resp) != nil {
		return
	}
	if l, _ := recipes.Read(h, queue).Holder(); l.Key != to || l.Token != resp.Term {
		h.Fatalf("seed %d: E4: transferred to %s in term %d, but %+v leads", h.seed, to, resp.Term, l)
	}
	for _, e := range entries { // who was moved came again
		if kv := h.Get([]byte(e.Key)); kv != nil && kv.CreateRevision != e.Token {
			h.arrived(queue, &coordv1.AcquiredEntry{Name: layout.NameOf(queue), Key: e.Key, Token: kv.CreateRevision})
		}
	}
}

// holders are those for whom the guard holds, by all tokens that are or were theirs.
func (h *run) holders(queue string) (holders []*coordv1.AcquiredEntry) {
	for _, e := range recipes.Queue(h, queue) {
		tokens := []int64{e.Token}
		if kv := h.Get([]byte(layout.RecordKey(queue, layout.Leader))); recipes.ByPriority(queue) && kv != nil &&
			kv.ModRevision != e.Token {
			tokens = append(tokens, kv.ModRevision)
		}
		for _, token := range tokens {
			g := &coordv1.AcquiredEntry{Name: layout.NameOf(queue), Key: e.Key, Token: token}
			if h.holds(g) {
				holders = append(holders, g)
			}
		}
	}
	return holders
}

// TestL1OneHolder: no two guards of one name hold after the same command; E1 for elections.
func TestL1OneHolder(t *testing.T) {
	held := 0
	history(t, func(h *run) {
		for _, queue := range queues {
			holders := h.holders(queue)
			held += len(holders)
			if len(holders) > 1 {
				t.Fatalf("seed %d: L1: %v hold %q", h.seed, holders, queue)
			}
		}
	})
	if held == 0 {
		t.Error("nobody ever held anything")
	}
}

// TestL2TokensGrow: each grant of a name has a greater token than all before.
func TestL2TokensGrow(t *testing.T) { tokensGrow(t, "L2", queues[:2]) }

// TestE2TermsGrow: each leader's term is greater than all before, through transfers too.
func TestE2TermsGrow(t *testing.T) { tokensGrow(t, "E2", queues[2:]) }

func tokensGrow(t *testing.T, invariant string, of []string) {
	type grant struct {
		seed  uint64
		queue string
	}
	last := map[grant]*coordv1.AcquiredEntry{}
	changes := 0
	history(t, func(h *run) {
		for _, queue := range of {
			for _, e := range h.holders(queue) {
				g := grant{h.seed, queue}
				before := last[g]
				if before != nil && (e.Token < before.Token || e.Token == before.Token && e.Key != before.Key) {
					t.Fatalf("seed %d: %s: %v after %v", h.seed, invariant, e, before)
				}
				if before != nil && e.Token > before.Token {
					changes++
				}
				last[g] = e
			}
		}
	})
	if changes == 0 {
		t.Error("nothing ever changed hands")
	}
}

// TestE1OneLeaderATerm: a term belongs to one entry for ever.
func TestE1OneLeaderATerm(t *testing.T) {
	type term struct {
		seed  uint64
		queue string
		term  int64
	}
	leaders := map[term]string{}
	history(t, func(h *run) {
		for _, queue := range queues[2:] {
			for _, e := range h.holders(queue) {
				k := term{h.seed, queue, e.Token}
				if was, ok := leaders[k]; ok && was != e.Key {
					t.Fatalf("seed %d: E1: term %d of %q and of %q", h.seed, e.Token, was, e.Key)
				}
				leaders[k] = e.Key
			}
		}
	})
	if len(leaders) == 0 {
		t.Error("nobody ever led")
	}
}

// TestL4FIFO: who holds came before all others who are still there.
func TestL4FIFO(t *testing.T) {
	history(t, func(h *run) {
		for _, queue := range queues[:3] {
			for _, e := range h.holders(queue) {
				for _, o := range h.came[queue] {
					if o.Key == e.Key && o.Token == e.Token {
						break
					}
					if kv := h.Get([]byte(o.Key)); kv != nil && kv.CreateRevision == o.Token {
						t.Fatalf("seed %d: L4: %v holds, but %v came before", h.seed, e, o)
					}
				}
			}
		}
	})
}

// TestL5NoLostWakeUp: where somebody waits, somebody holds, after whatever command; unless a place is kept. E4 for
// elections.
func TestL5NoLostWakeUp(t *testing.T) {
	kept := 0
	history(t, func(h *run) {
		for _, queue := range queues {
			s := recipes.Read(h, queue)
			if len(s.Waiting()) == 0 || len(h.holders(queue)) == 1 {
				continue
			}
			if _, lingers := s.Lingering(); !lingers {
				t.Fatalf("seed %d: L5: nobody holds %q: %+v", h.seed, queue, s.Sorted)
			}
			kept++
		}
	})
	if kept == 0 {
		t.Error("no place was ever kept")
	}
}
