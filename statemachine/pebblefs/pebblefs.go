// Package pebblefs is what a Pebble database of ours expects of its file system beyond what Pebble does: that a crash leaves a
// directory that opens, and that a disk that fails is told of once.
package pebblefs

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// fullPause is how long a full disk holds up whoever writes. Pebble tries what failed again at once, for ever, and tells of
// it each time.
const fullPause = time.Second

// Wrap returns the file system for a database on fs: names are durable before a marker says that they count, and who writes
// to a full disk waits a while, as what is deleted meanwhile makes room, and tries once more before the error is told.
func Wrap(fs vfs.FS) vfs.FS {
	return vfs.OnDiskFull(markerFS{fs}, func() { time.Sleep(fullPause) })
}

// BackgroundError is for pebble.EventListener: it is told why a flush or a compaction failed. With a full disk it is only logged, and
// so is damage, which Pebble keeps away from and whoever reads it hears of. Anything else does not pass by itself, be it a
// directory that was removed or a disk that fails, and ends in log.Fatalf.
func BackgroundError(log pebble.Logger) func(error) {
	return func(err error) {
		if vfs.IsNoSpaceError(err) || pebble.IsCorruptionError(err) {
			log.Errorf("background error: %v", err)
			return
		}
		log.Fatalf("cannot go on: %v", err)
	}
}
