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

// queueMirror is this member's copy of one queue. It implements recipes.State.
type queueMirror struct {
	queue  string
	rule   recipes.Rule
	record string               // key of the rule's record
	reload func(*queueMirror)   // has the mirror read, on another goroutine
	ready  chan struct{}        // closed when it was read, or cannot be
	users  int                  // guarded by Mirrors.mu
	inbox  []statemachine.Event // of the delivery under way; of the hub's goroutine

	mu        sync.Mutex
	rev       statemachine.Revision // what the entries show; 0: not read yet
	loading   bool                  // deliveries gather in pending
	pending   []Delivery
	err       error                    // the mirror cannot be read: everybody is told
	order     *list.List               // of *queued, oldest first
	entries   map[string]*list.Element // by key
	recordKV  *mvccpb.KeyValue
	transfer  recipes.Transferred
	holders   holders
	tickets   map[string][]*Ticket // by key
	observers map[*Observer]struct{}
}

func newQueueMirror(queue string, reload func(*queueMirror)) *queueMirror {
	rule := recipes.RuleOf(queue)
	m := &queueMirror{
		queue: queue, rule: rule, record: rule.Record(queue), reload: reload, ready: make(chan struct{}), loading: true,
		order: list.New(), entries: map[string]*list.Element{}, tickets: map[string][]*Ticket{},
		observers: map[*Observer]struct{}{},
	}
	m.holders = newHolders(m)
	return m
}

// Record implements recipes.State.
func (m *queueMirror) Record() *mvccpb.KeyValue { return m.recordKV }

// Entry implements recipes.State.
func (m *queueMirror) Entry(key string) (recipes.Entry, bool) {
	at := m.entries[key]
	if at == nil {
		return recipes.Entry{}, false
	}
	return at.Value.(*queued).Entry, true
}

// Len implements recipes.State.
func (m *queueMirror) Len() int { return m.order.Len() }

// Oldest implements recipes.State.
func (m *queueMirror) Oldest() iter.Seq[recipes.Entry] {
	return walk(m.order.Front(), (*list.Element).Next)
}

// Newest implements recipes.State.
func (m *queueMirror) Newest() iter.Seq[recipes.Entry] {
	return walk(m.order.Back(), (*list.Element).Prev)
}

func walk(at *list.Element, next func(*list.Element) *list.Element) iter.Seq[recipes.Entry] {
	return func(yield func(recipes.Entry) bool) {
		for ; at != nil && yield(at.Value.(*queued).Entry); at = next(at) {
		}
	}
}

// deliver takes the next change.
func (m *queueMirror) deliver(d Delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.loading:
		m.pending = append(m.pending, d)
	case d.Gap:
		m.readAgain(nil)
	default:
		m.apply(d)
	}
}

// readAgain lets deliveries gather, those given first, until load is called.
func (m *queueMirror) readAgain(pending []Delivery) {
	m.loading, m.pending = true, pending
	m.reload(m)
}

// load replaces the entries by what was read at rev, and goes on from there with what gathered meanwhile.
func (m *queueMirror) load(s *recipes.Snapshot, rev statemachine.Revision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	gap := m.rev != 0
	m.order.Init()
	clear(m.entries)
	for _, e := range s.Sorted {
		m.entries[e.Key] = m.order.PushBack(&queued{Entry: e})
	}
	m.recordKV, m.transfer, m.rev = s.Record(), s.Transfer, rev
	m.holders = newHolders(m)
	m.holders.settle(m)
	for _, key := range m.ticketKeys() {
		m.evaluate(key)
	}
	m.tellObservers(gap)
	m.loading = false
	if !gap {
		close(m.ready)
	}
	pending := m.pending
	m.pending = nil
	for i, d := range pending {
		switch {
		case d.Revision <= m.rev:
		case d.Gap:
			m.readAgain(pending[i+1:])
			return
		default:
			m.apply(d)
		}
	}
}

// fail ends everybody's interest.
func (m *queueMirror) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	m.err = err
	if m.rev == 0 {
		close(m.ready)
	}
	for _, key := range m.ticketKeys() {
		m.evaluate(key)
	}
	for o := range m.observers {
		o.nudge()
	}
}

func (m *queueMirror) failed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err != nil
}

// ticketKeys returns the keys that have tickets; a copy, as evaluating them drops tickets.
func (m *queueMirror) ticketKeys() []string {
	keys := make([]string, 0, len(m.tickets))
	for key := range m.tickets {
		keys = append(keys, key)
	}
	return keys
}

// apply takes over the changes of one revision, then tells whom they concern: nobody sees the middle of a revision.
func (m *queueMirror) apply(d Delivery) {
	if d.Revision <= m.rev {
		return
	}
	m.rev = d.Revision
	for _, ev := range d.Events {
		m.change(ev)
	}
	holds := m.holders.settle(m)
	for _, ev := range d.Events {
		m.evaluate(string(ev.Kv.Key))
	}
	for _, key := range holds {
		m.evaluate(key)
	}
	m.tellObservers(false)
}

func (m *queueMirror) change(ev statemachine.Event) {
	key := string(ev.Kv.Key)
	put := ev.Type == mvccpb.Event_PUT
	if key == m.record {
		if m.recordKV = nil; put {
			m.recordKV = ev.Kv
		}
		m.holders.recorded(m)
		return
	}
	if put && key == layout.TransferKey(m.queue) {
		m.transfer = recipes.ParseTransfer(ev.Kv)
		return
	}
	if entry, ok := layout.AskedEntry(key); ok {
		for _, t := range m.tickets[entry] {
			t.ask(ask{recipes.ParseAsk(ev.Kv), ev.Kv.ModRevision})
		}
		return
	}
	at := m.entries[key]
	e, ok := recipes.Entry{}, false
	if put {
		e, ok = recipes.ParseEntry(m.queue, ev.Kv)
	}
	if ok && at != nil && at.Value.(*queued).Token == e.Token {
		at.Value.(*queued).Entry = e
		return
	}
	if at != nil {
		m.holders.leaves(at)
		m.order.Remove(at)
		delete(m.entries, key)
	}
	if ok {
		m.entries[key] = m.insert(e)
	}
}

// insert puts e where it belongs, which nearly always is the end.
func (m *queueMirror) insert(e recipes.Entry) *list.Element {
	at := m.order.Back()
	for at != nil && at.Value.(*queued).Compare(e) > 0 {
		if at.Value.(*queued).inside {
			m.holders.restart()
		}
		at = at.Prev()
	}
	if at == nil {
		return m.order.PushFront(&queued{Entry: e})
	}
	return m.order.InsertAfter(&queued{Entry: e}, at)
}

// holder is the oldest who holds, with the token of its grant; its key is empty if nobody does.
func (m *queueMirror) holder() recipes.Entry { return m.holders.first(m) }

// evaluate tells the tickets of key what has become of their entry.
func (m *queueMirror) evaluate(key string) {
	for _, t := range slices.Clone(m.tickets[key]) {
		m.judge(t)
		if t.state == over {
			m.drop(t)
		}
	}
}

func (m *queueMirror) judge(t *Ticket) {
	if m.err != nil {
		t.tell(Event{News: Failed, Token: t.token, Held: t.held, Err: m.err})
		return
	}
	if m.rev < t.claim {
		return // its entry has not arrived here yet
	}
	e, ok := m.Entry(t.key)
	if !ok || e.Token != t.token {
		now, moved := m.transfer.Moved(t.key, t.token)
		switch {
		case moved && m.rev < now:
			return // it is on its way
		case !moved || !ok || e.Token != now:
			m.lose(t)
			return
		}
		previous := t.token
		t.token, t.claim = now, e.Claim
		t.tell(Event{News: Requeued, Token: now, Previous: previous, Revision: m.rev})
	}
	grant := m.holders.grantOf(m, t.key)
	switch {
	case e.Lingers, e.Foreign: // an entry without its lease is nobody's whom we know
		m.lose(t)
	case t.held:
	case e.Claim != t.claim && !e.Elected:
		t.tell(Event{News: Superseded, Token: t.token, Revision: m.rev})
	case grant != 0:
		t.held, t.grant = true, grant
		t.tell(Event{News: Granted, Token: grant, Revision: m.rev})
		t.tellAsk()
	}
}

func (m *queueMirror) lose(t *Ticket) {
	cause := coordv1.EntryLost_REMOVED
	if t.held && m.transfer.GetFrom() == t.key && m.transfer.GetFromToken() == t.grant {
		cause = coordv1.EntryLost_TRANSFERRED
	}
	token := t.token
	if t.held {
		token = t.grant
	}
	t.tell(Event{News: Lost, Token: token, Revision: m.rev, Held: t.held, Cause: cause})
}

// join registers t and tells it what is known already. The caller holds mu.
func (m *queueMirror) join(t *Ticket) {
	m.tickets[t.key] = append(m.tickets[t.key], t)
	if !m.loading || m.err != nil {
		m.evaluate(t.key)
	}
}

// drop forgets t. The caller holds mu.
func (m *queueMirror) drop(t *Ticket) {
	rest := slices.DeleteFunc(m.tickets[t.key], func(o *Ticket) bool { return o == t })
	if len(rest) == 0 {
		delete(m.tickets, t.key)
		return
	}
	m.tickets[t.key] = rest
}

// position returns how many entries are before t's and who holds.
func (m *queueMirror) position(
	ctx context.Context, t *Ticket,
) (ahead int64, holder recipes.Entry, rev statemachine.Revision, err error) {
	select {
	case <-m.ready:
	case <-ctx.Done():
		return 0, holder, 0, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.Entry(t.key)
	if !ok {
		e = recipes.Entry{Key: t.key, Token: t.token} // not here yet, or gone
	}
	return int64(m.rule.Ahead(m, e)), m.holder(), m.rev, m.err
}

// heldKeys are the keys of tickets that hold.
func (m *queueMirror) heldKeys() (keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, tickets := range m.tickets {
		if slices.ContainsFunc(tickets, func(t *Ticket) bool { return t.held }) {
			keys = append(keys, key)
		}
	}
	return keys
}

// asked tells the holder of key who asks.
func (m *queueMirror) asked(key string, a ask) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tickets[key] {
		t.ask(a)
	}
}
