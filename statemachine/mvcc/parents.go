package mvcc

import (
	"encoding/binary"
	"sync"
)

// Parents remembers from where on a parent can have children, and for the apply whether it has any. Queues are emptied at
// their head: without it each look at a head would pass over the tombstones of all who stood there since the last compaction
// of Pebble, and to find that nobody wants a lock, the most frequent thing of all, would take a look into Pebble. It is a copy of
// committed rows: it changes no result, and to forget is always right. Safe for concurrent use.
type Parents struct {
	mu sync.Mutex
	// revision is that of the last commit. Only the apply reads and writes it.
	revision int64
	known    map[string]parent // by the prefix of the rows
}

// parent is what is known of one.
type parent struct {
	// No child has a create revision below first, at revision since and at any later one: what is created there is newer.
	first, since int64
	// rows is how many children were committed; -1: not known.
	rows int64
}

// What is remembered is bounded; when there is too much, all is forgotten.
const (
	maxParents    = 1 << 16
	maxParentName = 1 << 11 // bytes; longer ones are not remembered
)

// NewParents returns one that knows nothing, for rows that are committed up to revision.
func NewParents(revision int64) *Parents {
	return &Parents{revision: revision, known: make(map[string]parent)}
}

// Learn takes up the children's rows that an overlay has just committed, up to revision. A row whose create revision is not
// behind that of the commit before was there then: so each change of the number is certain.
func (p *Parents) Learn(o *Overlay, revision int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o.tree.AscendRange(row{key: []byte{SpaceChildren}}, row{key: []byte{SpaceChildren + 1}}, func(r row) bool {
		n := childrenPrefixLen(r.key)
		k, ok := p.known[string(r.key[:n])]
		if !ok || k.rows < 0 {
			return true
		}
		create, _, _ := parseChild(r.key[n:])
		switch {
		case r.value != nil:
			k.rows++
		case create <= p.revision:
			k.rows--
		default:
			return true // created and deleted since the commit before
		}
		p.known[string(r.key[:n])] = k
		return true
	})
	p.revision = revision
}

func (p *Parents) get(prefix []byte) (k parent, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok = p.known[string(prefix)]
	return k, ok
}

// found notes that no child of the prefix has a create revision below first at revision since; empty, that there is none in what the
// apply has committed.
func (p *Parents) found(prefix []byte, first, since int64, empty bool) {
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
		k.first, k.since = first, since
	}
	if empty {
		k.rows = 0
	}
	p.known[string(prefix)] = k
}

// latest is a Cursor over the committed rows of all children with a prefix, lower.
func (p *Parents) latest(rows Rows, lower, upper []byte) (Cursor, error) {
	k, ok := p.get(lower)
	if ok && k.rows == 0 {
		return nothing{}, nil
	}
	return p.from(rows, lower, upper, k.first, p.revision, true)
}

// from is a Cursor over the rows of all children with a prefix, lower, at a revision, where first is what is known of them.
func (p *Parents) from(rows Rows, lower, upper []byte, first, revision int64, apply bool) (Cursor, error) {
	begin := lower
	if first > 0 {
		begin = binary.BigEndian.AppendUint64(lower[:len(lower):len(lower)], uint64(first))
	}
	cur, err := rows.Cursor(begin, upper)
	if err != nil {
		return nil, err
	}
	if cur.Next() {
		if create, _, ok := parseChild(cur.Key()[len(lower):]); ok && create > first {
			p.found(lower, create, revision, false)
		}
		return &begun{Cursor: cur, waiting: true}, nil
	}
	if err := cur.Close(); err != nil {
		return nil, err
	}
	p.found(lower, revision+1, revision, apply)
	return nothing{}, nil
}

// ViewRows is the Source over the rows of a view at a revision, whose scans of children begin where there may be some.
type ViewRows struct {
	Rows
	Parents  *Parents
	Revision int64
}

// Cursor implements Source.
func (r ViewRows) Cursor(lower, upper []byte) (Cursor, error) {
	if len(lower) == 0 || lower[0] != SpaceChildren {
		return r.Rows.Cursor(lower, upper)
	}
	k, ok := r.Parents.get(lower)
	if !ok || k.since > r.Revision {
		k.first = 0
	}
	return r.Parents.from(r.Rows, lower, upper, k.first, r.Revision, false)
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
