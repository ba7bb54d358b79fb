package recipes_test

import (
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
)

func sequenceValue(t *testing.T, last int64) string {
	t.Helper()
	data, err := proto.Marshal(&recipesv1.Sequence{Last: last})
	must(t, err)
	return string(data)
}

func scanned(r interface {
	Scan(from, end []byte, fn func(*mvccpb.KeyValue) bool)
}, from, end []byte) (kvs []*mvccpb.KeyValue) {
	r.Scan(from, end, func(kv *mvccpb.KeyValue) bool {
		kvs = append(kvs, kv)
		return true
	})
	return kvs
}

// things is the dumb twin: what counters, sequences, latches, gates and groups are, without keys.
type things struct {
	counters, sequences map[string]int64
	latches             map[string]latch
	gates               map[string]gate
	members             map[string]member // by group/id
}

type (
	latch  struct{ generation, count, remaining int64 }
	gate   struct{ since, session int64 }
	member struct {
		joined, session int64
		data            string
	}
)

// do does a request of a session. before is the revision before it.
func (th *things) do(session int64, req proto.Message, before int64) (proto.Message, error) {
	rev := before + 1
	switch r := req.(type) {
	case *coordv1.CounterAdd:
		sum := new(big.Int).Add(big.NewInt(th.counters[r.Name]), big.NewInt(r.Delta))
		if !sum.IsInt64() {
			return nil, recipes.ErrOverflow
		}
		if th.counters[r.Name] = sum.Int64(); r.Delta == 0 {
			rev = before
		}
		return &coordv1.CounterValue{Value: sum.Int64(), Revision: rev}, nil
	case *coordv1.CounterSet:
		if r.Expected != nil && th.counters[r.Name] != *r.Expected {
			return nil, recipes.ErrValueMismatch
		}
		th.counters[r.Name] = r.Value
		return &coordv1.CounterValue{Value: r.Value, Revision: rev}, nil
	case *coordv1.SequenceNext:
		first := th.sequences[r.Name] + 1
		th.sequences[r.Name] += r.Count
		return &coordv1.SequenceRange{First: first, Count: r.Count, Revision: rev}, nil
	case *coordv1.LatchSet:
		if th.latches[r.Name].remaining > 0 {
			return nil, recipes.ErrLatchState
		}
		th.latches[r.Name] = latch{rev, r.Count, r.Count}
		return th.latchState(r.Name, rev), nil
	case *coordv1.LatchCountDown:
		l, ok := th.latches[r.Name]
		switch {
		case !ok:
			return nil, recipes.ErrNotSet
		case r.Generation != 0 && r.Generation != l.generation:
			return nil, recipes.ErrLatchState
		case l.remaining == 0:
			return th.latchState(r.Name, before), nil
		}
		l.remaining -= min(r.Count, l.remaining)
		th.latches[r.Name] = l
		return th.latchState(r.Name, rev), nil
	}
	return th.doBound(session, req, before)
}

func (th *things) latchState(name string, rev int64) *coordv1.LatchState {
	l := th.latches[name]
	return &coordv1.LatchState{Generation: l.generation, Count: l.count, Remaining: l.remaining, Revision: rev}
}

// doBound is do for what sessions have.
func (th *things) doBound(session int64, req proto.Message, before int64) (proto.Message, error) {
	rev := before + 1
	switch r := req.(type) {
	case *coordv1.GateClose:
		old, closed := th.gates[r.Name]
		g := gate{rev, 0}
		if closed {
			g.since = old.since
		}
		if r.Bound {
			g.session = session
		}
		th.gates[r.Name] = g
		return &coordv1.GateState{
			Closed: true, Since: g.since, Session: g.session, Revision: rev, Changed: !closed,
		}, nil
	case *coordv1.GateOpen:
		_, closed := th.gates[r.Name]
		delete(th.gates, r.Name)
		if !closed {
			rev = before
		}
		return &coordv1.GateState{Revision: rev, Changed: closed}, nil
	case *coordv1.GroupJoin:
		key := r.Name + "/" + r.Member
		m, ok := th.members[key]
		switch {
		case !ok:
			m = member{joined: rev, session: session}
		case m.session != session:
			return nil, recipes.ErrMemberExists
		case m.data == string(r.Data):
			rev = before
		}
		m.data = string(r.Data)
		th.members[key] = m
		return &coordv1.GroupJoined{Joined: m.joined, Revision: rev}, nil
	case *coordv1.GroupLeave:
		key := r.Name + "/" + r.Member
		m, ok := th.members[key]
		switch {
		case !ok:
			return &coordv1.GroupLeft{Revision: before}, nil
		case m.session != session:
			return nil, recipes.ErrMemberExists
		}
		delete(th.members, key)
		return &coordv1.GroupLeft{Left: true, Revision: rev}, nil
	}
	panic(fmt.Sprintf("%T", req))
}

// end is the end of a session.
func (th *things) end(session int64) {
	maps.DeleteFunc(th.gates, func(_ string, g gate) bool { return g.session == session })
	maps.DeleteFunc(th.members, func(_ string, m member) bool { return m.session == session })
}

// randomThing makes a request for the twin's state.
func (th *things) randomRequest(rng *rand.Rand) (coordv1.Kind, proto.Message) {
	name := []string{"a", "b", "a/b"}[rng.IntN(3)]
	switch rng.IntN(9) {
	case 0, 1:
		delta := rng.Int64N(9) - 4
		if rng.IntN(4) == 0 {
			delta = []int64{math.MaxInt64, math.MinInt64, 1 << 62, -(1 << 62)}[rng.IntN(4)]
		}
		return coordv1.Kind_KIND_COUNTER_ADD, &coordv1.CounterAdd{Name: name, Delta: delta}
	case 2:
		set := &coordv1.CounterSet{Name: name, Value: rng.Int64N(9) - 4}
		if rng.IntN(2) == 0 {
			set.Expected = proto.Int64(th.counters[name] + rng.Int64N(2))
		}
		return coordv1.Kind_KIND_COUNTER_SET, set
	case 3:
		return coordv1.Kind_KIND_SEQUENCE_NEXT, &coordv1.SequenceNext{
			Name: name, Count: 1 + rng.Int64N(1<<uint(rng.IntN(33))),
		}
	case 4:
		return coordv1.Kind_KIND_LATCH_SET, &coordv1.LatchSet{Name: name, Count: rng.Int64N(4)}
	case 5:
		down := &coordv1.LatchCountDown{Name: name, Count: 1 + rng.Int64N(3)}
		if rng.IntN(3) == 0 {
			down.Generation = max(0, th.latches[name].generation-rng.Int64N(2))
		}
		return coordv1.Kind_KIND_LATCH_COUNT_DOWN, down
	case 6:
		return coordv1.Kind_KIND_GATE_CLOSE, &coordv1.GateClose{Name: name, Bound: rng.IntN(2) == 0}
	case 7:
		return coordv1.Kind_KIND_GATE_OPEN, &coordv1.GateOpen{Name: name}
	}
	id := []string{"x", "y"}[rng.IntN(2)]
	if rng.IntN(3) == 0 {
		return coordv1.Kind_KIND_GROUP_LEAVE, &coordv1.GroupLeave{Name: name, Member: id}
	}
	return coordv1.Kind_KIND_GROUP_JOIN, &coordv1.GroupJoin{
		Name: name, Member: id, Data: []byte{byte('0' + rng.IntN(3))},
	}
}

// sent is a request that was answered, to be sent again.
type sent struct {
	session  int64
	sequence uint64
	kind     coordv1.Kind
	body     []byte
	response []byte
	refusal  string
}

// TestObjectsAreTheirKeys: whatever happens to the process, counters, sequences, latches, gates and groups are what the
// twin says, in every answer and in the keys. Requests that are sent again get their first answer and have no effect,
// before and after crashes, restarts and snapshots.
func TestObjectsAreTheirKeys(t *testing.T) {
	reached := map[string]int{}
	for seed := range seeds(40) {
		rng := rand.New(rand.NewPCG(seed, 21))
		m := newMachine(t)
		th := &things{map[string]int64{}, map[string]int64{}, map[string]latch{}, map[string]gate{},
			map[string]member{}}
		last := map[int64]sent{} // of each session
		sequence := uint64(0)
		for range 150 {
			id := 1 + rng.Int64N(4)
			if _, ok := m.sessions[id]; !ok {
				m.open(id)
				delete(last, id)
			}
			switch rng.IntN(20) {
			case 0:
				m.do(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: id})
				delete(m.sessions, id)
				th.end(id)
			case 1:
				m.expire(id)
				th.end(id)
			case 2:
				must(t, m.Sync())
			case 3:
				m.crash()
				reached["crash"]++
			case 4:
				m.restore()
				reached["restore"]++
			case 5, 6:
				if s, ok := last[id]; ok {
					rev := m.last.Revision
					response, refusal := m.request(s.session, s.sequence, s.kind, s.body, 0)
					if string(response) != string(s.response) || refusal != s.refusal || m.last.Revision != rev {
						t.Fatalf("seed %d: %v sent again: %q %q, first %q %q", seed, s.kind, response, refusal,
							s.response, s.refusal)
					}
					reached["again"]++
				}
			default:
				sequence++
				kind, req := th.randomRequest(rng)
				body, err := proto.Marshal(req)
				must(t, err)
				want, wantErr := th.do(id, req, m.last.Revision)
				response, refusal := m.request(id, sequence, kind, body, 0)
				last[id] = sent{id, sequence, kind, body, response, refusal}
				compareAnswers(t, seed, req, response, refusal, want, wantErr)
				if wantErr != nil {
					reached[wantErr.Error()]++
				}
			}
			th.compare(t, seed, m)
		}
		must(t, m.Close())
	}
	for _, what := range []string{"crash", "restore", "again", recipes.ErrOverflow.Error(),
		recipes.ErrValueMismatch.Error(),
		recipes.ErrLatchState.Error(), recipes.ErrNotSet.Error(), recipes.ErrMemberExists.Error()} {
		if reached[what] == 0 {
			t.Errorf("no sequence reached %q", what)
		}
	}
}

func compareAnswers(
	t *testing.T, seed uint64, req proto.Message, response []byte, refusal string, want proto.Message, wantErr error,
) {
	t.Helper()
	if wantErr != nil {
		if !strings.Contains(refusal, wantErr.Error()) {
			t.Fatalf("seed %d: %T %v: %q, want %v", seed, req, req, refusal, wantErr)
		}
		return
	}
	got := want.ProtoReflect().New().Interface()
	must(t, proto.Unmarshal(response, got))
	if refusal != "" || !proto.Equal(got, want) {
		t.Fatalf("seed %d: %T %v: %v %q, want %v", seed, req, req, got, refusal, want)
	}
}

// compare reads the keys.
func (th *things) compare(t *testing.T, seed uint64, m *testMachine) {
	t.Helper()
	keys := map[string]*mvccpb.KeyValue{}
	for _, kv := range m.keys() {
		keys[string(kv.Key)] = kv
	}
	for _, name := range []string{"a", "b", "a/b"} {
		counter, err := objects.Counter(keys[layout.Counter.Key(name)])
		must(t, err)
		last, err := objects.Sequence(keys[layout.Sequence.Key(name)])
		must(t, err)
		if counter != th.counters[name] || last != th.sequences[name] {
			t.Fatalf("seed %d: counter %d, want %d; sequence %d, want %d", seed, counter, th.counters[name], last,
				th.sequences[name])
		}
		state, _ := objects.Latch(keys[layout.Latch.Key(name)])
		if l := (latch{state.GetGeneration(), state.GetCount(), state.GetRemaining()}); l != th.latches[name] {
			t.Fatalf("seed %d: latch %+v, want %+v", seed, l, th.latches[name])
		}
		closed, err := objects.Gate(keys[layout.Gate.Key(name)])
		must(t, err)
		if g := (gate{closed.Since, closed.Session}); g != th.gates[name] {
			t.Fatalf("seed %d: gate %+v, want %+v", seed, g, th.gates[name])
		}
		members := map[string]member{}
		for _, g := range objects.Members(name, slices.Collect(maps.Values(keys))) {
			members[name+"/"+g.Id] = member{g.Joined, g.Session, string(g.Data)}
		}
		want := maps.Clone(th.members)
		maps.DeleteFunc(want, func(key string, _ member) bool { return key[:strings.LastIndexByte(key, '/')] != name })
		if !maps.Equal(members, want) {
			t.Fatalf("seed %d: members of %q %v, want %v", seed, name, members, want)
		}
	}
}

// TestCountersAndSequencesUniqueMonotoneNoReuseAfterRestore: guarantees §1, counters and sequences. Of a sequence each
// number is given once, later ones are greater, and a counter that only grows never answers a value twice: after
// snapshots that went to a fresh machine, crashes, and ends of the sessions that asked.
func TestCountersAndSequencesUniqueMonotoneNoReuseAfterRestore(t *testing.T) {
	for seed := range seeds(20) {
		rng := rand.New(rand.NewPCG(seed, 22))
		m := newMachine(t)
		m.open(1)
		var lastID, lastSum int64
		for sequence := uint64(1); sequence <= 60; sequence++ {
			switch rng.IntN(6) {
			case 0:
				m.restore()
			case 1:
				m.crash()
			case 2:
				m.do(raftv1.KindLeaseRevoke, &raftv1.LeaseRevoke{Id: 1})
				m.open(1)
			case 3: // what is compacted away is not what counts
				m.do(raftv1.KindCompact, &pb.CompactionRequest{Revision: m.last.Revision})
			}
			next, err := proto.Marshal(&coordv1.SequenceNext{Name: "ids", Count: 1 + rng.Int64N(1000)})
			must(t, err)
			response, refusal := m.request(1, 2*sequence, coordv1.Kind_KIND_SEQUENCE_NEXT, next, 0)
			r := &coordv1.SequenceRange{}
			if must(t, proto.Unmarshal(response, r)); refusal != "" || r.First != lastID+1 {
				t.Fatalf("seed %d: %v %q after %d were given", seed, r, refusal, lastID)
			}
			lastID = r.First + r.Count - 1
			add, err := proto.Marshal(&coordv1.CounterAdd{Name: "sum", Delta: 1})
			must(t, err)
			response, refusal = m.request(1, 2*sequence+1, coordv1.Kind_KIND_COUNTER_ADD, add, 0)
			v := &coordv1.CounterValue{}
			if must(t, proto.Unmarshal(response, v)); refusal != "" || v.Value != lastSum+1 {
				t.Fatalf("seed %d: %v %q after %d", seed, v, refusal, lastSum)
			}
			lastSum = v.Value
		}
		must(t, m.Close())
	}
}
