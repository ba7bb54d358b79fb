package mvcc

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/btree"
)

// Source is ordered rows to read from: a Pebble snapshot, or an Overlay in front of one.
type Source interface {
	// Get returns the row's value, which the caller may keep; ok is false where there is none.
	Get(key []byte) (value []byte, ok bool, err error)
	// Cursor walks the rows in [lower, upper). The caller closes it, and does not write to the source while it is open.
	Cursor(lower, upper []byte) (Cursor, error)
}

// Cursor walks rows in key order. It starts before the first row. Key and Value are valid until the next move.
type Cursor interface {
	// Next moves to the next row, SeekGE to the first row >= key (key must not lie before the current row). Both report
	// whether there is one.
	Next() bool
	SeekGE(key []byte) bool
	Key() []byte
	Value() ([]byte, error)
	// Close frees the cursor and returns the error that ended it early, if any.
	Close() error
}

// Rows is the Source over a Pebble reader (a DB or a snapshot).
type Rows struct{ pebble.Reader }

// Get implements Source.
func (r Rows) Get(key []byte) ([]byte, bool, error) {
	v, closer, err := r.Reader.Get(key)
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			err = nil
		}
		return nil, false, err
	}
	value := append(make([]byte, 0, len(v)), v...)
	return value, true, closer.Close()
}

// Cursor implements Source.
func (r Rows) Cursor(lower, upper []byte) (Cursor, error) {
	it, err := r.Reader.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	return &rowCursor{it: it}, nil
}

type rowCursor struct {
	it      *pebble.Iterator
	started bool
}

func (c *rowCursor) Next() bool {
	if !c.started {
		c.started = true
		return c.it.First()
	}
	return c.it.Next()
}

func (c *rowCursor) SeekGE(key []byte) bool {
	c.started = true
	return c.it.SeekGE(key)
}

// steps is how many rows the cursor has gone through, deleted ones too.
func (c *rowCursor) steps() int {
	return c.it.Stats().ForwardStepCount[pebble.InternalIterCall]
}

func (c *rowCursor) Key() []byte            { return c.it.Key() }
func (c *rowCursor) Value() ([]byte, error) { return c.it.ValueAndErr() }
func (c *rowCursor) Close() error           { return c.it.Close() }

// row is a pending write; value is nil for a deletion.
type row struct{ key, value []byte }

func rowLess(a, b row) bool { return bytes.Compare(a.key, b.key) < 0 }

// Overlay holds the writes of a batch in front of the rows they will be committed to, so that each command of the batch
// sees what the ones before it wrote. It is not safe for concurrent use.
//
// While a savepoint is open it remembers what each row was before it was written, see Tx.Begin.
type Overlay struct {
	base    Source
	tree    *btree.BTreeG[row]
	open    int // savepoints
	written []writtenRow
	writes  uint64  // how often rows were changed, to know whether they still are what they were
	bytes   int     // of all rows that were written, those too that were written over since
	layers  []layer // below tree, between it and the rows that are committed
	gaps    *gaps   // of what is read here
	below   *gaps   // of the rows that are committed, into which WriteTo writes
}

// writtenRow is what stood in the overlay before a row was written there: nothing where !had.
type writtenRow struct {
	before row
	had    bool
}

// stagedOverhead is what a row takes in a batch of Pebble's beside its key and value, in bytes, and some more.
const stagedOverhead = 16

// maxFreeNodes is how many nodes of the tree wait for the next batch: those of a large entry, some 10,000 rows, which
// fill less than 2 MB.
const maxFreeNodes = 1 << 9

// NewOverlay returns an empty overlay in front of base.
func NewOverlay(base Source) *Overlay {
	return &Overlay{
		base: base, tree: btree.NewWithFreeListG(32, rowLess, btree.NewFreeListG[row](maxFreeNodes)), gaps: newGaps(),
		below: newGaps(),
	}
}

// Set writes a row. The overlay keeps both slices.
func (o *Overlay) Set(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	o.gaps.split(key)
	o.write(row{key, value})
}

// Delete removes a row. The overlay keeps the slice.
func (o *Overlay) Delete(key []byte) { o.write(row{key, nil}) }

func (o *Overlay) write(r row) {
	o.writes++
	o.bytes += len(r.key) + len(r.value)
	before, had := o.tree.ReplaceOrInsert(r)
	if o.open == 0 {
		return
	}
	if !had {
		before.key = r.key
	}
	o.written = append(o.written, writtenRow{before, had})
}

// overlayMark is a state of an overlay to roll back to.
type overlayMark struct{ written, layers int }

// begin opens a savepoint and returns the mark to roll back to.
func (o *Overlay) begin() overlayMark {
	o.open++
	return overlayMark{len(o.written), len(o.layers)}
}

// rollback makes the overlay what it was at the mark. The savepoint stays open.
func (o *Overlay) rollback(to overlayMark) {
	o.writes++
	o.unsweep(to.layers)
	mark := to.written
	for i := len(o.written) - 1; i >= mark; i-- {
		w := o.written[i]
		o.gaps.split(w.before.key)
		if w.had {
			o.tree.ReplaceOrInsert(w.before)
		} else {
			o.tree.Delete(w.before)
		}
	}
	o.written = o.written[:mark]
}

// maxKept is how many rows the memory of one step may have had for the next one to use it again.
const maxKept = 1 << 12

// end closes the savepoint that was opened last.
func (o *Overlay) end() {
	if o.open--; o.open > 0 {
		return
	}
	if o.written = o.written[:0]; cap(o.written) > maxKept {
		o.written = nil
	}
}

// Len is the number of rows written or deleted, but for those of sweeps.
func (o *Overlay) Len() int {
	n := o.tree.Len()
	for _, l := range o.layers {
		n += l.tree.Len()
	}
	return n
}

// Bytes is how many bytes of rows were written, those too that were written over or rolled back since.
func (o *Overlay) Bytes() int { return o.bytes }

// StagedSize is about how many bytes the rows fill in a batch of Pebble's, or more.
func (o *Overlay) StagedSize() int {
	size := o.bytes + o.Len()*stagedOverhead
	for _, l := range o.layers {
		size += l.rowBytes()
	}
	return size
}

// Get implements Source.
func (o *Overlay) Get(key []byte) ([]byte, bool, error) {
	if r, ok := o.tree.Get(row{key: key}); ok {
		return r.value, r.value != nil, nil
	}
	return o.base.Get(key)
}

// WriteTo stages all writes in a Pebble batch, in key order, but those of the index of children, see Index.Stage.
func (o *Overlay) WriteTo(b *pebble.Batch) error {
	if o.Swept() {
		return o.writeSwept(b)
	}
	var err error
	o.tree.Ascend(func(r row) bool {
		switch {
		case r.key[0] == SpaceChildren:
		case r.value == nil:
			err = b.Delete(r.key, nil)
		default:
			o.below.split(r.key)
			err = b.Set(r.key, r.value, nil)
		}
		return err == nil
	})
	return err
}

// Reset empties the overlay and puts it in front of base, which has what was written by WriteTo and is else as it was.
func (o *Overlay) Reset(base Source) {
	if o.base = base; o.Swept() {
		o.tree, o.layers = o.layers[0].tree, nil
	}
	o.tree.Clear(true)
	o.bytes = 0
}

// Cursor implements Source: a merge of the writes and the rows below.
func (o *Overlay) Cursor(lower, upper []byte) (Cursor, error) {
	base, err := o.base.Cursor(lower, upper)
	if err != nil {
		return nil, err
	}
	if !o.Swept() {
		base = withGaps(base, o.below, lower, upper)
	}
	return withGaps(&mergeCursor{tree: o.tree, base: base, lower: lower, upper: upper}, o.gaps, lower, upper), nil
}

type mergeCursor struct {
	tree         *btree.BTreeG[row]
	sweep        *Sweep // in the place of tree, if not nil
	base         Cursor
	lower, upper []byte

	started bool
	sweptAt int  // where the next write is in sweep
	baseOK  bool // base stands on a row
	top     row  // the next write, if topOK
	topOK   bool
	onTop   bool // the current row is top
	skipped int  // deletions
}

// seekTop moves to the first write >= key, or > key where after is set.
func (c *mergeCursor) seekTop(key []byte, after bool) {
	if c.sweep != nil {
		c.seekSwept(key, after)
		return
	}
	c.topOK = false
	c.tree.AscendGreaterOrEqual(row{key: key}, func(r row) bool {
		if after && bytes.Equal(r.key, key) {
			return true
		}
		if bytes.Compare(r.key, c.upper) < 0 {
			c.top, c.topOK = r, true
		}
		return false
	})
}

// settle finds the current row: the smaller of both sides, where a write hides the row below and a deletion is skipped.
func (c *mergeCursor) settle() bool {
	for c.topOK {
		order := -1
		if c.baseOK {
			order = bytes.Compare(c.top.key, c.base.Key())
		}
		if order > 0 {
			break
		}
		if order == 0 {
			c.baseOK = c.base.Next()
		}
		if c.top.value != nil {
			c.onTop = true
			return true
		}
		c.skipped++
		c.seekTop(c.top.key, true)
	}
	c.onTop = false
	return c.baseOK
}

func (c *mergeCursor) Next() bool {
	switch {
	case !c.started:
		c.started = true
		c.baseOK = c.base.Next()
		c.seekTop(c.lower, false)
	case c.onTop:
		c.seekTop(c.top.key, true)
	case c.baseOK:
		c.baseOK = c.base.Next()
	}
	return c.settle()
}

func (c *mergeCursor) SeekGE(key []byte) bool {
	if bytes.Compare(key, c.lower) < 0 {
		key = c.lower
	}
	// The base may already stand beyond key, because settle moves it past rows that a write hides.
	if !c.started || c.baseOK && bytes.Compare(c.base.Key(), key) < 0 {
		c.baseOK = c.base.SeekGE(key)
	}
	c.started = true
	c.seekTop(key, false)
	return c.settle()
}

func (c *mergeCursor) Key() []byte {
	if c.onTop {
		return c.top.key
	}
	return c.base.Key()
}

func (c *mergeCursor) Value() ([]byte, error) {
	if c.onTop {
		return c.top.value, nil
	}
	return c.base.Value()
}

func (c *mergeCursor) Close() error { return c.base.Close() }
