package logstore

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/statemachine/pebblefs"
)

const (
	// typeName is written to Dragonboat's flag file: a directory with another
	// kind of log is refused.
	typeName = "coord-logstore"
	// binaryFormat counts incompatible changes of the layout, and is in the flag
	// file too.
	binaryFormat = 1
	// subdir holds the database.
	subdir = "logstore"
)

// Factory creates stores for Dragonboat. Its zero value works.
type Factory struct {
	// FS is where files are; nil is the operating system's file system.
	FS vfs.FS
	// MaxOpenFiles is how many files the store may keep open, 200 if 0.
	MaxOpenFiles int
	// Logger receives what Pebble complains about. Nil is silent.
	Logger *zap.Logger
	// OnFatal is called with one line, logged before, when the store cannot go on
	// and has nobody to return an error to. It should end the process: if it returns,
	// or is nil, the goroutine panics with the same line.
	OnFatal func(msg string)
}

var _ config.LogDBFactory = Factory{}

// Name returns the type of the store.
func (Factory) Name() string { return typeName }

// Create opens the store in the first of wals, which is where writes have low
// latency, or in the first of dirs if there are none. The callback is not called:
// when Pebble falls behind it makes writers wait. It fails with
// ErrDamaged if the files are damaged.
func (f Factory) Create(_ config.NodeHostConfig, _ config.LogDBCallback, dirs, wals []string) (raftio.ILogDB, error) {
	fs := f.FS
	if fs == nil {
		fs = vfs.Default
	}
	dir, err := chooseDir(fs, dirs, wals)
	if err != nil {
		return nil, err
	}
	return open(dir, f.options(fs, dir))
}

// chooseDir chooses the database's directory. A log that is where another setting of
// the directories put it is not passed over.
func chooseDir(fs vfs.FS, dirs, wals []string) (string, error) {
	if len(wals) == 0 {
		wals = dirs
	}
	if len(wals) == 0 || wals[0] == "" {
		return "", errors.New("no directory for the raft log")
	}
	dir := fs.PathJoin(wals[0], subdir)
	if len(dirs) > 0 && dirs[0] != wals[0] {
		other := fs.PathJoin(dirs[0], subdir)
		if _, err := fs.Stat(other); err == nil {
			return "", fmt.Errorf("the raft log is in %s: move it to %s, or undo the change of the log's directory",
				other, dir)
		}
	}
	return dir, nil
}

// options keep Pebble small: a log is written once, hardly read, and deleted in
// ranges, so most of it never leaves the memtable and the files are few.
func (f Factory) options(fs vfs.FS, dir string) *pebble.Options {
	log := f.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &pebble.Options{
		FS: pebblefs.Wrap(fs),
		// Formats from FormatWALSyncChunks on tell damage from a torn end.
		FormatMajorVersion:          pebblefs.Format,
		MemTableSize:                8 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               64 << 20,
		CacheSize:                   1 << 20,
		MaxOpenFiles:                cmp.Or(f.MaxOpenFiles, 200),
		Logger: pebblefs.Logger{
			Store: "raft log store " + dir, Log: log.Named("logstore"), End: f.OnFatal,
		},
	}
}
