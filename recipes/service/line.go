package service

import (
	"container/list"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// line is this member's copy of one queue, for those who wait in it or look at it.
type line struct {
	name   string
	reload func(*line) bool // has the line read again, on another goroutine; false: it is too late for that

	mu        sync.Mutex
	rev       statemachine.Revision // what the entries show; 0: not read yet
	loading   bool                  // deliveries gather in pending
	pending   []Delivery
	err       error                    // the line cannot be read: everybody is told
	order     *list.List               // of recipes.Entry, as granted
	entries   map[string]*list.Element // by key
	tickets   map[string][]*ticket     // by key
	observers map[*observer]struct{}
}

// ticket is one request's interest in its entry.
type ticket struct {
	key          string
	token, claim int64

	granted chan struct{} // closed when the entry holds
	ended   chan struct{} // closed when the entry is gone or somebody else's; granted may be closed before
	// end and endRev are set before ended is closed: nil (gone), errSuperseded, or why the line cannot be read.
	end    error
	endRev statemachine.Revision
	isHeld bool // granted is closed; guarded by the line
}

func newTicket(key string, token, claim int64) *ticket {
	return &ticket{key: key, token: token, claim: claim, granted: make(chan struct{}), ended: make(chan struct{})}
}

func newLine(name string, reload func(*line) bool) *line {
	return &line{
		name: name, reload: reload, loading: true, order: list.New(), entries: map[string]*list.Element{},
		tickets: map[string][]*ticket{}, observers: map[*observer]struct{}{},
	}
}

// deliver takes the next change from the subscription.
func (l *line) deliver(d Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.loading:
		l.pending = append(l.pending, d)
	case d.Gap:
		l.readAgain(nil)
	default:
		l.apply(d)
	}
}

// readAgain lets deliveries gather, those given first, until load is called.
func (l *line) readAgain(pending []Delivery) {
	l.loading, l.pending = true, pending
	if !l.reload(l) {
		l.end(errStopped)
	}
}

// load replaces the entries by what was read at rev, and goes on from there with what gathered meanwhile.
func (l *line) load(queue []recipes.Entry, rev statemachine.Revision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gap := l.rev != 0
	l.order.Init()
	clear(l.entries)
	for _, e := range queue {
		l.entries[e.Key] = l.order.PushBack(e)
	}
	l.rev = rev
	for _, key := range l.ticketKeys() {
		l.evaluate(key)
	}
	l.tellObservers(gap)
	l.loading = false
	pending := l.pending
	l.pending = nil
	for i, d := range pending {
		switch {
		case d.Revision <= l.rev:
		case d.Gap:
			l.readAgain(pending[i+1:])
			return
		default:
			l.apply(d)
		}
	}
}

// fail ends everybody's interest.
func (l *line) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(err)
}

func (l *line) end(err error) {
	l.err = err
	for _, key := range l.ticketKeys() {
		l.evaluate(key)
	}
	for o := range l.observers {
		o.nudge()
	}
}

// ticketKeys returns the keys that have tickets; a copy, as evaluating them drops tickets.
func (l *line) ticketKeys() []string {
	keys := make([]string, 0, len(l.tickets))
	for key := range l.tickets {
		keys = append(keys, key)
	}
	return keys
}

// apply takes over the changes of one revision, then tells whom they concern: nobody sees the middle of a revision.
func (l *line) apply(d Delivery) {
	if d.Revision <= l.rev {
		return
	}
	l.rev = d.Revision
	before := l.head()
	for _, ev := range d.Events {
		l.change(ev)
	}
	for _, ev := range d.Events {
		l.evaluate(string(ev.Kv.Key))
	}
	if head := l.head(); head.Key != before.Key || head.Token != before.Token {
		l.evaluate(head.Key)
	}
	l.tellObservers(false)
}

func (l *line) change(ev statemachine.Event) {
	key := string(ev.Kv.Key)
	at := l.entries[key]
	e, ok := recipes.Entry{}, false
	if ev.Type == mvccpb.Event_PUT {
		e, ok = recipes.ParseEntry(l.name, ev.Kv)
	}
	if ok && at != nil && at.Value.(recipes.Entry).Token == e.Token {
		at.Value = e
		return
	}
	if at != nil {
		l.order.Remove(at)
		delete(l.entries, key)
	}
	if ok {
		l.entries[key] = l.insert(e)
	}
}

// insert puts e into its place, which nearly always is the end.
func (l *line) insert(e recipes.Entry) *list.Element {
	for at := l.order.Back(); at != nil; at = at.Prev() {
		if at.Value.(recipes.Entry).Compare(e) < 0 {
			return l.order.InsertAfter(e, at)
		}
	}
	return l.order.PushFront(e)
}

// head is the entry that holds; its key is empty if there is none.
func (l *line) head() recipes.Entry {
	if front := l.order.Front(); front != nil {
		return front.Value.(recipes.Entry)
	}
	return recipes.Entry{}
}

// evaluate tells the tickets of key what has become of their entry.
func (l *line) evaluate(key string) {
	if l.tickets[key] == nil {
		return
	}
	head := l.head()
	for _, t := range slices.Clone(l.tickets[key]) {
		switch end, over := l.verdict(t); {
		case over:
			t.end, t.endRev = end, l.rev
			close(t.ended)
			l.drop(t)
		case !t.isHeld && l.rev >= t.claim && head.Key == t.key:
			t.isHeld = true
			close(t.granted)
		}
	}
}

// verdict says whether t's interest is over, and why.
func (l *line) verdict(t *ticket) (end error, over bool) {
	if l.err != nil {
		return l.err, true
	}
	if l.rev < t.claim {
		return nil, false // its entry has not arrived here yet
	}
	at := l.entries[t.key]
	if at == nil {
		return nil, true
	}
	e := at.Value.(recipes.Entry)
	if e.Token != t.token {
		return nil, true
	}
	if e.Claim != t.claim && !t.isHeld {
		return errSuperseded, true
	}
	return nil, false
}

// join registers t and tells it what is known already. holds: the state machine has said that the entry holds.
func (l *line) join(t *ticket, holds bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if holds {
		t.isHeld = true
		close(t.granted)
	}
	l.tickets[t.key] = append(l.tickets[t.key], t)
	if !l.loading || l.err != nil {
		l.evaluate(t.key)
	}
}

// leave forgets t.
func (l *line) leave(t *ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(t)
}

func (l *line) drop(t *ticket) {
	rest := slices.DeleteFunc(l.tickets[t.key], func(o *ticket) bool { return o == t })
	if len(rest) == 0 {
		delete(l.tickets, t.key)
		return
	}
	l.tickets[t.key] = rest
}

// place returns how many entries are before the token and who holds.
func (l *line) place(token int64) (ahead int64, holder recipes.Entry, rev statemachine.Revision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ahead = int64(l.order.Len())
	for at := l.order.Back(); at != nil && at.Value.(recipes.Entry).Token >= token; at = at.Prev() {
		ahead--
	}
	return ahead, l.head(), l.rev
}
