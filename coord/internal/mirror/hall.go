package mirror

import (
	"container/list"

	"github.com/coord-dev/coord/recipes"
)

// spot is where an entry stands in a line.
type spot struct {
	recipes.Entry
	inside bool // by oldest only
}

// hall is who holds in a line. It keeps up with changes by what they change, not by how many hold. The caller holds the
// line's mutex.
type hall interface {
	// restart has the next settle find out everything anew.
	restart()
	// recorded: the line's record is another one.
	recorded(*line)
	// leaves: an entry is about to go.
	leaves(*list.Element)
	// settle comes after the changes of a revision and returns the keys of those who hold since then, and perhaps of others.
	settle(*line) (keys []string)
	// grantOf is the token by which the entry of key holds, 0 if it does not.
	grantOf(l *line, key string) int64
	// first is the oldest who holds, with the token of its grant; its key is empty if nobody does.
	first(*line) recipes.Entry
}

func newHall(l *line) hall {
	last, ok := l.rule.Last(l.recordKV)
	if !ok {
		return &scanned{}
	}
	return &oldest{token: last, stale: true}
}

// oldest is for rules whose record says up to which token entries are inside.
type oldest struct {
	token int64
	last  *list.Element // the last inside, nil if nobody is
	stale bool          // last means nothing
	count int           // of spots that are inside, or were before it became stale
}

func (o *oldest) restart() { o.stale = true }

func (o *oldest) recorded(l *line) {
	before := o.token
	o.token, _ = l.rule.Last(l.recordKV)
	o.stale = o.stale || o.token < before
}

func (o *oldest) leaves(at *list.Element) {
	s := at.Value.(*spot)
	if !s.inside {
		return
	}
	o.count--
	if o.last == at {
		o.last = at.Prev()
	}
}

func (o *oldest) settle(l *line) (keys []string) {
	next, before := l.order.Front(), 0
	switch {
	case o.stale:
		o.last, o.stale, before = nil, false, o.count
	case o.last != nil:
		next = o.last.Next()
	}
	for ; next != nil && next.Value.(*spot).Token <= o.token; next = next.Next() {
		s := next.Value.(*spot)
		o.last = next
		if s.inside {
			before--
			continue
		}
		s.inside = true
		o.count++
		keys = append(keys, s.Key)
	}
	for ; before > 0; next = next.Next() { // who was inside and is not any more
		if s := next.Value.(*spot); s.inside {
			s.inside = false
			o.count--
			before--
		}
	}
	return keys
}

func (o *oldest) grantOf(l *line, key string) int64 {
	if at := l.entries[key]; at != nil && at.Value.(*spot).inside && !at.Value.(*spot).Lingers {
		return at.Value.(*spot).Token
	}
	return 0
}

func (o *oldest) first(l *line) recipes.Entry {
	for at := l.order.Front(); at != nil && at.Value.(*spot).inside; at = at.Next() {
		if !at.Value.(*spot).Lingers {
			return at.Value.(*spot).Entry
		}
	}
	return recipes.Entry{}
}

// scanned is for other rules, which have few holders. Foreign keys may be among them: they stand for a holder,
// and are granted to nobody.
type scanned struct{ holders []recipes.Entry }

func (*scanned) restart() {}

func (*scanned) recorded(*line) {}

func (*scanned) leaves(*list.Element) {}

func (s *scanned) settle(l *line) (keys []string) {
	s.holders = s.holders[:0]
	for e := range l.rule.Inside(l) {
		if !e.Lingers {
			s.holders = append(s.holders, e)
		}
		if !e.Lingers && !e.Foreign {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func (s *scanned) grantOf(_ *line, key string) int64 {
	for _, h := range s.holders {
		if h.Key == key && !h.Foreign {
			return h.Token
		}
	}
	return 0
}

func (s *scanned) first(*line) recipes.Entry {
	if len(s.holders) == 0 {
		return recipes.Entry{}
	}
	return s.holders[0]
}
