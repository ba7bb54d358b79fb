package recipes

import (
	"slices"
	"strconv"
	"unicode/utf8"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// maxGlance is how many entries of a queue an enqueue looks at, at most.
const maxGlance = 32

// place is what a step knows of an owner's entry, which may be one that it is about to make.
type place struct {
	key    string
	own    Entry // without token and claim if it does not exist
	exists bool
	holds  bool             // or would, if it were made now
	tally  *recipesv1.Tally // of a queue that has one: what there was before
	glance
}

// lookAt finds the owner's entry, or the place for the one that it wants, in a queue that has a tally. admits says
// whether it holds behind those that were counted, if it is made. ErrKeyTaken.
func lookAt(step statemachine.Step, queue string, admits func(*recipesv1.Tally, Entry) bool, wanted Entry) (*place, error) {
	tally, err := tallyOf(step, queue)
	if err != nil {
		return nil, err
	}
	p := &place{key: layout.EntryKey(queue, wanted.Lease, wanted.OwnerID), tally: tally}
	if err := p.find(step, queue, wanted); err != nil {
		return nil, err
	}
	if p.exists {
		p.holds = RuleOf(queue).Holds(step, queue, p.own, p.own.Token)
	} else {
		p.holds = admits(p.tally, p.own)
	}
	return p, nil
}

// find finds the owner's entry, or makes it what is wanted. ErrKeyTaken.
func (p *place) find(step statemachine.Step, queue string, wanted Entry) error {
	old := step.Get([]byte(p.key))
	if p.own, p.exists = entryOf(queue, old); old != nil && (!p.exists || p.own.Lingers || p.own.Foreign) {
		// Written over, it would lend us its create revision: a place in the queue and a token that may be passed already.
		return refuse(ErrKeyTaken, "%q", p.key)
	}
	if !p.exists {
		p.own = wanted
		p.own.Key, p.own.Token = p.key, step.Revision()+1
	}
	return nil
}

// glance is a bounded look at a queue.
type glance struct {
	entries []Entry // the oldest, in order; all of them if all is set
	all     bool
	kind    uint64 // of the oldest that a recipe made; 0: among those seen there is none
	mirror  string // the key of the oldest that is a service's instance; "": among those seen there is none
}

func glanceAt(step statemachine.Step, queue string) glance {
	g := glance{all: true}
	eachEntry(step, queue, func(e Entry) bool {
		if g.all = len(g.entries) < maxGlance; g.all {
			g.entries = append(g.entries, e)
		}
		switch {
		case e.Lingers, e.Lease == 0:
		case !e.Foreign && g.kind == 0:
			g.kind = step.Attachment(e.Lease, []byte(e.Key)).Kind
		case e.Foreign && g.mirror == "" && step.Attachment(e.Lease, []byte(e.Key)).Kind == KindMirror:
			g.mirror = e.Key
		}
		return g.all
	})
	return g
}

// head is the oldest entry, which holds if it can; its key is empty if there is none.
func (g *glance) head() Entry {
	for e := range oldestOf(slices.Values(g.entries)) {
		return e
	}
	return Entry{}
}

// look finds the owner's entry, or the place for the one that it wants, in a queue in etcd's layout. ErrKeyTaken, ErrWrongKind.
func look(step statemachine.Step, queue string, wanted Entry, kind uint64) (*place, error) {
	p := &place{key: layout.EntryKey(queue, wanted.Lease, wanted.OwnerID), glance: glanceAt(step, queue)}
	if err := p.find(step, queue, wanted); err != nil {
		return nil, err
	}
	if p.kind != 0 && p.kind != kind {
		return nil, refuse(ErrWrongKind, "%q", queue)
	}
	if p.mirror != "" && !p.exists {
		return nil, refuse(ErrWrongKind, "%q is that of a registered service, whose instances etcd's resolver finds below it, such as %q: "+
			"choose another name, or register the service without its mirror", queue, p.mirror)
	}
	head := p.head()
	p.holds = head.Key == "" || p.exists && head.Key == p.key && !head.Foreign
	return p, nil
}

// answer describes the entry to its owner. made: it exists now.
func (p *place) answer(step statemachine.Step, name string, kind uint64, made bool) *coordv1.AcquiredEntry {
	a := &coordv1.AcquiredEntry{Name: name, Key: p.key}
	switch {
	case made && p.holds:
		a.Token, a.State = p.own.Token, coordv1.AcquiredEntry_HOLDS
		return a
	case made:
		a.Token, a.State = p.own.Token, coordv1.AcquiredEntry_WAITS
	}
	if p.tally != nil {
		p.answerByTally(step, kind, made, a)
		return a
	}
	// Of several that were created at once one that is not the owner's says what stands in the way.
	for e := range oldestOf(slices.Values(p.entries)) {
		if e.Key != p.key {
			if !e.Lingers {
				a.Holder = noted(step, e, kind)
			}
			break
		}
	}
	if !p.all {
		return a // how many there are is not known
	}
	for _, e := range p.entries {
		if made && e.Key != p.key && (!p.exists || e.Compare(p.own) < 0) {
			a.Position++
		}
	}
	return a
}

// answerByTally says what is known without a look at the queue.
func (p *place) answerByTally(step statemachine.Step, kind uint64, made bool, a *coordv1.AcquiredEntry) {
	if made && !p.exists {
		a.Position = p.tally.Entries
	}
	queue, _ := layout.QueueOfKey(p.key)
	e, ok := entryOf(queue, step.Get(p.tally.Holder))
	if ok && e.Token == p.tally.Token && !e.Lingers && e.Key != p.key {
		a.Holder = noted(step, e, kind)
	}
}

// Proto describes an entry. For its value see HasIdentity and WithIdentity.
func (e Entry) Proto() *coordv1.Entry {
	p := &coordv1.Entry{
		Key: e.Key, Token: e.Token, Lease: e.Lease, OwnerId: e.OwnerID, Value: e.Value, Write: e.Write, Permits: e.Permits,
	}
	if e.Foreign {
		p.ForeignKey = []byte(e.Key)
	}
	if !utf8.ValidString(e.Key) {
		p.Key = strconv.Quote(e.Key)
	}
	return p
}

// WithIdentity decodes the value of an entry that says who its owner is; nil stays nil.
func WithIdentity(e *coordv1.Entry) *coordv1.Entry {
	if e != nil {
		e.Owner, e.Labels = DecodeIdentity(e.Value)
	}
	return e
}

// noted is Proto with what the state machine knows besides.
func noted(step statemachine.Step, e Entry, kind uint64) *coordv1.Entry {
	p := e.Proto()
	p.SinceUnixMs = step.Attachment(e.Lease, []byte(e.Key)).SinceUnixMS
	if HasIdentity(coordv1.QueueKind(kind)) {
		p = WithIdentity(p)
	}
	return p
}
