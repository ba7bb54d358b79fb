package recipes

import (
	"errors"
	"slices"
	"strconv"
	"unicode/utf8"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// maxFront is how many entries of a queue an enqueue looks at, at most.
const maxFront = 32

// ownersEntry is what a step knows of an owner's entry, which may be one that it is about to make.
type ownersEntry struct {
	key    string
	entry  Entry // without token and claim if it does not exist
	exists bool
	holds  bool             // or would, if it were made now
	counts *recipesv1.Tally // of a queue that has one: what there was before
	front
}

// findByCounts finds the owner's entry, or says where the one that it wants would stand, in a queue that has counts.
// admits says whether it holds behind those that were counted, if it is made. ErrKeyTaken.
func findByCounts(
	step statemachine.Step, queue string, admits func(*recipesv1.Tally, Entry) bool, wanted Entry,
) (*ownersEntry, error) {
	counts, err := countsOf(step, queue)
	if err != nil {
		return nil, err
	}
	own := &ownersEntry{key: layout.EntryKey(queue, wanted.Lease, wanted.OwnerID), counts: counts}
	if err := own.find(step, queue, wanted); err != nil {
		return nil, err
	}
	if own.exists {
		own.holds = RuleOf(queue).Holds(step, queue, own.entry, own.entry.Token)
	} else {
		own.holds = admits(own.counts, own.entry)
	}
	return own, nil
}

// find finds the owner's entry, or makes it what is wanted. ErrKeyTaken.
func (own *ownersEntry) find(step statemachine.Step, queue string, wanted Entry) error {
	old := step.Get([]byte(own.key))
	if own.entry, own.exists = entryOf(queue, old); old != nil && (!own.exists || own.entry.Lingers ||
		own.entry.Foreign) {
		// Written over, it would lend us its create revision: a position in the queue and a token that may be passed
		// already.
		return refuse(ErrKeyTaken, "%q", own.key)
	}
	if !own.exists {
		own.entry = wanted
		own.entry.Key, own.entry.Token = own.key, step.Revision()+1
	}
	return nil
}

// front is the oldest entries of a queue, as many as an enqueue looks at.
type front struct {
	entries []Entry // the oldest, in order; all of them if all is set
	all     bool
	kind    uint64 // of the oldest that a recipe made; 0: among those seen there is none
	// the key of the oldest that is a service's instance in etcd's layout; "": among those seen there is none
	endpoint string
}

func frontOf(step statemachine.Step, queue string) front {
	f := front{all: true}
	eachEntry(step, queue, func(e Entry) bool {
		if f.all = len(f.entries) < maxFront; f.all {
			f.entries = append(f.entries, e)
		}
		switch {
		case e.Lingers, e.Lease == 0:
		case !e.Foreign && f.kind == 0:
			f.kind = step.Attachment(e.Lease, []byte(e.Key)).Kind
		case e.Foreign && f.endpoint == "" && step.Attachment(e.Lease, []byte(e.Key)).Kind == KindEndpoint:
			f.endpoint = e.Key
		}
		return f.all
	})
	return f
}

// head is the oldest entry, which holds if it can; its key is empty if there is none.
func (f *front) head() Entry {
	for e := range oldestOf(slices.Values(f.entries)) {
		return e
	}
	return Entry{}
}

// findInFront finds the owner's entry, or says where the one that it wants would stand, in a queue in etcd's layout.
// ErrKeyTaken, ErrWrongKind.
func findInFront(step statemachine.Step, queue string, wanted Entry, kind uint64) (*ownersEntry, error) {
	own := &ownersEntry{key: layout.EntryKey(queue, wanted.Lease, wanted.OwnerID), front: frontOf(step, queue)}
	if err := own.find(step, queue, wanted); err != nil {
		return nil, err
	}
	if own.kind != 0 && own.kind != kind {
		return nil, refuse(ErrWrongKind, "%q", queue)
	}
	if own.endpoint != "" && !own.exists {
		return nil, refuse(ErrWrongKind, "%q is that of a registered service, whose instances etcd's resolver finds "+
			"below it, such as %q: choose another name, or register the service without its mirror", queue,
			own.endpoint)
	}
	head := own.head()
	own.holds = head.Key == "" || own.exists && head.Key == own.key && !head.Foreign
	return own, nil
}

// enter makes the owner's entry, or takes over the one it has: same token and position, a new claim.
func (own *ownersEntry) enter(step statemachine.Step, value []byte, note statemachine.Attachment) error {
	if own.exists {
		note.SinceUnixMS = step.Attachment(own.entry.Lease, []byte(own.key)).SinceUnixMS
	}
	rev, err := step.PutEntry([]byte(own.key), value, own.entry.Lease, note)
	if own.exists && errors.Is(err, statemachine.ErrNoSpace) {
		// Who holds or waits already must not suffer. Nor may it go without a claim of its own: whoever gives the entry
		// up for the request before would take it away.
		rev, err = step.Touch([]byte(own.key))
	}
	if err != nil {
		return err
	}
	own.entry.Claim = rev
	if !own.exists {
		own.entry.Token = rev
	}
	return nil
}

// answer describes the entry to its owner. made: it exists now.
func (own *ownersEntry) answer(step statemachine.Step, name string, kind uint64, made bool) *coordv1.AcquiredEntry {
	a := &coordv1.AcquiredEntry{Name: name, Key: own.key}
	switch {
	case made && own.holds:
		a.Token, a.State = own.entry.Token, coordv1.AcquiredEntry_HOLDS
		return a
	case made:
		a.Token, a.State = own.entry.Token, coordv1.AcquiredEntry_WAITS
	}
	if own.counts != nil {
		own.answerByCounts(step, kind, made, a)
		return a
	}
	// Of several that were created at once one that is not the owner's says what stands in the way.
	for e := range oldestOf(slices.Values(own.entries)) {
		if e.Key != own.key {
			if !e.Lingers {
				a.Holder = noted(step, e, kind)
			}
			break
		}
	}
	if !own.all {
		return a // how many there are is not known
	}
	for _, e := range own.entries {
		if made && e.Key != own.key && (!own.exists || e.Compare(own.entry) < 0) {
			a.Position++
		}
	}
	return a
}

// answerByCounts says what is known without a look at the queue.
func (own *ownersEntry) answerByCounts(step statemachine.Step, kind uint64, made bool, a *coordv1.AcquiredEntry) {
	if made && !own.exists {
		a.Position = own.counts.Entries
	}
	queue, _ := layout.QueueOfKey(own.key)
	e, ok := entryOf(queue, step.Get(own.counts.Holder))
	if ok && e.Token == own.counts.Token && !e.Lingers && e.Key != own.key {
		a.Holder = noted(step, e, kind)
	}
}

// Proto describes an entry. For its value see HasIdentity and WithIdentity.
func (e Entry) Proto() *coordv1.Entry {
	p := &coordv1.Entry{
		Key: e.Key, Token: e.Token, Lease: e.Lease, OwnerId: e.OwnerID, Value: e.Value, Write: e.Write,
		Permits: e.Permits,
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
