package mvcc

import (
	"encoding/binary"
	"sync"
)

// parents remembers from where on a parent can have children in the store, and for the apply whether it has any there.
// Queues are emptied at their head: without it each look at a head would pass over the tombstones of all who stood
// there since the last compaction of Pebble, and to find that nobody wants a lock, the most frequent thing of all,
// would take a look into Pebble. It is a copy of committed rows: it changes no result, and to forget is always right.
// Safe for concurrent use.
type parents struct {
	mu    sync.Mutex
	known map[string]parent // by the prefix of the rows
}

// parent is what is known of one.
type parent struct {
	// No row in the store has a create revision below first, at revision at and at any later one: rows that come are of
	// newer children.
	first, at int64
	// rows is how many rows were committed; -1: not known.
	rows int64
}

// What is remembered is bounded; when there is too much, all is forgotten.
const (
	maxParents    = 1 << 16
	maxParentName = 1 << 11 // bytes; longer ones are not remembered
)

func (p *parents) get(prefix []byte) (k parent, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok = p.known[string(prefix)]
	return k, ok
}

// changed notes that n rows were committed, or -n deleted.
func (p *parents) changed(prefix string, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.known[prefix]; ok && k.rows >= 0 {
		k.rows += n
		p.known[prefix] = k
	}
}

// found notes that no row with the prefix has a create revision below first at revision at; empty, that the apply found
// none.
func (p *parents) found(prefix []byte, first, at int64, empty bool) {
	if len(prefix) > maxParentName {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.known[string(prefix)]
	if !ok {
		k.rows = -1
		if len(p.known) >= maxParents {
			clear(p.known)
		}
	}
	if !ok || first > k.first {
		k.first, k.at = first, at
	}
	if empty {
		k.rows = 0
	}
	p.known[string(prefix)] = k
}

// cursor is a Cursor over the rows with a prefix, lower, at a revision, where those of children created up to since are
// stored. k is what is known of them.
func (p *parents) cursor(rows Rows, lower, upper []byte, k parent, since, revision int64, apply bool) (Cursor, error) {
	begin := lower
	if k.first > 0 {
		begin = binary.BigEndian.AppendUint64(lower[:len(lower):len(lower)], uint64(k.first))
	}
	cur, err := rows.Cursor(begin, upper)
	if err != nil {
		return nil, err
	}
	if cur.Next() {
		if create, _, ok := parseChild(cur.Key()[len(lower):]); ok && create > k.first {
			p.found(lower, create, revision, false)
		}
		return &begun{Cursor: cur, waiting: true}, nil
	}
	if err := cur.Close(); err != nil {
		return nil, err
	}
	p.found(lower, since+1, revision, apply)
	return nothing{}, nil
}

// nothing is a Cursor over no rows.
type nothing struct{}

func (nothing) Next() bool             { return false }
func (nothing) SeekGE([]byte) bool     { return false }
func (nothing) Key() []byte            { return nil }
func (nothing) Value() ([]byte, error) { return nil, nil }
func (nothing) Close() error           { return nil }

// begun is a Cursor that somebody moved to its first row already.
type begun struct {
	Cursor
	waiting bool // nobody else has moved it
}

func (c *begun) Next() bool {
	if c.waiting {
		c.waiting = false
		return true
	}
	return c.Cursor.Next()
}

func (c *begun) SeekGE(key []byte) bool {
	c.waiting = false
	return c.Cursor.SeekGE(key)
}
