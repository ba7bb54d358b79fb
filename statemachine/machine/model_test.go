package machine_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	sm "github.com/lni/dragonboat/v4/statemachine"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
	"github.com/coord-dev/coord/statemachine/model"
)

var (
	modelRuns = flag.Int("model.runs", defaultModelRuns, "how many random logs TestModel applies")
	modelSeed = flag.Uint64("model.seed", 0, "the seed of TestModel's first log, 0: random")
	modelSize = flag.Int("model.entries", 160, "entries of one log of TestModel")
)

type kv = mvccpb.KeyValue

// world is one random log with what the model says of each of its entries, and the machines that apply it.
type world struct {
	t        testing.TB
	gen      *generator
	log      []sm.Entry       // log[i] has index i+1
	states   []*model.Model   // states[i] is the state after i entries
	outcomes []*model.Outcome // outcomes[i] is that of log[i]
	replicas []*replica
	// What machines said first and all others must repeat: the hash after each index, and of (revision, compacted).
	hashes   map[uint64]uint64
	kvHashes map[[2]int64]uint32
	// caches are shared by all machines but the first one: little of each, so that the stores take each other's place.
	caches *machine.Caches
}

// TestModel applies random logs to machines that are driven differently and compares all that can be observed with the
// model, and their hashes with each other.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for run := range *modelRuns {
		t.Run(fmt.Sprintf("seed=%d", seed+uint64(run)), func(t *testing.T) {
			t.Parallel()
			runWorld(t, seed+uint64(run))
		})
	}
}

func runWorld(t *testing.T, seed uint64) {
	rng := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	first := randomModel()
	w := &world{
		t: t, gen: newGenerator(rng(0)), states: []*model.Model{first},
		hashes: make(map[uint64]uint64), kvHashes: make(map[[2]int64]uint32), caches: machine.NewCaches(64<<10, 8),
	}
	// One is driven evenly, as member 7; the others wildly, as each of the members.
	w.replicas = []*replica{newReplica(w, "even", 7, rng(1)), newReplica(w, "wild8", 8, rng(2)),
		newReplica(w, "wild7", 7, rng(3))}
	t.Cleanup(func() {
		w.caches.Close() // the stores hold them still
		for _, r := range w.replicas {
			r.close()
		}
	})
	for range *modelSize {
		w.grow()
		w.replicas[0].apply(1)
		w.replicas[0].check()
		for _, r := range w.replicas[1:] {
			r.wildStep()
		}
	}
	w.finish()
}

// grow adds an entry to the log.
func (w *world) grow() {
	w.gen.now = w.states[len(w.states)-1]
	w.add(w.gen.entry(uint64(len(w.log) + 1)))
}

// add adds an entry of this content to the log, and what it does according to the model.
func (w *world) add(data []byte) {
	index := uint64(len(w.log) + 1)
	next := w.states[len(w.states)-1].Clone()
	w.log = append(w.log, sm.Entry{Index: index, Cmd: data})
	w.outcomes = append(w.outcomes, next.Apply(index, data))
	w.states = append(w.states, next)
}

// finish brings all machines to the end of the log and compares every byte of them.
func (w *world) finish() {
	for _, r := range w.replicas {
		r.apply(len(w.log))
		r.check()
		r.releaseViews(0)
		r.awaitCompaction()
	}
	w.add(nil) // what is published now was so before the last removal
	var first map[string]string
	for _, r := range w.replicas {
		r.apply(1)
		r.check()
		rows := backupRows(w.t, r.m)
		if first == nil {
			first = stateRows(rows)
		}
		if diff := rowsDiffer(childRows(rows), indexOf(rows)); diff != "" {
			w.t.Errorf("the children in the index of %s and those among its live keys differ: %s", r.name, diff)
		}
		if diff := rowsDiffer(first, stateRows(rows)); diff != "" {
			w.t.Errorf("the rows of %s and %s differ after compaction: %s", w.replicas[0].name, r.name, diff)
		}
	}
}

// sameHash demands that all machines have this hash after an index.
func (w *world) sameHash(who string, index, hash uint64) {
	if want, ok := w.hashes[index]; ok && want != hash {
		w.t.Fatalf("%s: state hash %x at index %d, another machine said %x", who, hash, index, want)
	}
	w.hashes[index] = hash
}

func (w *world) sameKVHash(who string, rev, compacted int64, hash uint32) {
	at := [2]int64{rev, compacted}
	if want, ok := w.kvHashes[at]; ok && want != hash {
		w.t.Fatalf("%s: hash %x of revision %d, compacted %d; it was %x before", who, hash, rev, compacted, want)
	}
	w.kvHashes[at] = hash
}

// checkApplied compares what a machine told its observer about the entries (from, to] with the model's outcomes.
func (w *world) checkApplied(r *replica, from, to uint64) {
	var entries []statemachine.EntryResult
	var events []statemachine.Event
	var ticks []statemachine.Tick
	var sessions []statemachine.SessionChange
	members, alarms := false, false
	for _, a := range r.applied {
		entries, events, ticks = append(entries, a.Entries...), append(events, a.Events...), append(ticks, a.Ticks...)
		sessions = append(sessions, a.Sessions...)
		members, alarms = members || a.MembersChanged, alarms || a.AlarmsChanged
		state := w.states[a.Index]
		if a.Revision != state.Revision() || a.Compacted != state.Compacted() || a.Leases != state.LeaseFacts() {
			w.t.Fatalf("%s: after index %d revision %d, compacted %d, leases %+v; the model has %d, %d, %+v", r.name,
				a.Index,
				a.Revision, a.Compacted, a.Leases, state.Revision(), state.Compacted(), state.LeaseFacts())
		}
	}
	r.applied = nil
	wantMembers, wantAlarms := false, false
	for i := from; i < to; i++ {
		out := w.outcomes[i]
		wantMembers, wantAlarms = wantMembers || out.MembersChanged, wantAlarms || out.AlarmsChanged
		n := min(len(out.Events), len(events))
		w.same(r, i+1, "events", events[:n], remembering(out.Events, events))
		events = events[n:]
		n = min(len(out.Ticks), len(ticks))
		w.same(r, i+1, "ticks", ticks[:n], out.Ticks)
		ticks = ticks[n:]
		n = min(len(out.Sessions), len(sessions))
		w.same(r, i+1, "sessions", sessions[:n], out.Sessions)
		sessions = sessions[n:]
		if !out.Ran {
			continue
		}
		if len(entries) == 0 {
			w.t.Fatalf("%s: no result for the entry at index %d", r.name, i+1)
		}
		want := out.Entry
		if want.Member != r.member || want.Boot != r.boot || want.Start != startOf(r.boot) {
			want.Results = nil
		}
		w.same(r, i+1, "result", entries[0], want)
		entries = entries[1:]
	}
	if len(entries)+len(events)+len(ticks)+len(sessions) > 0 || members != wantMembers || alarms != wantAlarms {
		w.t.Fatalf("%s: after index %d left over: %v %v %v %v, members changed %v, alarms %v; want %v, %v", r.name, to,
			entries, events, ticks, sessions, members, alarms, wantMembers, wantAlarms)
	}
}

func (w *world) same(r *replica, index uint64, what string, got, want any) {
	if !equal(reflect.ValueOf(got), reflect.ValueOf(want)) {
		w.t.Fatalf("%s: %s at index %d:\n got %s\nwant %s\nentry %s", r.name, what, index, show(got), show(want),
			w.describe(index))
	}
}

// describe prints a log entry.
func (w *world) describe(index uint64) string {
	if index == 0 || index > uint64(len(w.log)) {
		return ""
	}
	e, err := raftv1.DecodeEntry(w.log[index-1].Cmd)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d/%d/%d/%d settled %d: %+v", e.Member, e.Boot, e.Start, e.Number, e.Settled, e.Commands)
}

// equal is reflect.DeepEqual that compares messages as messages, errors and outcomes as refusals, and nil slices as
// empty ones.
func equal(a, b reflect.Value) bool {
	if a.IsValid() != b.IsValid() {
		return false
	}
	if !a.IsValid() {
		return true
	}
	if a.Type() != b.Type() && a.Kind() != reflect.Interface {
		return false
	}
	x, y := a.Interface(), b.Interface()
	if r, ok := x.(statemachine.RequestsDone); ok {
		return sameOutcomes(r, y.(statemachine.RequestsDone))
	}
	if m, ok := x.(proto.Message); ok {
		n, ok := y.(proto.Message)
		return ok && proto.Equal(m, n)
	}
	if err, ok := x.(error); ok {
		other, ok := y.(error)
		return ok && refusal(err) == refusal(other)
	}
	switch a.Kind() {
	case reflect.Interface:
		return equal(a.Elem(), b.Elem())
	case reflect.Slice:
		for i := range min(a.Len(), b.Len()) {
			if !equal(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return a.Len() == b.Len()
	case reflect.Struct:
		for i := range a.NumField() {
			if !equal(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(x, y)
}

// sameOutcomes compares outcomes, but for the texts of refusals of invalid requests.
func sameOutcomes(a, b statemachine.RequestsDone) bool {
	comparable := func(data []byte) string {
		o := &coordv1.Outcome{}
		if err := proto.Unmarshal(data, o); err != nil || !bytes.Equal(encode(o), data) {
			return fmt.Sprintf("%x is no outcome as protobuf writes it", data)
		}
		if o.Refusal.GetReason() == coordv1.Error_REASON_INVALID {
			o.Refusal.Message = ""
		}
		return string(encode(o))
	}
	return a.Revision == b.Revision && slices.EqualFunc(a.Outcomes, b.Outcomes, func(x, y []byte) bool {
		return comparable(x) == comparable(y)
	})
}

// refusal names the refusal that err wraps, and shows anything else.
func refusal(err error) string {
	for _, known := range []error{
		statemachine.ErrCompacted, statemachine.ErrFutureRev, statemachine.ErrKeyNotFound,
		statemachine.ErrLeaseNotFound,
		statemachine.ErrLeaseExist, statemachine.ErrNoSpace, statemachine.ErrCorrupt, statemachine.ErrInvalid,
		statemachine.ErrSessionNotFound, statemachine.ErrSessionElsewhere,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprint(err)
}

func show(v any) string {
	switch v := v.(type) {
	case statemachine.EntryResult:
		out := fmt.Sprintf("%d/%d/%d/%d duplicate %v displaced %v", v.Member, v.Boot, v.Start, v.Number, v.Duplicate,
			v.Displaced)
		for _, r := range v.Results {
			out += fmt.Sprintf("\n  %T %s %v", r.Response, show(r.Response), r.Err)
		}
		return out
	case statemachine.RequestsDone:
		out := fmt.Sprint(v.Revision)
		for _, data := range v.Outcomes {
			o := &coordv1.Outcome{}
			err := proto.Unmarshal(data, o)
			out += fmt.Sprintf("\n    %v %v", o, err)
		}
		return out
	case []statemachine.Event:
		out := ""
		for _, e := range v {
			out += fmt.Sprintf("\n  %v %v prev %v", e.Type, e.Kv, e.PrevKv)
		}
		return out
	}
	return fmt.Sprintf("%+v", v)
}
