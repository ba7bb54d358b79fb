//go:build !linux

package datadir

import (
	"errors"
	"os"
)

// allocate is known to take blocks on Linux only.
func allocate(*os.File, int64) error { return errors.ErrUnsupported }
