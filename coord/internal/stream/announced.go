package stream

import (
	"github.com/coord-dev/coord/coord/internal/mirror"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// announcedEntry is an entry that a client announced, and what became of it.
type announcedEntry struct {
	entry *entry // nil if it cannot be one of the session, or the stream has ended
	queue string
	found *coordv1.AcquiredEntry
	claim statemachine.Revision
}

// answerAnnounced answers those who announced entries when they attached, with the truth: read from one view, each
// queue once. The entries are tracked before, so that what becomes of them after the view is told.
func (st *stream) answerAnnounced(all []*attaching) {
	announced := make([][]announcedEntry, len(all))
	for i, a := range all {
		for _, g := range a.body.Entries {
			announced[i] = append(announced[i], st.announce(a.session, g))
		}
	}
	err := st.lookUp(announced)
	for i, a := range all {
		st.answerAttached(a, announced[i], err)
		for _, p := range announced[i] {
			if p.entry == nil {
				continue
			}
			state := p.found.State
			if err != nil {
				state = coordv1.AcquiredEntry_NONE
			}
			claim := p.claim
			if state == coordv1.AcquiredEntry_HOLDS {
				claim = 0 // who asked for a release before must be told again
			}
			st.entries.settle(p.entry, state, p.found.Token, claim)
		}
	}
}

// announce tracks an entry.
func (st *stream) announce(s *session, g *coordv1.Guard) announcedEntry {
	p := announcedEntry{found: &coordv1.AcquiredEntry{Name: g.Name, Key: g.Key}}
	queue, _ := layout.QueueOfKey(g.Key)
	if lease, _, ok := layout.ParseEntryKey(queue, g.Key); ok && lease == s.id && layout.NameOf(queue) == g.Name {
		p.queue, p.entry = queue, st.entries.track(s, g.Name, g.Key, 0)
		p.found.Token = g.Token
	}
	return p
}

// lookUp finds all announced.
func (st *stream) lookUp(all [][]announcedEntry) error {
	view, err := st.server.opts.Backend.View(st.ctx)
	if err != nil {
		return err
	}
	defer view.Close()
	queues := map[string]*recipes.Snapshot{}
	for _, announced := range all {
		for i := range announced {
			p := &announced[i]
			token := p.found.Token
			p.found.Token = 0
			if p.entry == nil {
				continue
			}
			if queues[p.queue] == nil {
				if queues[p.queue], err = mirror.Read(st.ctx, view, p.queue); err != nil {
					return err
				}
			}
			q := queues[p.queue]
			p.found = q.Find(p.entry.key, token)
			if e, ok := q.Entry(p.entry.key); ok {
				p.claim = e.Claim
			}
		}
	}
	return nil
}

// answerAttached answers one, or refuses it: because err, or because the session is lost meanwhile.
func (st *stream) answerAttached(a *attaching, announced []announcedEntry, err error) {
	response := &coordv1.SessionAttached{TtlMs: a.ttl}
	for _, p := range announced {
		response.Entries = append(response.Entries, p.found)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	a.session.attaching = false
	switch {
	case err != nil:
		st.refuse(a.item, refusal(err))
	case a.session.lost:
		st.refuse(a.item, refusal(st.lostError(a.session)))
	default:
		st.respond(a.item, a.session.id, encode(response))
	}
}
