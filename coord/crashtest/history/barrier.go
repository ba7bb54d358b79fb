package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// Visit is a party's time inside a barrier.
type Visit struct {
	Client     int
	Name       string
	Generation int64 // as Gatherings know it
	Token      int64 // of its entry
	// Entering is when it called, Entered when it was let in, Leaving when it called to leave; Left when it was let
	// out, 0 if it was not seen to be.
	Entering, Entered, Leaving, Left int64
}

// Met checks the visits of barriers of so many parties, those that were let in. Calls are when anybody called to enter,
// whether it was let in or not. Of one generation there are at most so many visits, by different entries; nobody is let
// in before so many have called, nor out before all the others of its generation have called to leave, unless they may
// have died. died says from when on a party may have.
func Met(visits []Visit, calls map[string][]int64, parties int, died func(Visit) (int64, bool)) error {
	type meeting struct {
		name       string
		generation int64
	}
	meetings := make(map[meeting][]Visit)
	for _, v := range visits {
		m := meeting{v.Name, v.Generation}
		meetings[m] = append(meetings[m], v)
	}
	for m, all := range meetings {
		slices.SortFunc(all, func(a, b Visit) int { return cmp.Compare(a.Token, b.Token) })
		if distinct := slices.CompactFunc(slices.Clone(all), func(a, b Visit) bool {
			return a.Token == b.Token
		}); len(distinct) != len(all) || len(all) > parties {
			return fmt.Errorf("generation %d of %q has %d visits of %d entries, for %d parties", m.generation, m.name,
				len(all), len(distinct), parties)
		}
		for _, v := range all {
			if err := v.met(all, calls[m.name], parties, died); err != nil {
				return fmt.Errorf("generation %d of %q: %w", m.generation, m.name, err)
			}
		}
	}
	return nil
}

func (v Visit) met(all []Visit, calls []int64, parties int, died func(Visit) (int64, bool)) error {
	called := 0
	for _, at := range calls {
		if at <= v.Entered {
			called++
		}
	}
	if called < parties {
		return fmt.Errorf("entry %d was let in when %d of %d had called", v.Token, called, parties)
	}
	for _, o := range all {
		if o.Entering > v.Entered {
			return fmt.Errorf("entry %d was let in before entry %d called", v.Token, o.Token)
		}
		from, mayHave := died(o)
		if v.Left != 0 && (o.Leaving == 0 || o.Leaving > v.Left) && !(mayHave && from <= v.Left) {
			return fmt.Errorf("entry %d was let out while entry %d was inside", v.Token, o.Token)
		}
	}
	return nil
}

// Gatherings rebuilds barriers from the changes of their keys, in the order of the log.
type Gatherings struct {
	entries map[string]map[string]*mvccpb.KeyValue // by barrier, by key
	opened  map[string][]*coordv1.BarrierState     // by barrier: a state for each generation that was opened
}

// NewGatherings returns an empty one.
func NewGatherings() *Gatherings {
	return &Gatherings{map[string]map[string]*mvccpb.KeyValue{}, map[string][]*coordv1.BarrierState{}}
}

// Apply takes over the events of one revision, or of several in order. A generation may only be opened while as many
// entries as it has parties are there, each attached to the lease in its name, and only after the one before.
func (g *Gatherings) Apply(events []*mvccpb.Event) error {
	return eachRevision(events, g.applyRevision)
}

func (g *Gatherings) applyRevision(_ int64, events []*mvccpb.Event) error {
	states := map[string]*coordv1.BarrierState{}
	for _, e := range events {
		rest, ok := strings.CutPrefix(string(e.Kv.Key), layout.Barrier.Dir())
		slash := strings.LastIndexByte(rest, '/')
		if !ok || slash < 0 {
			continue
		}
		name := rest[:slash]
		if g.entries[name] == nil {
			g.entries[name] = map[string]*mvccpb.KeyValue{}
		}
		lease, isEntry := leaseOf(rest)
		switch {
		case rest[slash+1:] == string(layout.State) && e.Type == mvccpb.Event_PUT:
			states[name] = &coordv1.BarrierState{}
			if err := proto.Unmarshal(e.Kv.Value, states[name]); err != nil {
				return fmt.Errorf("state of barrier %q: %w", name, err)
			}
		case isEntry && e.Type == mvccpb.Event_PUT && e.Kv.Lease == lease:
			g.entries[name][rest] = e.Kv
		case isEntry:
			delete(g.entries[name], rest)
		}
	}
	for name, state := range states {
		if err := g.open(name, state); err != nil {
			return fmt.Errorf("barrier %q: %w", name, err)
		}
	}
	return nil
}

func (g *Gatherings) open(name string, state *coordv1.BarrierState) error {
	last := &coordv1.BarrierState{}
	if n := len(g.opened[name]); n > 0 {
		last = g.opened[name][n-1]
	}
	if !state.Open || state.Generation == last.Generation {
		return nil
	}
	there := 0
	for _, kv := range g.entries[name] {
		if kv.CreateRevision >= state.First && kv.CreateRevision <= state.Last {
			there++
		}
	}
	if int64(there) != state.Parties || state.Generation < last.Generation || state.First <= last.Last {
		return fmt.Errorf("generation %d of %d parties is opened with %d there, after generation %d", state.Generation,
			state.Parties, there, last.Generation)
	}
	g.opened[name] = append(g.opened[name], state)
	return nil
}

// Opened is how many generations of a barrier were opened.
func (g *Gatherings) Opened(name string) int { return len(g.opened[name]) }

// Generation is the one in which an entry was let in; false if it never was.
func (g *Gatherings) Generation(name string, token int64) (int64, bool) {
	for _, state := range g.opened[name] {
		if state.First <= token && token <= state.Last {
			return state.Generation, true
		}
	}
	return 0, false
}
