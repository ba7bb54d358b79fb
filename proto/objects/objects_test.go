package objects

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

func latchKey(t *testing.T, created, generation, remaining int64) *mvccpb.KeyValue {
	t.Helper()
	value, err := proto.Marshal(&recipesv1.Latch{Generation: generation, Count: 9, Remaining: remaining})
	if err != nil {
		t.Fatal(err)
	}
	return &mvccpb.KeyValue{
		Key: []byte(layout.Latch.Key("l")), CreateRevision: created, ModRevision: generation, Value: value,
	}
}

// TestLatchWait: who waits for a generation goes on when that one was at zero, whatever it could not see in between.
func TestLatchWait(t *testing.T) {
	type sight struct {
		kv   *mvccpb.KeyValue
		zero bool
		err  error
	}
	for what, c := range map[string]struct {
		from int64
		see  []sight
	}{
		"counts to zero": {0, []sight{{latchKey(t, 5, 5, 2), false, nil},
			{latchKey(t, 5, 5, 1), false, nil}, {latchKey(t, 5, 5, 0), true, nil}}},
		"is at zero": {0, []sight{{latchKey(t, 5, 7, 0), true, nil}}},
		"set anew, its end was not seen": {0, []sight{{latchKey(t, 5, 7, 2), false, nil},
			{latchKey(t, 5, 9, 2), true, nil}}},
		"an earlier one": {5, []sight{{latchKey(t, 5, 7, 2), true, nil}}},
		"deleted":        {0, []sight{{latchKey(t, 5, 7, 2), false, nil}, {nil, false, ErrNotSet}}},
		"deleted unseen, and set anew": {0, []sight{{latchKey(t, 5, 7, 2), false, nil},
			{latchKey(t, 9, 9, 0), false, ErrNotSet}}},
		"never set":   {0, []sight{{nil, false, ErrNotSet}}},
		"a later one": {9, []sight{{latchKey(t, 5, 7, 0), false, ErrNotSet}}},
		"not a latch": {0, []sight{{latchKey(t, 5, 7, 10), false, ErrForeign}}},
	} {
		w := LatchWait{Generation: c.from}
		for i, s := range c.see {
			if zero, err := w.See(s.kv); zero != s.zero || !errors.Is(err, s.err) || (err == nil) != (s.err == nil) {
				t.Errorf("%s, step %d: %v, %v, want %v, %v", what, i, zero, err, s.zero, s.err)
			}
		}
	}
}

func TestGateWait(t *testing.T) {
	closed := func(since, mod int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{CreateRevision: since, ModRevision: mod, Value: []byte("\xff")}
	}
	for what, c := range map[string]struct {
		from int64
		see  []*mvccpb.KeyValue // the last one lets pass, the others do not
	}{
		"open":                                   {0, []*mvccpb.KeyValue{nil}},
		"closed, closed anew, opened":            {0, []*mvccpb.KeyValue{closed(5, 5), closed(5, 7), nil}},
		"opened unseen":                          {0, []*mvccpb.KeyValue{closed(5, 5), closed(9, 9)}},
		"an earlier closing":                     {3, []*mvccpb.KeyValue{closed(5, 5)}},
		"the closing that was there when it was": {5, []*mvccpb.KeyValue{closed(5, 8), nil}},
	} {
		w := GateWait{Since: c.from}
		for i, kv := range c.see {
			if passed := w.See(kv); passed != (i == len(c.see)-1) {
				t.Errorf("%s, step %d: passed %v", what, i, passed)
			}
		}
	}
}

// TestRoll: whichever changes a roll was told one by one and whichever it has to find out by itself, its members are
// those of the keys, and its changes, applied to what was there before, lead there.
func TestRoll(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		keys, roll := map[string]*mvccpb.KeyValue{}, NewRoll("g")
		known, begun := map[string]int64{}, false // mod revision by id, as the changes say
		var missed []*mvccpb.Event
		for rev := int64(2); rev < 200; rev++ {
			events := randomEvents(rng, keys, rev)
			lose := rng.IntN(10) == 0
			var c *coordv1.GroupChange
			switch {
			case lose, !begun && rng.IntN(3) > 0:
				missed = append(missed, events...)
				continue
			case missed != nil || !begun:
				c = roll.Take(rev, slices.Collect(maps.Values(keys)))
				if c.Gap != begun {
					t.Fatalf("seed %d: gap %v at the first state %v", seed, c.Gap, !begun)
				}
				missed, begun = nil, true
			default:
				c = roll.Apply(rev, events)
			}
			follow(t, seed, known, c)
			want := Members("g", slices.Collect(maps.Values(keys)))
			if fmt.Sprint(roll.Members()) != fmt.Sprint(want) {
				t.Fatalf("seed %d: members %v, want %v", seed, roll.Members(), want)
			}
			for _, m := range want {
				if known[m.Id] != m.Updated || len(known) != len(want) {
					t.Fatalf("seed %d: the changes lead to %v, not %v", seed, known, want)
				}
			}
		}
	}
}

// follow applies a change to what is known.
func follow(t *testing.T, seed uint64, known map[string]int64, c *coordv1.GroupChange) {
	t.Helper()
	for _, m := range c.GetLeft() {
		if _, ok := known[m.Id]; !ok {
			t.Fatalf("seed %d: %v left and was not there", seed, m)
		}
		delete(known, m.Id)
	}
	for _, m := range c.GetJoined() {
		if _, ok := known[m.Id]; ok {
			t.Fatalf("seed %d: %v joined and was there", seed, m)
		}
		known[m.Id] = m.Updated
	}
	for _, m := range c.GetUpdated() {
		if known[m.Id] >= m.Updated {
			t.Fatalf("seed %d: %v updated, known %v", seed, m, known)
		}
		known[m.Id] = m.Updated
	}
}

// randomEvents changes some keys: of members, of nested groups, of no session.
func randomEvents(rng *rand.Rand, keys map[string]*mvccpb.KeyValue, rev int64) (events []*mvccpb.Event) {
	for _, id := range []string{"a", "b", "c", "a/b", "g"} {
		key := layout.MemberKey("g", id)
		old := keys[key]
		switch rng.IntN(4) {
		case 0:
			kv := &mvccpb.KeyValue{Key: []byte(key), CreateRevision: rev, ModRevision: rev, Lease: 1 + rng.Int64N(2)}
			if old != nil {
				kv.CreateRevision, kv.Lease = old.CreateRevision, rng.Int64N(3)
			}
			keys[key] = kv
			events = append(events, &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: kv})
		case 1:
			if old != nil {
				delete(keys, key)
				events = append(events, &mvccpb.Event{
					Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: rev},
				})
			}
		}
	}
	return events
}
