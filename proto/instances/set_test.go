package instances

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// store is a store of keys with revisions, which hands out the events of what is done to it.
type store struct {
	revision int64
	keys     map[string]*mvccpb.KeyValue
	events   []*mvccpb.Event
}

func newStore() *store { return &store{keys: map[string]*mvccpb.KeyValue{}} }

func (s *store) put(key string, value []byte, lease int64) {
	s.revision++
	kv := &mvccpb.KeyValue{Key: []byte(key), Value: value, Lease: lease, ModRevision: s.revision}
	s.keys[key] = kv
	s.events = append(s.events, &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: kv})
}

func (s *store) register(t testing.TB, in Instance, lease int64) {
	t.Helper()
	in.EnsureDefaults()
	if err := in.Validate(); err != nil {
		t.Fatal(err)
	}
	s.put(layout.InstanceKey(in.Service, in.ID), in.Encode(), lease)
}

// delete deletes keys in one revision.
func (s *store) delete(keys ...string) {
	s.revision++
	for _, key := range keys {
		if s.keys[key] == nil {
			continue
		}
		delete(s.keys, key)
		s.events = append(s.events, &mvccpb.Event{
			Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: s.revision},
		})
	}
}

func (s *store) expire(lease int64) {
	var keys []string
	for key, kv := range s.keys {
		if kv.Lease == lease {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	s.delete(keys...)
}

// take returns the events since the last call.
func (s *store) take() []*mvccpb.Event {
	events := s.events
	s.events = nil
	return events
}

func (s *store) all() []*mvccpb.KeyValue { return slices.Collect(maps.Values(s.keys)) }

func show(s *Set, service string) string {
	var out []string
	for _, in := range s.Service(service) {
		text := in.ID + " " + in.State.String()
		if in.Stale {
			text += " stale"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return fmt.Sprint(out)
}

func expect(t *testing.T, s *Set, want string) {
	t.Helper()
	if got := show(s, "pay"); got != want {
		t.Errorf("the set is %s, want %s", got, want)
	}
}

var start = time.Unix(1_700_000_000, 0)

func pay(id string) Instance { return Instance{Service: "pay", ID: id, Addr: "10.0.0.1:80"} }

func TestStateIsTheWorstThatIsSaid(t *testing.T) {
	st, set := newStore(), NewSet(Limits{}, "")
	in := pay("a")
	in.Probe = &Probe{Kind: ProbeTCP}
	st.register(t, in, 7)
	set.Apply(start, st.take())
	expect(t, set, "[a starting]")

	probed := func(state State, lease int64) {
		st.put(layout.ProbedKey("pay", "a"), marshal(&coordv1.ServiceProbed{
			State: coordv1.ServiceState(state), Detail: "so", Lease: lease,
		}), lease)
		set.Apply(start, st.take())
	}
	probed(Passing, 7)
	expect(t, set, "[a passing]")
	probed(Critical, 7)
	expect(t, set, "[a critical]")
	if got := set.Get(Name{Service: "pay", ID: "a"}); got.Detail != "so" || got.Lease != 7 ||
		got.Revision != st.revision {
		t.Errorf("the instance is %+v", got)
	}
	probed(Passing, 6) // of an instance before this one
	expect(t, set, "[a starting]")
	probed(Passing, 7)
	st.put(layout.OrderKey("pay", "a"), marshal(&coordv1.ServiceOrder{
		State: coordv1.ServiceState_SERVICE_STATE_DRAINING, By: "ops",
	}), 7)
	set.Apply(start, st.take())
	expect(t, set, "[a draining]")
	in.State = Critical
	st.register(t, in, 7)
	set.Apply(start, st.take())
	expect(t, set, "[a critical]")
	st.delete(layout.OrderKey("pay", "a"), layout.ProbedKey("pay", "a"), layout.InstanceKey("pay", "a"))
	set.Apply(start, st.take())
	expect(t, set, "[]")
	if len(set.groups) != 0 {
		t.Errorf("something is left of a service without records: %+v", set.groups["pay"])
	}
}

// A drained instance that dies takes the order along, at the same revision; it is still known to have left.
func TestDrainedInstanceIsNotMissed(t *testing.T) {
	for _, replace := range []bool{false, true} {
		st, set := newStore(), NewSet(Limits{}, "")
		st.register(t, pay("a"), 7)
		st.put(layout.OrderKey("pay", "a"), marshal(&coordv1.ServiceOrder{
			State: coordv1.ServiceState_SERVICE_STATE_DRAINING,
		}), 7)
		set.Apply(start, st.take())
		// in the order of a store that has the order first
		st.delete(layout.OrderKey("pay", "a"), layout.InstanceKey("pay", "a"))
		if replace {
			set.Replace(start, st.all())
		} else {
			set.Apply(start, st.take())
		}
		expect(t, set, "[]")
	}
}

// So is one that leaves by itself, with a note in the same commit.
func TestNoteOfLeaving(t *testing.T) {
	for _, replace := range []bool{false, true} {
		st, set := newStore(), NewSet(Limits{}, "")
		st.register(t, pay("a"), 7)
		set.Apply(start, st.take())
		st.delete(layout.InstanceKey("pay", "a"))
		st.revision--
		st.put(layout.OrderKey("pay", "a"), DrainOrder("itself", start), 8)
		if replace {
			set.Replace(start, st.all())
		} else {
			set.Apply(start, st.take())
		}
		expect(t, set, "[]")
		st.expire(8)
		set.Apply(start, st.take())
		if len(set.groups) != 0 {
			t.Error("something is left")
		}
	}
}

func TestMassExpiryIsKeptForATime(t *testing.T) {
	limits := Limits{MaxLoss: 0.5, Window: 10 * time.Second, KeepStale: time.Minute}
	begin := func() (*store, *Set) {
		st, set := newStore(), NewSet(limits, "")
		for i := range 4 {
			st.register(t, pay(fmt.Sprint(i)), int64(i+1))
		}
		set.Apply(start, st.take())
		for i := range 3 { // one after the other
			st.expire(int64(i + 1))
			set.Apply(start.Add(time.Duration(i)*time.Second), st.take())
			if i < 2 && set.Protected("pay") {
				t.Fatalf("%d of 4 are too many", i+1)
			}
		}
		return st, set
	}
	t.Run("until the bound", func(t *testing.T) {
		_, set := begin()
		expect(t, set, "[0 passing stale 1 passing stale 2 passing stale 3 passing]")
		at, ok := set.Deadline()
		if !ok || at != start.Add(2*time.Second+time.Minute) {
			t.Errorf("the deadline is %v, %v", at, ok)
		}
		set.Review(at.Add(-1))
		expect(t, set, "[0 passing stale 1 passing stale 2 passing stale 3 passing]")
		set.Touched()
		set.Review(at)
		expect(t, set, "[3 passing]")
		if n := len(set.Touched()); n != 3 {
			t.Errorf("%d are touched", n)
		}
		if _, ok := set.Deadline(); ok {
			t.Error("there is still a deadline")
		}
	})
	t.Run("until it recovers", func(t *testing.T) {
		st, set := begin()
		st.register(t, pay("0"), 10)
		set.Apply(start.Add(5*time.Second), st.take())
		expect(t, set, "[0 passing 3 passing]") // half are back: the other half is what may be missing
	})
	t.Run("and the last one too", func(t *testing.T) {
		st, set := begin()
		st.expire(4)
		set.Apply(start.Add(20*time.Second), st.take())
		expect(t, set, "[0 passing stale 1 passing stale 2 passing stale 3 passing stale]")
	})
	t.Run("not when they leave", func(t *testing.T) {
		st, set := newStore(), NewSet(limits, "")
		for i := range 4 {
			in := pay(fmt.Sprint(i))
			st.register(t, in, int64(i+1))
			in.State = Draining
			st.register(t, in, int64(i+1))
			st.delete(layout.InstanceKey("pay", in.ID))
		}
		set.Apply(start, st.take())
		expect(t, set, "[]")
	})
	t.Run("not when slowly", func(t *testing.T) {
		st, set := newStore(), NewSet(limits, "")
		for i := range 4 {
			st.register(t, pay(fmt.Sprint(i)), int64(i+1))
		}
		set.Apply(start, st.take())
		for i := range 3 {
			st.expire(int64(i + 1))
			set.Apply(start.Add(time.Duration(i)*10*time.Second), st.take())
		}
		expect(t, set, "[3 passing]")
	})
}

// However a set came to its state, by events, in batches, or read anew in between, it is the same.
func TestEventsAndReadsAgree(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	st := newStore()
	limits := Limits{MaxLoss: 1} // nothing is kept: what is kept depends on what was seen
	stepwise, batched, mixed := NewSet(limits, "pay"), NewSet(limits, "pay"), NewSet(limits, "pay")
	var gathered []*mvccpb.Event
	for range 3000 {
		id := fmt.Sprint(r.IntN(6))
		lease := int64(1 + r.IntN(4))
		switch r.IntN(8) {
		case 0, 1, 2:
			in := pay(id)
			in.State = State(1 + r.IntN(4))
			if r.IntN(2) == 0 {
				in.Probe = &Probe{Kind: ProbeTCP}
			}
			st.register(t, in, lease)
		case 3:
			st.put(layout.ProbedKey("pay", id), marshal(&coordv1.ServiceProbed{
				State: coordv1.ServiceState(1 + r.IntN(4)), Lease: lease,
			}), lease)
		case 4:
			st.put(layout.OrderKey("pay", id), marshal(&coordv1.ServiceOrder{State: 3}), lease)
		case 5:
			in := pay(id)
			in.Addr = "10.0.0." + id + ":1"
			st.put(layout.EndpointKey("pay", in.Addr), in.EncodeEndpoint(), lease)
		case 6:
			st.put(layout.InstanceKey("pay", id), []byte("\xffunreadable"), lease)
		case 7:
			st.expire(lease)
		}
		events := st.take()
		stepwise.Apply(start, events)
		gathered = append(gathered, events...)
		if r.IntN(5) == 0 {
			batched.Apply(start, gathered)
			gathered = nil
			if show(stepwise, "pay") != show(batched, "pay") {
				t.Fatalf("by one %s, in batches %s", show(stepwise, "pay"), show(batched, "pay"))
			}
		}
		if r.IntN(3) == 0 {
			mixed.Replace(start, st.all())
		} else {
			mixed.Apply(start, events)
		}
		if show(stepwise, "pay") != show(mixed, "pay") {
			t.Fatalf("by events %s, with reads %s", show(stepwise, "pay"), show(mixed, "pay"))
		}
	}
	alive := 0
	for _, in := range stepwise.Service("pay") {
		if !in.State.expected() && in.endpointOf == "" {
			alive++
		}
	}
	if g := stepwise.groups["pay"]; g != nil && g.alive != alive {
		t.Errorf("%d counted, %d are alive", g.alive, alive)
	}
}
