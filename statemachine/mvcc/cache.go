package mvcc

// Cache remembers the rows of the live space that were written or read last, those that are known not to exist
// included, so that a write need not look in Pebble for the version before it. It holds about as many bytes as it was
// given. It is a copy of committed rows and changes no result. Not safe for concurrent use.
//
// It has two generations: what is used moves to the young one, and when that has grown to half of the bound it becomes
// the old one, whose rows, not used since, are forgotten.
type Cache struct {
	half       int
	young, old generation
	bytes      int // of young
}

// generation has rows by their keys. Most rows are put again and again: then the key is not copied.
type generation struct {
	at     map[string]int // in values
	values [][]byte       // nil: no such row
}

func newGeneration() generation { return generation{at: make(map[string]int)} }

func (g *generation) get(key []byte) (value []byte, known bool) {
	i, known := g.at[string(key)]
	if known {
		value = g.values[i]
	}
	return value, known
}

// put returns what was known before.
func (g *generation) put(key, value []byte) (before []byte, known bool) {
	i, known := g.at[string(key)]
	if known {
		before, g.values[i] = g.values[i], value
		return before, true
	}
	g.at[string(key)] = len(g.values)
	g.values = append(g.values, value)
	return nil, false
}

// rowOverhead is about what a row costs in a map beside its bytes.
const rowOverhead = 64

// NewCache returns an empty cache of about the given number of bytes.
func NewCache(bytes int) *Cache {
	return &Cache{half: bytes / 2, young: newGeneration()}
}

// get returns the row's value, nil if it is known not to exist, and whether anything is known of it.
func (c *Cache) get(key []byte) (value []byte, known bool) {
	if value, known = c.young.get(key); known {
		return value, true
	}
	if value, known = c.old.get(key); known {
		c.put(key, value)
	}
	return value, known
}

// put notes a row; a nil value says that it does not exist. The cache keeps the value.
func (c *Cache) put(key, value []byte) {
	if before, known := c.young.put(key, value); known {
		c.bytes -= len(key) + len(before) + rowOverhead
	}
	c.bytes += len(key) + len(value) + rowOverhead
	if c.bytes > c.half {
		c.old, c.young, c.bytes = c.young, newGeneration(), 0
	}
}

// Learn takes up the rows of the live space that an overlay has just committed.
func (c *Cache) Learn(o *Overlay) {
	if o.Swept() {
		c.learnSwept(o)
		return
	}
	o.tree.AscendRange(row{key: []byte{SpaceLive}}, row{key: []byte{SpaceLive + 1}}, func(r row) bool {
		c.put(r.key, r.value)
		return true
	})
}

// CachedRows is the Source over committed rows that the apply reads: the live space has a cache in front, and the
// children that were created last are in memory.
type CachedRows struct {
	Rows
	Cache *Cache
	Index *Index
}

// Get implements Source.
func (r CachedRows) Get(key []byte) ([]byte, bool, error) {
	if len(key) == 0 || key[0] != SpaceLive {
		return r.Rows.Get(key)
	}
	if value, known := r.Cache.get(key); known {
		return value, value != nil, nil
	}
	value, ok, err := r.Rows.Get(key)
	if err == nil {
		r.Cache.put(key, value) // nil where there is none
	}
	return value, ok, err
}

// Cursor implements Source.
func (r CachedRows) Cursor(lower, upper []byte) (Cursor, error) {
	if len(lower) == 0 || lower[0] != SpaceChildren {
		return r.Rows.Cursor(lower, upper)
	}
	return r.Index.cursor(r.Rows, lower, upper)
}
