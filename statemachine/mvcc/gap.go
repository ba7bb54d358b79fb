package mvcc

import (
	"bytes"

	"github.com/google/btree"
)

// Deleted rows stay where they are until Pebble compacts them away, and a scan steps over each: 100,000 compares of a
// range in which a million keys were just deleted find nothing, cost no budget, and would take hours. So the apply
// remembers where there is nothing: each stretch is stepped over once or twice, and jumped over then. That changes no
// result. What a batch has deleted is no row of the overlay, but one below it still; what it puts is none below it: so
// both have gaps of their own.

const (
	// minGap is how many rows that do not count make a gap worth to be remembered.
	minGap = 256
	// maxGaps bounds what is remembered.
	maxGaps = 1 << 14
)

// gap says that there is no row in [from, to), of the live space.
type gap struct{ from, to []byte }

func gapLess(a, b gap) bool { return bytes.Compare(a.from, b.from) < 0 }

// gaps are stretches without a row. None overlap.
type gaps struct {
	least int // minGap
	tree  *btree.BTreeG[gap]
	// slow says that the last scan stepped over more than it found: the next one measures where.
	slow bool
}

func newGaps() *gaps { return &gaps{least: minGap, tree: btree.NewG(32, gapLess)} }

// after is the gap that key is in, or else the first one behind it.
func (g *gaps) after(key []byte) (found gap, ok bool) {
	if in, ok := g.holding(key); ok {
		return in, true
	}
	g.tree.AscendGreaterOrEqual(gap{from: key}, func(one gap) bool {
		found, ok = one, true
		return false
	})
	return found, ok
}

func (g *gaps) holding(key []byte) (found gap, ok bool) {
	g.tree.DescendLessOrEqual(gap{from: key}, func(one gap) bool {
		found, ok = one, bytes.Compare(key, one.to) < 0
		return false
	})
	return found, ok
}

// add notes a gap, together with those that it meets. It keeps both slices.
func (g *gaps) add(from, to []byte) {
	for {
		one, ok := g.after(from)
		if !ok || bytes.Compare(one.from, to) > 0 {
			break
		}
		g.tree.Delete(one)
		if bytes.Compare(one.from, from) < 0 {
			from = one.from
		}
		if bytes.Compare(one.to, to) > 0 {
			to = one.to
		}
	}
	if g.tree.Len() >= maxGaps {
		g.tree.Clear(true)
	}
	g.tree.ReplaceOrInsert(gap{from, to})
}

// split takes a key out, which has a row now or may have one.
func (g *gaps) split(key []byte) {
	if g.tree.Len() == 0 || key[0] != SpaceLive {
		return
	}
	one, ok := g.holding(key)
	if !ok {
		return
	}
	g.tree.Delete(one)
	if bytes.Compare(one.from, key) < 0 {
		g.add(one.from, bytes.Clone(key))
	}
	if behind := follows(key); bytes.Compare(behind, one.to) < 0 {
		g.tree.ReplaceOrInsert(gap{behind, one.to})
	}
}

// follows is the first key behind key.
func follows(key []byte) []byte { return append(bytes.Clone(key), 0) }

// stepper is a cursor that counts the rows it goes through, those that do not count too.
type stepper interface {
	Cursor
	steps() int
}

// gapCursor walks rows of the live space, jumps over gaps and finds new ones.
type gapCursor struct {
	stepper
	gaps         *gaps
	lower, upper []byte

	begun bool
	moves int
	next  gap // the first one that ends behind the current row, if known; it begins at upper if there is none
	known bool
}

// withGaps lets a cursor of [lower, upper) use and extend what is known of gaps, if these rows are of the live space.
func withGaps(c Cursor, g *gaps, lower, upper []byte) Cursor {
	s, ok := c.(stepper)
	if !ok || len(lower) == 0 || lower[0] != SpaceLive {
		return c
	}
	return &gapCursor{stepper: s, gaps: g, lower: lower, upper: upper}
}

// idle says that there is nothing to jump over, nor to find.
func (c *gapCursor) idle() bool { return !c.gaps.slow && c.gaps.tree.Len() == 0 }

func (c *gapCursor) Next() bool {
	c.moves++
	begun := c.begun
	c.begun = true
	if begun && c.idle() {
		return c.stepper.Next()
	}
	at := c.lower
	if begun {
		at = follows(c.Key())
	}
	if !c.known || bytes.Compare(c.next.to, at) <= 0 {
		var ok bool
		if c.next, ok = c.gaps.after(at); !ok {
			c.next = gap{c.upper, c.upper}
		}
		c.known = true
	}
	if bytes.Compare(c.next.from, at) <= 0 && bytes.Compare(at, c.next.to) < 0 {
		return c.seek(c.next.to)
	}
	before := c.steps()
	ok := c.stepper.Next()
	c.passed(before, at, ok)
	return ok
}

func (c *gapCursor) SeekGE(key []byte) bool {
	c.moves++
	c.begun = true
	if c.idle() {
		return c.stepper.SeekGE(key)
	}
	c.known = false
	if in, ok := c.gaps.holding(key); ok {
		key = in.to
	}
	return c.seek(key)
}

func (c *gapCursor) seek(key []byte) bool {
	if bytes.Compare(key, c.upper) >= 0 {
		return false
	}
	before := c.steps()
	ok := c.stepper.SeekGE(key)
	c.passed(before, key, ok)
	return ok
}

// passed notes the gap between a key and the current row, if many rows were stepped over there.
func (c *gapCursor) passed(before int, from []byte, ok bool) {
	if c.steps()-before < c.gaps.least {
		return
	}
	to := c.upper
	if ok {
		to = c.Key()
	}
	if bytes.Compare(from, to) < 0 {
		c.gaps.add(bytes.Clone(from), bytes.Clone(to))
		c.known = false
	}
}

func (c *gapCursor) Close() error {
	c.gaps.slow = c.steps()-2*c.moves >= c.gaps.least
	return c.stepper.Close()
}

func (c *mergeCursor) steps() int {
	if base, ok := c.base.(stepper); ok {
		return c.skipped + base.steps()
	}
	return c.skipped
}

// perDead is how many rows that do not count cost as much as one that does.
const perDead = 8

// Width is about how many keys of r cost as much as to go through all of r does, limit if it is more: so deleted ones
// that are stepped over count, too, as long as they are there.
func Width(rows Rows, r Range, limit int64) (n int64, err error) {
	lower, upper, empty := r.liveBounds()
	if empty {
		return 0, nil
	}
	c, err := rows.Cursor(lower, upper)
	if err != nil {
		return 0, err
	}
	for c.Next() && n < limit {
		n++
	}
	if dead := int64(c.(*rowCursor).steps()) - 2*n; dead > minGap {
		n = min(n+dead/perDead, limit)
	}
	return n, c.Close()
}
