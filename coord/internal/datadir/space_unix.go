//go:build linux || darwin

package datadir

import "golang.org/x/sys/unix"

// statfs asks the system about the file system that path is on. Free is what unprivileged processes may use.
func statfs(path string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Space{}, err
	}
	block := uint64(s.Bsize)
	return Space{Free: s.Bavail * block, Total: s.Blocks * block}, nil
}
