package mirror

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// News is what a ticket is told.
type News int

// The kinds of news.
const (
	// Granted: the entry, which waited, holds. Token is that of the grant.
	Granted News = iota + 1
	// Lost: the entry is gone, by whatever removed it. Held and Cause say more. Nothing follows.
	Lost
	// Requeued: the entry, which waits, was moved by a transfer. Token is its new one, Previous the one before.
	Requeued
	// Asked: somebody asks the holder to release. From and Reason say who and why.
	Asked
	// Superseded: a later request took over the entry, which waits. Nothing follows.
	Superseded
	// Failed: what becomes of the entry cannot be told here any more, because of Err. Nothing follows.
	Failed
)

// Event is one piece of news.
type Event struct {
	News            News
	Token, Previous int64
	Revision        statemachine.Revision // at which this was seen
	Held            bool
	Cause           coordv1.EntryLost_Cause
	From, Reason    string
	Err             error
}

// Ticket is one request's interest in its entry. Its methods are for one goroutine at a time, in the order Track, then
// Holds or Waits, then Close; or Close alone, where there is no entry.
type Ticket struct {
	mirrors *Mirrors
	key     string
	lease   statemachine.LeaseID // in the key
	fn      func(Event)

	// What follows is guarded by mirrors.mu while the ticket is tracked, by mirror.mu from Waits on.
	mirror *queueMirror // set by Waits
	next   *Ticket
	state  state
	token  int64 // of the entry; of a tracked holder, of its grant
	claim  int64 // the mod revision of the request's own write
	held   bool
	grant  int64 // the token of the grant
	// The last that was seen of the key before the outcome.
	gone, created statemachine.Revision
	transferred   bool // it was gone by a transfer
	missed        bool // there was a gap
	lastAsk       ask
	toldAsk       statemachine.Revision
}

type state int

const (
	tracked state = iota // the outcome is not known
	holding              // tracked, and it holds
	inQueue
	over
)

// ask is a note that asks the holder with a token to release.
type ask struct {
	*recipesv1.Ask
	revision statemachine.Revision
}

// Track returns a ticket for the entry of key, before the request is proposed that makes it. fn is called under a lock,
// and perhaps from within Holds and Waits: it must not block, and must not call this package.
func (ms *Mirrors) Track(key string, fn func(Event)) *Ticket {
	t := &Ticket{mirrors: ms, key: key, fn: fn}
	queue, _ := layout.QueueOfKey(key)
	t.lease, _, _ = layout.ParseEntryKey(queue, key)
	ms.mu.Lock()
	defer ms.mu.Unlock()
	t.next = ms.mu.tracked[key]
	ms.mu.tracked[key] = t
	return t
}

// Holds says that the entry holds, by a grant of this token.
func (t *Ticket) Holds(token int64) {
	t.mirrors.mu.Lock()
	defer t.mirrors.mu.Unlock()
	t.state, t.token, t.grant, t.held = holding, token, token, true
	t.tellAsk()
	t.judge()
	if t.missed {
		t.mirrors.recheck(t)
	}
}

// Waits says that the entry waits with this token, and that claim is the revision at which the request wrote it. From
// now on it is told what becomes of the entry, beginning with what has already.
func (t *Ticket) Waits(token, claim int64) {
	ms := t.mirrors
	ms.mu.Lock()
	ms.untrack(t)
	queue, _ := layout.QueueOfKey(t.key)
	m := ms.open(queue)
	m.mu.Lock()
	ms.mu.Unlock()
	defer m.mu.Unlock()
	t.mirror, t.state, t.token, t.claim = m, inQueue, token, claim
	m.join(t)
}

// Recheck has a ticket that holds looked up, for who cannot say that the entry was there when it was tracked: it hears
// if the entry is gone, and once more of the last one who asked.
func (t *Ticket) Recheck() {
	t.mirrors.mu.Lock()
	defer t.mirrors.mu.Unlock()
	t.mirrors.recheck(t)
}

// Close ends the interest. Nothing is told after it returned.
func (t *Ticket) Close() {
	ms := t.mirrors
	if m := t.mirror; m != nil {
		m.mu.Lock()
		m.drop(t)
		t.state = over
		m.mu.Unlock()
		ms.leave(m)
		return
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.untrack(t)
	t.state = over
}

// Position returns how many entries are before the ticket's, and who holds, if somebody does. It waits until the queue
// has been read. Only after Waits.
func (t *Ticket) Position(
	ctx context.Context,
) (ahead int64, holder recipes.Entry, revision statemachine.Revision, err error) {
	return t.mirror.position(ctx, t)
}

// untrack takes a ticket out of the chain of its key. The caller holds mu.
func (ms *Mirrors) untrack(t *Ticket) {
	for at := ms.mu.tracked[t.key]; at != nil; at = at.next {
		if at.next == t {
			at.next = t.next
		}
	}
	switch {
	case ms.mu.tracked[t.key] != t:
	case t.next == nil:
		delete(ms.mu.tracked, t.key)
	default:
		ms.mu.tracked[t.key] = t.next
	}
	t.next = nil
}

// tell tells the owner. After the last news it is over.
func (t *Ticket) tell(ev Event) {
	switch ev.News {
	case Lost, Superseded, Failed:
		t.state = over
	}
	t.fn(ev)
}

// changed takes an event of a tracked key. transferred: a transfer has removed the leader, whose key this is.
func (t *Ticket) changed(ev statemachine.Event, transferred bool) {
	switch {
	case ev.Type == mvccpb.Event_DELETE, ev.Kv.Lease != t.lease:
		t.gone, t.transferred = ev.Kv.ModRevision, transferred
	default:
		t.created = ev.Kv.CreateRevision
	}
	t.judge()
}

// judge tells a tracked ticket of the end of its entry.
func (t *Ticket) judge() {
	if t.state != holding || t.gone <= t.token && t.created <= t.token {
		return
	}
	cause := coordv1.EntryLost_REMOVED
	if t.transferred {
		cause = coordv1.EntryLost_TRANSFERRED
	}
	t.tell(Event{News: Lost, Token: t.token, Revision: max(t.gone, t.created), Held: true, Cause: cause})
}

// ask takes the note of an ask.
func (t *Ticket) ask(a ask) {
	if a.Ask != nil && a.revision > t.lastAsk.revision {
		t.lastAsk = a
		t.tellAsk()
	}
}

// tellAsk tells a holder who asks.
func (t *Ticket) tellAsk() {
	a := t.lastAsk
	if !t.held || t.state == over || a.Ask == nil || a.Token != t.grant || a.revision <= t.toldAsk {
		return
	}
	t.toldAsk = a.revision
	t.tell(Event{News: Asked, Token: t.grant, Revision: a.revision, From: a.From, Reason: a.Reason})
}
