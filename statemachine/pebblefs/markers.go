package pebblefs

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// markerFS makes all names in a directory durable before a marker appears in it.
// A marker is an empty file whose name says which manifest is in use. Pebble syncs
// a new manifest, but its name only together with that of the marker, and until
// then a crash may keep the marker alone: the store would not open again.
type markerFS struct{ vfs.FS }

// Create creates a file; see vfs.FS.
func (fs markerFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(fs.PathBase(name), "marker.") {
		if err := syncDir(fs.FS, fs.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return fs.FS.Create(name, category)
}

// Unwrap returns the file system below.
func (fs markerFS) Unwrap() vfs.FS { return fs.FS }

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
