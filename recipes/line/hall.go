package line

import (
	"container/list"

	"github.com/coord-dev/coord/recipes"
)

// spot is where an entry stands in a line.
type spot struct {
	recipes.Entry
	inside bool // by doorway only
}

// hall is who holds in a line. It keeps up with changes by what they change, not by how many hold. The caller holds the
// line's mutex.
type hall interface {
	// restart has the next settle find out everything anew.
	restart()
	// replaced: an entry has another value, or lingers.
	replaced(before, now recipes.Entry)
	// leaves: an entry is about to go.
	leaves(*list.Element)
	// settle comes after the changes of a revision and returns the keys of those who hold since then, and perhaps of others.
	settle(*line) (keys []string)
	// grantOf is the token by which the entry of key holds, 0 if it does not.
	grantOf(l *line, key string) int64
	// first is the oldest who holds, with the token of its grant; its key is empty if nobody does.
	first(*line) recipes.Entry
}

func newHall(rule recipes.Rule) hall {
	if rule.Door(nil) == nil {
		return &scanned{}
	}
	return &doorway{stale: true}
}

// doorway is for rules with a door: who is inside stands before all others.
type doorway struct {
	door  recipes.Door
	last  *list.Element // the last inside, nil if nobody is
	stale bool          // door and last mean nothing
	count int           // of spots that are inside, or were before it became stale
}

func (d *doorway) restart() { d.stale = true }

// replaced: most writes of an entry only take it over.
func (d *doorway) replaced(before, now recipes.Entry) {
	if before.Write != now.Write || before.Permits != now.Permits {
		d.stale = true
	}
}

func (d *doorway) leaves(at *list.Element) {
	s := at.Value.(*spot)
	if !s.inside {
		return
	}
	d.count--
	if d.stale {
		return
	}
	d.door.Remove(s.Entry)
	if d.last == at {
		d.last = at.Prev()
	}
}

func (d *doorway) settle(l *line) (keys []string) {
	next, before := l.order.Front(), 0
	switch {
	case d.stale:
		d.door, d.last, d.stale, before = l.rule.Door(l.recordKV), nil, false, d.count
	case d.last != nil:
		next = d.last.Next()
	}
	for ; next != nil && d.door.Admits(next.Value.(*spot).Entry); next = next.Next() {
		s := next.Value.(*spot)
		d.door.Add(s.Entry)
		d.last = next
		if s.inside {
			before--
			continue
		}
		s.inside = true
		d.count++
		keys = append(keys, s.Key)
	}
	for ; before > 0; next = next.Next() { // who was inside and is not any more
		if s := next.Value.(*spot); s.inside {
			s.inside = false
			d.count--
			before--
		}
	}
	return keys
}

func (d *doorway) grantOf(l *line, key string) int64 {
	if at := l.entries[key]; at != nil && at.Value.(*spot).inside && !at.Value.(*spot).Lingers {
		return at.Value.(*spot).Token
	}
	return 0
}

func (d *doorway) first(l *line) recipes.Entry {
	for at := l.order.Front(); at != nil && at.Value.(*spot).inside; at = at.Next() {
		if !at.Value.(*spot).Lingers {
			return at.Value.(*spot).Entry
		}
	}
	return recipes.Entry{}
}

// scanned is for rules that have few holders, and find them without a door. Foreign keys may be among them: they stand for a holder,
// and are granted to nobody.
type scanned struct{ holders []recipes.Entry }

func (*scanned) restart() {}

func (*scanned) replaced(recipes.Entry, recipes.Entry) {}

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
