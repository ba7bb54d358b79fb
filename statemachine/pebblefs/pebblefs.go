// Package pebblefs is what a Pebble database of ours expects of its file system beyond what Pebble does: that a crash
// leaves a directory that opens, and that a disk that fails is told of once.
package pebblefs

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Format is the format of Pebble's files at version 1 of a cluster. An older release must be able to open them as long
// as the cluster has not been raised to a version that it does not know, so a newer one belongs to such a version.
const Format = pebble.FormatValueSeparation

// fullPause is how long a full disk holds up whoever writes. Pebble tries what failed again at once, for ever, and
// tells of it each time.
const fullPause = time.Second

// Wrap returns the file system for a database on fs: names are durable before a marker says that they count, and who
// writes to a full disk waits a while, as what is deleted meanwhile makes room, and tries once more before the error is
// told.
func Wrap(fs vfs.FS) vfs.FS {
	return vfs.OnDiskFull(markerFS{fs}, func() { time.Sleep(fullPause) })
}
