package datadir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// A fakeDisk has a size, and is filled by the ballast and by what a test puts on it.
type fakeDisk struct {
	ballast string

	mu          sync.Mutex
	total, used uint64
	err         error
}

func (d *fakeDisk) set(used uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used, d.err = used, err
}

func (d *fakeDisk) statfs(string) (Space, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	used := d.used
	if info, err := os.Stat(d.ballast); err == nil {
		used += uint64(info.Size())
	}
	return Space{Free: d.total - min(d.total, used), Total: d.total}, d.err
}

const mib = 1 << 20

func TestWatchdog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ballast")
	synctest.Test(t, func(t *testing.T) {
		disk := &fakeDisk{ballast: path, total: 1000 * mib}
		changes := make(chan bool, 10)
		w, err := NewWatchdog(WatchdogOptions{
			Paths: []string{"/"}, Ballast: path, Reserve: 10 * mib, BallastSize: 4 * mib, Statfs: disk.statfs,
			OnChange: func(low bool) { changes <- low }, Logger: zap.NewNop(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		for _, step := range []struct {
			name         string
			free         uint64 // without the ballast
			err          error
			low, ballast bool
		}{
			{"plenty", 500 * mib, nil, false, true},
			{"just enough", 14 * mib, nil, false, true},
			{"a byte too little", 14*mib - 1, nil, true, false},
			{"the ballast's room alone does not count", 14 * mib, nil, true, false},
			{"not yet recovered", 16*mib + mib/2 - 1, nil, true, false},
			{"unreadable", 500 * mib, errors.New("no"), true, false},
			{"recovered", 16*mib + mib/2, nil, false, true},
			{"full", 0, nil, true, false},
			{"emptied", 900 * mib, nil, false, true},
		} {
			disk.set(disk.total-step.free, step.err)
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			want := int64(mib) // for a start
			if step.ballast {
				want = 4 * mib
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if w.Low() != step.low || info.Size() != want {
				t.Errorf("%s: low %v, want %v; ballast of %d bytes, want %d", step.name, w.Low(), step.low, info.Size(),
					want)
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		close(changes)
		var seen []bool
		for low := range changes {
			seen = append(seen, low)
		}
		if want := []bool{true, false, true, false}; len(seen) != 4 || seen[0] != want[0] || seen[1] != want[1] ||
			seen[2] != want[2] || seen[3] != want[3] {
			t.Errorf("changes are %v, want %v", seen, want)
		}
	})
}

func TestWatchdogStartsOnAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ballast")
	mustWrite(t, path, strings.Repeat("left over", 1<<20))
	disk := &fakeDisk{ballast: path, total: 1000 * mib, used: 995 * mib}
	w, err := NewWatchdog(WatchdogOptions{
		Paths: []string{"/"}, Ballast: path, Reserve: 10 * mib, BallastSize: 4 * mib, Statfs: disk.statfs,
		Logger: zap.NewNop(),
	})
	if err != nil || !w.Low() {
		t.Fatalf("low %v, %v", w.Low(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != mib {
		t.Errorf("of the ballast is left on a full disk: %v, %v", info, err)
	}
}

func TestWatchdogFitsSmallDisks(t *testing.T) {
	disk := &fakeDisk{total: 100 * mib, used: 50 * mib}
	disk.ballast = filepath.Join(t.TempDir(), "ballast")
	w, err := NewWatchdog(WatchdogOptions{
		Paths: []string{"/"}, Ballast: disk.ballast, Statfs: disk.statfs, Logger: zap.NewNop(),
	})
	if err != nil || w.Low() {
		t.Fatalf("low %v, %v", w.Low(), err)
	}
	info, err := os.Stat(disk.ballast)
	if err != nil || info.Size() != 100*mib/32 || w.Reserve() != 100*mib/16 {
		t.Errorf("ballast has %v bytes, %v, reserve is %d", info, err, w.Reserve())
	}
}

func TestWatchdogLooksAtEveryPath(t *testing.T) {
	for _, paths := range [][]string{{"/data", "/wal"}, {"/wal", "/data"}} {
		w, err := NewWatchdog(WatchdogOptions{Paths: paths, Logger: zap.NewNop(),
			Statfs: func(path string) (Space, error) {
				if path == "/wal" {
					return Space{Free: mib, Total: 1000 * mib}, nil
				}
				return Space{Free: 900 * mib, Total: 1000 * mib}, nil
			}})
		if err != nil || !w.Low() {
			t.Errorf("one of two disks %v is full: low %v, %v", paths, w.Low(), err)
		}
	}
}

func TestWatchdogOnTheRealDisk(t *testing.T) {
	dir := t.TempDir()
	w, err := NewWatchdog(WatchdogOptions{
		Paths: []string{dir}, Ballast: filepath.Join(dir, "ballast"), Reserve: 1, BallastSize: 3*mib + 5,
		Logger: zap.NewNop(),
	})
	if err != nil || w.Low() {
		t.Fatalf("low %v, %v", w.Low(), err)
	}
	if info, err := os.Stat(filepath.Join(dir, "ballast")); err != nil || info.Size() != 3*mib+5 {
		t.Errorf("ballast: %v, %v", info, err)
	}
	if _, err := NewWatchdog(WatchdogOptions{
		Paths: []string{filepath.Join(dir, "none")}, Logger: zap.NewNop(),
	}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
	zeros := filepath.Join(dir, "zeros")
	f, err := os.Create(zeros)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fillZeros(f, 2*mib+7); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 2*mib+7 {
		t.Errorf("filled with zeros: %v, %v", info, err)
	}
}
