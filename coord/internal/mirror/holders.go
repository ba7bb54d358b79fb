package mirror

import (
	"container/list"

	"github.com/coord-dev/coord/recipes"
)

// queued is an entry of a mirror, an element of its order.
type queued struct {
	recipes.Entry
	inside bool // by upToToken only
}

// holders knows who holds in a mirror. It keeps up with changes by what they change, not by how many hold. The caller
// holds the mirror's mutex.
type holders interface {
	// restart has the next settle find out everything anew.
	restart()
	// recorded: the mirror's record is another one.
	recorded(*queueMirror)
	// leaves: an entry is about to go.
	leaves(*list.Element)
	// settle comes after the changes of a revision and returns the keys of those who hold since then, and perhaps of
	// others.
	settle(*queueMirror) (keys []string)
	// grantOf is the token by which the entry of key holds, 0 if it does not.
	grantOf(m *queueMirror, key string) int64
	// first is the oldest who holds, with the token of its grant; its key is empty if nobody does.
	first(*queueMirror) recipes.Entry
}

func newHolders(m *queueMirror) holders {
	last, ok := m.rule.Last(m.recordKV)
	if !ok {
		return &byScan{}
	}
	return &upToToken{token: last, stale: true}
}

// upToToken is for rules whose record says up to which token entries are inside.
type upToToken struct {
	token int64
	last  *list.Element // the last inside, nil if nobody is
	stale bool          // last means nothing
	count int           // of entries that are inside, or were before it became stale
}

func (u *upToToken) restart() { u.stale = true }

func (u *upToToken) recorded(m *queueMirror) {
	before := u.token
	u.token, _ = m.rule.Last(m.recordKV)
	u.stale = u.stale || u.token < before
}

func (u *upToToken) leaves(at *list.Element) {
	s := at.Value.(*queued)
	if !s.inside {
		return
	}
	u.count--
	if u.last == at {
		u.last = at.Prev()
	}
}

func (u *upToToken) settle(m *queueMirror) (keys []string) {
	next, before := m.order.Front(), 0
	switch {
	case u.stale:
		u.last, u.stale, before = nil, false, u.count
	case u.last != nil:
		next = u.last.Next()
	}
	for ; next != nil && next.Value.(*queued).Token <= u.token; next = next.Next() {
		s := next.Value.(*queued)
		u.last = next
		if s.inside {
			before--
			continue
		}
		s.inside = true
		u.count++
		keys = append(keys, s.Key)
	}
	for ; before > 0; next = next.Next() { // who was inside and is not any more
		if s := next.Value.(*queued); s.inside {
			s.inside = false
			u.count--
			before--
		}
	}
	return keys
}

func (u *upToToken) grantOf(m *queueMirror, key string) int64 {
	if at := m.entries[key]; at != nil && at.Value.(*queued).inside && !at.Value.(*queued).Lingers {
		return at.Value.(*queued).Token
	}
	return 0
}

func (u *upToToken) first(m *queueMirror) recipes.Entry {
	for at := m.order.Front(); at != nil && at.Value.(*queued).inside; at = at.Next() {
		if !at.Value.(*queued).Lingers {
			return at.Value.(*queued).Entry
		}
	}
	return recipes.Entry{}
}

// byScan is for other rules, which have few holders. Foreign keys may be among them: they stand for a holder,
// and are granted to nobody.
type byScan struct{ holders []recipes.Entry }

func (*byScan) restart() {}

func (*byScan) recorded(*queueMirror) {}

func (*byScan) leaves(*list.Element) {}

func (s *byScan) settle(m *queueMirror) (keys []string) {
	s.holders = s.holders[:0]
	for e := range m.rule.Inside(m) {
		if !e.Lingers {
			s.holders = append(s.holders, e)
		}
		if !e.Lingers && !e.Foreign {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func (s *byScan) grantOf(_ *queueMirror, key string) int64 {
	for _, h := range s.holders {
		if h.Key == key && !h.Foreign {
			return h.Token
		}
	}
	return 0
}

func (s *byScan) first(*queueMirror) recipes.Entry {
	if len(s.holders) == 0 {
		return recipes.Entry{}
	}
	return s.holders[0]
}
