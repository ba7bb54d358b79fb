package mirror

import (
	"container/list"
	"context"
	"iter"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// line is this member's copy of one queue. It implements recipes.State.
type line struct {
	queue  string
	rule   recipes.Rule
	record string               // key of the rule's record
	reload func(*line)          // has the line read, on another goroutine
	ready  chan struct{}        // closed when it was read, or cannot be
	users  int                  // guarded by Lines.mu
	inbox  []statemachine.Event // of the delivery under way; of the hub's goroutine

	mu        sync.Mutex
	rev       statemachine.Revision // what the entries show; 0: not read yet
	loading   bool                  // deliveries gather in pending
	pending   []Delivery
	err       error                    // the line cannot be read: everybody is told
	order     *list.List               // of *spot, oldest first
	entries   map[string]*list.Element // by key
	recordKV  *mvccpb.KeyValue
	transfer  recipes.Transferred
	hall      hall
	tickets   map[string][]*Ticket // by key
	observers map[*Observer]struct{}
}

func newLine(queue string, reload func(*line)) *line {
	rule := recipes.RuleOf(queue)
	l := &line{
		queue: queue, rule: rule, record: rule.Record(queue), reload: reload, ready: make(chan struct{}), loading: true,
		order: list.New(), entries: map[string]*list.Element{}, tickets: map[string][]*Ticket{}, observers: map[*Observer]struct{}{},
	}
	l.hall = newHall(l)
	return l
}

// Record implements recipes.State.
func (l *line) Record() *mvccpb.KeyValue { return l.recordKV }

// Entry implements recipes.State.
func (l *line) Entry(key string) (recipes.Entry, bool) {
	at := l.entries[key]
	if at == nil {
		return recipes.Entry{}, false
	}
	return at.Value.(*spot).Entry, true
}

// Len implements recipes.State.
func (l *line) Len() int { return l.order.Len() }

// Oldest implements recipes.State.
func (l *line) Oldest() iter.Seq[recipes.Entry] { return walk(l.order.Front(), (*list.Element).Next) }

// Newest implements recipes.State.
func (l *line) Newest() iter.Seq[recipes.Entry] { return walk(l.order.Back(), (*list.Element).Prev) }

func walk(at *list.Element, next func(*list.Element) *list.Element) iter.Seq[recipes.Entry] {
	return func(yield func(recipes.Entry) bool) {
		for ; at != nil && yield(at.Value.(*spot).Entry); at = next(at) {
		}
	}
}

// deliver takes the next change.
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
	l.reload(l)
}

// load replaces the entries by what was read at rev, and goes on from there with what gathered meanwhile.
func (l *line) load(s *recipes.Snapshot, rev statemachine.Revision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	gap := l.rev != 0
	l.order.Init()
	clear(l.entries)
	for _, e := range s.Sorted {
		l.entries[e.Key] = l.order.PushBack(&spot{Entry: e})
	}
	l.recordKV, l.transfer, l.rev = s.Record(), s.Transfer, rev
	l.hall = newHall(l)
	l.hall.settle(l)
	for _, key := range l.ticketKeys() {
		l.evaluate(key)
	}
	l.tellObservers(gap)
	l.loading = false
	if !gap {
		close(l.ready)
	}
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
	if l.err != nil {
		return
	}
	l.err = err
	if l.rev == 0 {
		close(l.ready)
	}
	for _, key := range l.ticketKeys() {
		l.evaluate(key)
	}
	for o := range l.observers {
		o.nudge()
	}
}

func (l *line) failed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
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
	for _, ev := range d.Events {
		l.change(ev)
	}
	holds := l.hall.settle(l)
	for _, ev := range d.Events {
		l.evaluate(string(ev.Kv.Key))
	}
	for _, key := range holds {
		l.evaluate(key)
	}
	l.tellObservers(false)
}

func (l *line) change(ev statemachine.Event) {
	key := string(ev.Kv.Key)
	put := ev.Type == mvccpb.Event_PUT
	if key == l.record {
		if l.recordKV = nil; put {
			l.recordKV = ev.Kv
		}
		l.hall.recorded(l)
		return
	}
	if put && key == layout.TransferKey(l.queue) {
		l.transfer = recipes.ParseTransfer(ev.Kv)
		return
	}
	if entry, ok := layout.AskedEntry(key); ok {
		for _, t := range l.tickets[entry] {
			t.ask(ask{recipes.ParseAsk(ev.Kv), ev.Kv.ModRevision})
		}
		return
	}
	at := l.entries[key]
	e, ok := recipes.Entry{}, false
	if put {
		e, ok = recipes.ParseEntry(l.queue, ev.Kv)
	}
	if ok && at != nil && at.Value.(*spot).Token == e.Token {
		at.Value.(*spot).Entry = e
		return
	}
	if at != nil {
		l.hall.leaves(at)
		l.order.Remove(at)
		delete(l.entries, key)
	}
	if ok {
		l.entries[key] = l.insert(e)
	}
}

// insert puts e into its place, which nearly always is the end.
func (l *line) insert(e recipes.Entry) *list.Element {
	at := l.order.Back()
	for at != nil && at.Value.(*spot).Compare(e) > 0 {
		if at.Value.(*spot).inside {
			l.hall.restart()
		}
		at = at.Prev()
	}
	if at == nil {
		return l.order.PushFront(&spot{Entry: e})
	}
	return l.order.InsertAfter(&spot{Entry: e}, at)
}

// holder is the oldest who holds, with the token of its grant; its key is empty if nobody does.
func (l *line) holder() recipes.Entry { return l.hall.first(l) }

// evaluate tells the tickets of key what has become of their entry.
func (l *line) evaluate(key string) {
	for _, t := range slices.Clone(l.tickets[key]) {
		l.judge(t)
		if t.state == over {
			l.drop(t)
		}
	}
}

func (l *line) judge(t *Ticket) {
	if l.err != nil {
		t.tell(Event{News: Failed, Token: t.token, Held: t.held, Err: l.err})
		return
	}
	if l.rev < t.claim {
		return // its entry has not arrived here yet
	}
	e, ok := l.Entry(t.key)
	if !ok || e.Token != t.token {
		now, moved := l.transfer.Moved(t.key, t.token)
		switch {
		case moved && l.rev < now:
			return // it is on its way
		case !moved || !ok || e.Token != now:
			l.lose(t)
			return
		}
		former := t.token
		t.token, t.claim = now, e.Claim
		t.tell(Event{News: Requeued, Token: now, Former: former, Revision: l.rev})
	}
	grant := l.hall.grantOf(l, t.key)
	switch {
	case e.Lingers, e.Foreign: // an entry without its lease is nobody's whom we know
		l.lose(t)
	case t.held:
	case e.Claim != t.claim && !e.Elected:
		t.tell(Event{News: Superseded, Token: t.token, Revision: l.rev})
	case grant != 0:
		t.held, t.grant = true, grant
		t.tell(Event{News: Granted, Token: grant, Revision: l.rev})
		t.tellAsk()
	}
}

func (l *line) lose(t *Ticket) {
	cause := coordv1.EntryLost_REMOVED
	if t.held && l.transfer.GetFrom() == t.key && l.transfer.GetFromToken() == t.grant {
		cause = coordv1.EntryLost_TRANSFERRED
	}
	token := t.token
	if t.held {
		token = t.grant
	}
	t.tell(Event{News: Lost, Token: token, Revision: l.rev, Held: t.held, Cause: cause})
}

// join registers t and tells it what is known already. The caller holds mu.
func (l *line) join(t *Ticket) {
	l.tickets[t.key] = append(l.tickets[t.key], t)
	if !l.loading || l.err != nil {
		l.evaluate(t.key)
	}
}

// drop forgets t. The caller holds mu.
func (l *line) drop(t *Ticket) {
	rest := slices.DeleteFunc(l.tickets[t.key], func(o *Ticket) bool { return o == t })
	if len(rest) == 0 {
		delete(l.tickets, t.key)
		return
	}
	l.tickets[t.key] = rest
}

// place returns how many entries are before t's and who holds.
func (l *line) place(ctx context.Context, t *Ticket) (ahead int64, holder recipes.Entry, rev statemachine.Revision, err error) {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return 0, holder, 0, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.Entry(t.key)
	if !ok {
		e = recipes.Entry{Key: t.key, Token: t.token} // not here yet, or gone
	}
	return int64(l.rule.Ahead(l, e)), l.holder(), l.rev, l.err
}

// heldKeys are the keys of tickets that hold.
func (l *line) heldKeys() (keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, tickets := range l.tickets {
		if slices.ContainsFunc(tickets, func(t *Ticket) bool { return t.held }) {
			keys = append(keys, key)
		}
	}
	return keys
}

// asked tells the holder of key who asks.
func (l *line) asked(key string, a ask) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tickets[key] {
		t.ask(a)
	}
}
