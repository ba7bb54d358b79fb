package machine

import (
	"runtime"

	"github.com/cockroachdb/pebble/v2"
)

// Caches are what the stores of all machines of a process share, so that a hundred keyspaces need no more than one:
// blocks of tables that were read, and tables that are open.
type Caches struct {
	blocks *pebble.Cache
	files  *pebble.FileCache
}

// NewCaches makes caches of so many bytes of blocks and so many open files. The caller closes them after the machines.
func NewCaches(bytes int64, maxOpenFiles int) *Caches {
	return &Caches{pebble.NewCache(bytes), pebble.NewFileCache(runtime.GOMAXPROCS(0), maxOpenFiles)}
}

// Close lets go of the caches, which live on while a store uses them.
func (c *Caches) Close() {
	c.files.Unref()
	c.blocks.Unref()
}

// DefaultCacheBytes are the blocks of a machine that has no Caches.
const DefaultCacheBytes = 64 << 20

// defaultOpenFiles is how many files the store of such a machine may keep open.
const defaultOpenFiles = 2000

const (
	// defaultMemory is Options.MemoryBytes: memtables of 16 MiB.
	defaultMemory = 80 << 20
	// memtables is how many there may be before writes wait, and memoryParts what Options.MemoryBytes is divided into:
	// these, and as much for the latest rows that the apply reads.
	memtables   = 4
	memoryParts = memtables + 1
)
