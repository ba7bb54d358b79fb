package datadir

import (
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashFS keeps what a crash would leave before every change to the file system, as the strictest file system would:
// only what was synced.
type crashFS struct {
	vfs.FS
	mem    *vfs.MemFS
	states []*vfs.MemFS
}

func newCrashFS() *crashFS {
	mem := vfs.NewCrashableMem()
	return &crashFS{FS: mem, mem: mem}
}

func (c *crashFS) crash() *vfs.MemFS { return c.mem.CrashClone(vfs.CrashCloneCfg{}) }

func (c *crashFS) note() { c.states = append(c.states, c.crash()) }

func (c *crashFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	c.note()
	f, err := c.FS.Create(name, category)
	return crashFile{f, c}, err
}

func (c *crashFS) OpenDir(name string) (vfs.File, error) {
	f, err := c.FS.OpenDir(name)
	return crashFile{f, c}, err
}

func (c *crashFS) Rename(from, to string) error {
	c.note()
	return c.FS.Rename(from, to)
}

func (c *crashFS) MkdirAll(dir string, mode os.FileMode) error {
	c.note()
	return c.FS.MkdirAll(dir, mode)
}

type crashFile struct {
	vfs.File
	fs *crashFS
}

func (f crashFile) Sync() error {
	f.fs.note()
	err := f.File.Sync()
	f.fs.note()
	return err
}
