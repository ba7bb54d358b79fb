package datadir

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/zap"
)

// failWrites makes every change to the file system fail with an error like the kernel's.
func failWrites(fs vfs.FS, err error) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return &os.PathError{Op: "write", Path: op.Path, Err: err}
		}
		return nil
	}))
}

func TestReadOnlyDiskAndPermissions(t *testing.T) {
	for name, errno := range map[string]syscall.Errno{
		"read-only": syscall.EROFS, "permission": syscall.EACCES, "full": syscall.ENOSPC,
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{DataDir: "/data", Logger: zap.NewNop(), FS: failWrites(vfs.NewMem(), errno)}
			_, err := Open(o)
			if !errors.Is(err, errno) || !strings.HasPrefix(err.Error(), `create data directory "/data": write /`) {
				t.Errorf("new directory: %v", err)
			}
			mem := vfs.NewMem()
			o.FS = mem
			admitted(t, o, testIdentity)
			o.FS = failWrites(mem, errno)
			_, err = Open(o)
			if !errors.Is(err, errno) || !strings.HasPrefix(err.Error(), `write "/data/member/meta.json": write /data/member/meta.json.tmp: `) {
				t.Errorf("used directory: %v", err)
			}
			o.FS = mem
			if d := open(t, o); d.Boot() != 2 {
				t.Errorf("after a failed start the boot is %d, want 2", d.Boot())
			}
		})
	}
}

// TestFailedWriteChangesNothing: what could not be written is not true in memory either.
func TestFailedWriteChangesNothing(t *testing.T) {
	mem := vfs.NewMem()
	d := admitted(t, Options{DataDir: "/data", Logger: zap.NewNop(), FS: mem}, testIdentity)
	d.fs = failWrites(mem, syscall.EIO)
	if err := record(d, 7, 70); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Record on a broken disk: %v", err)
	}
	if metAs(d, 7, 70) {
		t.Error("a peer is known although that was not recorded")
	}
	d.fs = mem
	if err := record(d, 7, 71); err != nil {
		t.Errorf("Record once the disk works: %v", err)
	}
}

// TestFullDiskTakesTheBallast: a member starts on a disk that was filled while it was down.
func TestFullDiskTakesTheBallast(t *testing.T) {
	mem := vfs.NewMem()
	o := Options{DataDir: "/data", Logger: zap.NewNop(), FS: mem}
	d := admitted(t, o, testIdentity)
	if err := writeFile(mem, d.BallastPath(), []byte("ballast")); err != nil {
		t.Fatal(err)
	}
	o.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if _, err := mem.Stat(d.BallastPath()); err == nil && op.Kind == errorfs.OpCreate {
			return &os.PathError{Op: "open", Path: op.Path, Err: syscall.ENOSPC}
		}
		return nil
	}))
	if d := open(t, o); d.Boot() != 2 {
		t.Errorf("boot is %d, want 2", d.Boot())
	}
}
