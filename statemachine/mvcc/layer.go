package mvcc

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/btree"
)

// A sweep stands in an overlay as a layer: what was written before it is below, what is written after it above, in a
// tree that is new. A batch of the log without a sweep has no layer, and one with a sweep seldom more than one.

// layer is a sweep, and the state of the overlay in front of which it stands.
type layer struct {
	*Sweep
	tree    *btree.BTreeG[row]
	base    Source
	written int // so many rows were written to tree, and those before it, while savepoints were open
}

// Sweeps is how many sweeps there are in the overlay. Whatever is looked for is looked for in each.
func (o *Overlay) Sweeps() int { return len(o.layers) }

// Swept reports whether there is a sweep in the overlay.
func (o *Overlay) Swept() bool { return len(o.layers) > 0 }

func (o *Overlay) sweep(s *Sweep) {
	o.writes++
	below := o.below
	if o.Swept() {
		below = nil
	}
	o.layers = append(o.layers, layer{s, o.tree, o.base, len(o.written)})
	o.base = &sweptRows{sweep: s, tree: o.tree, base: o.base, below: below}
	o.tree = btree.NewG(32, rowLess)
}

// unsweep takes back all sweeps but n.
func (o *Overlay) unsweep(n int) {
	if n == len(o.layers) {
		return
	}
	l := o.layers[n]
	o.tree, o.base = l.tree, l.base
	o.written = o.written[:l.written]
	clear(o.layers[n:])
	o.layers = o.layers[:n]
	o.gaps.tree.Clear(false) // where there was nothing there may be something now
}

// sweptRows is the Source of a sweep, in front of what was written before, in front of base.
type sweptRows struct {
	sweep *Sweep
	tree  *btree.BTreeG[row]
	base  Source
	below *gaps // of base; nil: not known
}

// Get implements Source.
func (s *sweptRows) Get(key []byte) ([]byte, bool, error) {
	r, ok := s.sweep.get(key)
	if !ok {
		if r, ok = s.tree.Get(row{key: key}); !ok {
			return s.base.Get(key)
		}
	}
	return r.value, r.value != nil, nil
}

// Cursor implements Source.
func (s *sweptRows) Cursor(lower, upper []byte) (Cursor, error) {
	base, err := s.base.Cursor(lower, upper)
	if err != nil {
		return nil, err
	}
	if s.below != nil {
		base = withGaps(base, s.below, lower, upper)
	}
	written := &mergeCursor{tree: s.tree, base: base, lower: lower, upper: upper}
	return &mergeCursor{sweep: s.sweep, base: written, lower: lower, upper: upper}, nil
}

// seekSwept is seekTop where the writes are a sweep. It moves behind the current one where after is set.
func (c *mergeCursor) seekSwept(key []byte, after bool) {
	if after {
		c.sweptAt++
	} else {
		c.sweptAt = c.sweep.find(key)
	}
	if c.topOK = c.sweptAt < c.sweep.rows(key[0]); c.topOK {
		c.top = c.sweep.row(key[0], c.sweptAt, nil)
		c.topOK = bytes.Compare(c.top.key, c.upper) < 0
	}
}

// source is the rows of one layer in one space, one after the other.
type source struct {
	rows  []row // of a tree; or else
	sweep *Sweep
	space byte
	next  int
	room  []byte

	top row
	ok  bool
}

func (s *source) advance() {
	if s.sweep == nil {
		if s.ok = s.next < len(s.rows); s.ok {
			s.top = s.rows[s.next]
		}
	} else if s.ok = s.next < s.sweep.rows(s.space); s.ok {
		s.top = s.sweep.row(s.space, s.next, s.room[:0])
		s.room = s.top.key
	}
	s.next++
}

// ascend calls fn for what was written in one space, in key order, each key once and as it was written last, until fn
// returns false. by is the sweep that deletes it, nil if that is none. Keys are valid during the call, but for those
// that no sweep made.
func (o *Overlay) ascend(space byte, fn func(r row, by *Sweep) bool) {
	var sources []*source // oldest first
	add := func(tree *btree.BTreeG[row]) {
		s := &source{}
		tree.AscendRange(row{key: []byte{space}}, row{key: []byte{space + 1}}, func(r row) bool {
			s.rows = append(s.rows, r)
			return true
		})
		sources = append(sources, s)
	}
	for _, l := range o.layers {
		add(l.tree)
		sources = append(sources, &source{sweep: l.Sweep, space: space})
	}
	add(o.tree)
	for _, s := range sources {
		s.advance()
	}
	for {
		var first *source
		for _, s := range sources {
			if s.ok && (first == nil || bytes.Compare(s.top.key, first.top.key) <= 0) { // of the same key the newest
				first = s
			}
		}
		if first == nil || !fn(first.top, first.sweep) {
			return
		}
		for _, s := range sources {
			if s != first && s.ok && bytes.Equal(s.top.key, first.top.key) {
				s.advance()
			}
		}
		first.advance()
	}
}

// writeSwept is WriteTo where there are sweeps. A stretch of live rows that are deleted as a whole, and the keys of a
// lease, are deleted by one row of Pebble's, which stands before all others: what was written later in such a stretch
// is put behind it.
func (o *Overlay) writeSwept(b *pebble.Batch) error {
	for _, l := range o.layers {
		for _, r := range l.whole {
			lower, upper, empty := r.liveBounds()
			if empty {
				continue
			}
			if err := b.DeleteRange(lower, upper, nil); err != nil {
				return err
			}
		}
		if l.lease != 0 {
			lower, upper := LeaseBounds(l.lease)
			if err := b.DeleteRange(lower, upper, nil); err != nil {
				return err
			}
		}
	}
	for space := range SpaceChildren { // it is the last one
		var err error
		o.ascend(space, func(r row, by *Sweep) bool {
			switch {
			case by != nil && (space == SpaceLive && len(by.whole) > 0 || space == SpaceLeaseKeys && by.lease != 0):
			case r.value == nil:
				err = b.Delete(r.key, nil)
			default:
				o.below.split(r.key)
				err = b.Set(r.key, r.value, nil)
			}
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stageSwept is Stage where there are sweeps. So many changes have all young rows written: then views need not be told
// of them.
func (x *Index) stageSwept(o *Overlay, b *pebble.Batch, revision int64) error {
	var err error
	var of siblings
	o.ascend(SpaceChildren, func(r row, by *Sweep) bool {
		n := childrenPrefixLen(r.key)
		create, _, _ := parseChild(r.key[n:])
		switch {
		case create <= x.since:
			if !bytes.Equal(of.prefix, r.key[:n]) {
				x.parents.changed(string(of.prefix), -of.gone)
				of, err = newSiblings(r.key[:n], by, b)
			}
			of.gone++
			if !of.swept && err == nil {
				err = b.SingleDelete(r.key, nil)
			}
		case r.value != nil:
			x.add(r.key)
		default:
			x.remove(r.key, n)
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	x.parents.changed(string(of.prefix), -of.gone)
	x.revision = revision
	return x.store(b, revision)
}

// siblings are the stored children of one parent that are deleted.
type siblings struct {
	prefix []byte
	gone   int64
	swept  bool // by one row of Pebble's, all of them
}

// minSiblings is how many children of one parent are worth such a row.
const minSiblings = 1 << 8

// newSiblings stages the deletion of all stored rows with a prefix, if they are many and by says that none of them
// stays.
func newSiblings(prefix []byte, by *Sweep, b *pebble.Batch) (siblings, error) {
	f := siblings{prefix: bytes.Clone(prefix)}
	parent, ok := unescape(prefix[1 : len(prefix)-2])
	if by == nil || !ok || !by.covers(append(bytes.Clone(parent), '/'), append(parent, '/'+1)) {
		return f, nil
	}
	end := prefixEnd(prefix)
	if f.swept = by.find(end)-by.find(prefix) >= minSiblings; !f.swept {
		return f, nil
	}
	return f, b.DeleteRange(f.prefix, end, nil)
}

// learnSwept is Learn where there are sweeps: of the rows that they delete only those are of use that were known
// before.
func (c *Cache) learnSwept(o *Overlay) {
	o.ascend(SpaceLive, func(r row, by *Sweep) bool {
		if _, known := c.get(r.key); by == nil || known {
			c.put(r.key, r.value)
		}
		return true
	})
}
