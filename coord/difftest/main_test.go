package difftest

import (
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"testing"
)

// memoryDir is where Linux keeps files in memory, and memoryNeeded what must be free there.
const (
	memoryDir    = "/dev/shm"
	memoryNeeded = 4 << 30
)

// TestMain puts the servers' files into memory if there is room: the test is about answers, and two servers that wait
// for a disk a thousand times a second each say nothing more about those. etcd runs without fsync for the same reason.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(func() int {
		var free syscall.Statfs_t
		if err := syscall.Statfs(memoryDir, &free); err != nil || free.Bavail*uint64(free.Bsize) < memoryNeeded {
			return m.Run()
		}
		dir, err := os.MkdirTemp(memoryDir, "difftest-")
		if err != nil {
			return m.Run()
		}
		defer os.RemoveAll(dir)
		if err := os.Setenv("TMPDIR", dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}
