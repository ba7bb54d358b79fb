package stream

import (
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/coord-dev/coord/coord/internal/mirror"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// entries are what the sessions of a stream hold and wait for. Package mirror tells what becomes of each, under locks
// of its own: mu comes before those, and they before the stream's mutex.
type entries struct {
	st *stream
	mu sync.Mutex
	// byKey has the entries whose request was answered, all also those whose request is under way.
	byKey  map[string]*entry
	all    map[*entry]struct{}
	closed bool
}

// entry is an entry of a queue, or is to be one.
type entry struct {
	st        *stream
	session   *session
	name, key string
	ticket    *mirror.Ticket        // guarded by entries.mu
	since     statemachine.Revision // what became of the key after it the ticket was told
	sequence  uint64                // of the request, 0 if it was announced

	// What follows is guarded by the stream's mutex.
	removals int           // requests under way that remove it
	withheld *coordv1.Push // its loss, until they are answered
	over     bool          // nothing more is told of it
}

// track makes an entry that hears of its key from now on; nil if the stream has ended.
func (es *entries) track(s *session, name, key string, sequence uint64) *entry {
	es.mu.Lock()
	defer es.mu.Unlock()
	if es.closed {
		return nil
	}
	e := &entry{st: es.st, session: s, name: name, key: key, sequence: sequence}
	e.ticket = es.st.server.opts.Mirrors.Track(key, e.hear)
	e.since = es.st.server.opts.Streams.Revision() // now, not before
	if es.all == nil {
		es.byKey, es.all = map[string]*entry{}, map[*entry]struct{}{}
	}
	es.all[e] = struct{}{}
	es.st.mu.Lock()
	defer es.st.mu.Unlock()
	s.add(e)
	return e
}

// settle says what became of the request for e, which is answered already.
func (es *entries) settle(e *entry, state coordv1.AcquiredEntry_State, token int64, claim statemachine.Revision) {
	es.mu.Lock()
	defer es.mu.Unlock()
	if e.ticket == nil {
		return // nobody is interested any more
	}
	if state == coordv1.AcquiredEntry_NONE || !es.adopt(e) {
		es.close(e)
		return
	}
	if state == coordv1.AcquiredEntry_WAITS {
		e.ticket.Waits(token, claim)
		return
	}
	e.ticket.Holds(token)
	if claim <= e.since {
		e.ticket.Recheck() // an old outcome: what is told of the key since then may not be all
	}
}

// adopt has e replace an entry of its key that there may be. It reports false where the session is lost.
func (es *entries) adopt(e *entry) bool {
	e.st.mu.Lock()
	lost := e.session.lost || e.st.mu.closed
	e.st.mu.Unlock()
	if lost {
		return false
	}
	if before := es.byKey[e.key]; before != nil {
		es.forget(before)
	}
	es.byKey[e.key] = e
	return true
}

// forget ends the interest in an entry.
func (es *entries) forget(e *entry) {
	if es.byKey[e.key] == e {
		delete(es.byKey, e.key)
	}
	es.close(e)
}

// close closes the entry's ticket. Nothing is told of it afterwards.
func (es *entries) close(e *entry) {
	if e.ticket == nil {
		return
	}
	e.ticket.Close()
	e.ticket = nil
	delete(es.all, e)
	e.st.mu.Lock()
	e.session.remove(e)
	e.over = true
	e.st.mu.Unlock()
}

// drop ends the interest in entries that are gone.
func (es *entries) drop(list []*entry) {
	es.mu.Lock()
	defer es.mu.Unlock()
	for _, e := range list {
		es.forget(e)
	}
}

// closeAll ends with the stream.
func (es *entries) closeAll() {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.closed = true
	for e := range es.all {
		es.close(e)
	}
	es.byKey = nil
}

// find returns the session's entry of a key, nil if there is none.
func (es *entries) find(s *session, key string) *entry {
	es.mu.Lock()
	defer es.mu.Unlock()
	if e := es.byKey[key]; e != nil && e.session == s {
		return e
	}
	return nil
}

// silence keeps back the loss of entries that a request is about to remove.
func (es *entries) silence(list []*entry) {
	es.st.mu.Lock()
	defer es.st.mu.Unlock()
	for _, e := range list {
		e.removals++
	}
}

// resume tells what was kept back, as the request has removed nothing.
func (es *entries) resume(list []*entry) {
	es.st.mu.Lock()
	defer es.st.mu.Unlock()
	for _, e := range list {
		e.removals--
		if e.removals == 0 && e.withheld != nil && !e.over && !e.session.lost {
			e.lose(e.withheld)
		}
	}
}

// lose tells of the loss. The caller holds the stream's mutex.
func (e *entry) lose(push *coordv1.Push) {
	if push != nil {
		e.st.out.push(push)
	}
	e.over = true
	e.st.chore(func() { e.st.entries.drop([]*entry{e}) })
}

// hear takes news of the entry, on whatever goroutine and under locks of package mirror: it only tells the client.
func (e *entry) hear(ev mirror.Event) {
	if ev.News == mirror.Failed {
		e.st.end(rpctypes.ErrGRPCStopped) // another member may know
		return
	}
	e.st.mu.Lock()
	defer e.st.mu.Unlock()
	if e.over || e.session.lost || e.st.mu.closed {
		return
	}
	push := e.news(ev)
	switch {
	case ev.News != mirror.Lost && ev.News != mirror.Superseded:
		e.st.out.push(push)
	case push != nil && e.removals > 0:
		e.withheld = push
	default:
		e.lose(push)
	}
}

// news is what the client is told; nil where a later request of its own has taken the entry over.
func (e *entry) news(ev mirror.Event) *coordv1.Push {
	p := &coordv1.Push{Session: e.session.id}
	switch ev.News {
	case mirror.Granted:
		p.Event = &coordv1.Push_Granted{Granted: &coordv1.Granted{Key: e.key, Token: ev.Token, Revision: ev.Revision}}
	case mirror.Requeued:
		p.Event = &coordv1.Push_Requeued{Requeued: &coordv1.Requeued{
			Name: e.name, Key: e.key, OldToken: ev.Previous, Token: ev.Token, Revision: ev.Revision,
		}}
	case mirror.Asked:
		p.Event = &coordv1.Push_Asked{Asked: &coordv1.ReleaseAsked{
			Name: e.name, Key: e.key, Token: ev.Token, From: ev.From, Reason: ev.Reason,
		}}
	case mirror.Lost:
		p.Event = &coordv1.Push_Lost{Lost: &coordv1.EntryLost{
			Name: e.name, Key: e.key, Token: ev.Token, Held: ev.Held, Revision: ev.Revision, Cause: ev.Cause,
		}}
	default:
		return nil
	}
	return p
}
