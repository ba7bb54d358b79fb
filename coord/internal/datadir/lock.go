//go:build linux || darwin

package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockDir takes the exclusive lock of a directory, for this process and against it. The lock ends with the process, or
// when the Closer is closed.
func lockDir(dir string) (io.Closer, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory %q: %w", dir, err)
	}
	if err := lockAndSign(f); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 32)) // for the message only
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, refuse(ErrLocked, "data directory %q is in use by another process (pid %s)", dir,
				pidText(holder))
		}
		return nil, fmt.Errorf("lock data directory %q: %w", dir, err)
	}
	return f, nil
}

// lockAndSign locks the file and writes this process' id into it.
func lockAndSign(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	return err
}

func pidText(b []byte) string {
	if b = bytes.TrimSpace(b); len(b) > 0 {
		return string(b)
	}
	return "unknown"
}
