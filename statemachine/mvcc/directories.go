package mvcc

import "bytes"

// directories counts the committed live rows below each prefix that was once found empty, by the row key of the prefix, which
// ends in a slash. To acquire a lock that nobody wants, and to find so, is the most frequent thing of all, and a look into
// Pebble for it wades through the tombstones of those who held it before. A prefix whose count is not certain is forgotten.
type directories map[string]int

// What is remembered is bounded; when there is too much, all is forgotten.
const (
	maxDirectories   = 1 << 16
	maxDirectoryName = 1 << 11 // bytes; longer ones are not remembered
)

// isDirectory reports whether [lower, upper) is all keys of the live space with one prefix that ends in a slash.
func isDirectory(lower, upper []byte) bool {
	n := len(lower)
	return n > 1 && n <= maxDirectoryName && lower[0] == SpaceLive && lower[n-1] == '/' &&
		len(upper) == n && upper[n-1] == '/'+1 && bytes.Equal(lower[:n-1], upper[:n-1])
}

// learnEmpty notes that there is no row below the prefix.
func (d directories) learnEmpty(prefix []byte) {
	if len(d) >= maxDirectories {
		clear(d)
	}
	d[string(prefix)] = 0
}

// changed notes that a row was committed. known says whether it is certain that the row was, or was not, there before.
func (d directories) changed(key []byte, known, before, after bool) {
	if len(d) == 0 || known && before == after {
		return
	}
	for i, c := range key[:min(len(key), maxDirectoryName)] {
		if c != '/' {
			continue
		}
		n, ok := d[string(key[:i+1])]
		switch {
		case !ok:
		case !known:
			delete(d, string(key[:i+1]))
		case after:
			d[string(key[:i+1])] = n + 1
		default:
			d[string(key[:i+1])] = n - 1
		}
	}
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
