package lease

// A change is taken back by putting the lease and the streams that it touches in the state they were in. The heap of
// deadlines is let alone: inside a step nothing is taken out of it, and what a change put there counts only while it is
// so.

// place is the place of a stream in the table, and what it was. Whether a lease is in a stream follows from the lease.
type place struct {
	id  uint64
	s   *stream // nil: there was none
	was stream
}

func (t *Table) placeOf(id uint64) place {
	p := place{id: id, s: t.streams[id]}
	if p.s != nil {
		p.was = *p.s
	}
	return p
}

func (t *Table) putBack(p place) {
	if p.s == nil {
		delete(t.streams, p.id)
		return
	}
	leases := p.s.leases
	*p.s = p.was
	p.s.leases = leases
	t.streams[p.id] = p.s
}

// remember notes, before a change of the lease of an id that may join a stream, how to take it back.
func (t *Table) remember(id ID, joins ...uint64) {
	if !t.undo.Open() {
		return
	}
	e := t.leases[id]
	var was entry
	if e != nil {
		was = *e
		if e.stream != nil {
			joins = append(joins, e.stream.ID)
		}
	}
	streams := make([]place, len(joins))
	for i, stream := range joins {
		streams[i] = t.placeOf(stream)
	}
	t.note(func() {
		t.replace(id, e)
		for _, p := range streams {
			t.putBack(p)
			if p.s != nil {
				delete(p.s.leases, id)
			}
		}
		if e == nil {
			return
		}
		*e = was
		if e.stream != nil {
			e.stream.leases[id] = e
		}
	})
}

// replace makes e the lease of an id; nil: there is none.
func (t *Table) replace(id ID, e *entry) {
	if now := t.leases[id]; now != nil {
		delete(t.leases, id)
		t.ttls.drop(now.TTL)
	}
	if e != nil {
		t.add(e)
	}
}

// rememberStream notes, before a renewal of a stream, how to take it back.
func (t *Table) rememberStream(id uint64) {
	if t.undo.Open() {
		p := t.placeOf(id)
		t.note(func() { t.putBack(p) })
	}
}

// note notes how to take a change back, with what every change may touch.
func (t *Table) note(back func()) {
	waiting, pending := t.waiting, len(t.pending)
	t.undo.Note(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		back()
		t.waiting, t.pending = waiting, t.pending[:pending]
	})
}
