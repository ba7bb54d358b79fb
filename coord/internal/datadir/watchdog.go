package datadir

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// DefaultReserve and DefaultBallast are the sizes on a file system that is large enough, in bytes.
	DefaultReserve = 64 << 20
	DefaultBallast = 32 << 20
	// DefaultInterval is the time between two looks at the free space: short, as others may fill the disk, and cheap.
	DefaultInterval = 100 * time.Millisecond
	// reserveShare and ballastShare bound both on a small file system: to a share of its size.
	reserveShare = 16
	ballastShare = 32
)

// Space is the size of a file system and what this process may still write to it, in bytes.
type Space struct {
	Free, Total uint64
}

// WatchdogOptions says what a Watchdog watches.
type WatchdogOptions struct {
	// Paths are directories; the file systems they are on are watched. Required.
	Paths []string
	// Ballast is where the ballast lies, on the file system of the first path. No ballast if empty.
	Ballast string
	// Reserve is the free space, in bytes, below which the disk is low; no more than a sixteenth of the smallest file
	// system is asked for. Default DefaultReserve.
	Reserve uint64
	// BallastSize is the ballast's, in bytes; no more than a thirty-second of the smallest file system. Default
	// DefaultBallast.
	BallastSize uint64
	// Interval is the time between two looks. Default DefaultInterval.
	Interval time.Duration
	// OnChange, if set, is called with the new Low after each change of it, from Run, and must not block for long.
	OnChange func(low bool)
	// Statfs looks at the file system of a path; the real one if nil.
	Statfs func(path string) (Space, error)
	// Logger is required.
	Logger *zap.Logger
}

// A Watchdog sees that a disk fills up before a write fails for it. It keeps a ballast: a file that is given up when
// the free space falls below the reserve, so that there is room for what must still be written. A quarter of it is kept
// for a start on a disk that is full to the last byte, see Dir: so a process leaves it that dies while a store
// compacts. The disk is low from then until there is room for the ballast again and a quarter of the reserve more than
// was missing, so that deleting the ballast alone does not make the disk look well.
type Watchdog struct {
	o   WatchdogOptions
	low atomic.Bool
}

// NewWatchdog takes a first look and lays out the ballast if there is room. Low is right when it returns.
func NewWatchdog(o WatchdogOptions) (*Watchdog, error) {
	w := &Watchdog{o: o}
	w.ensureDefaults()
	smallest, err := w.space()
	if err != nil {
		return nil, err
	}
	w.o.Reserve = min(w.o.Reserve, smallest.Total/reserveShare)
	w.o.BallastSize = min(w.o.BallastSize, smallest.Total/ballastShare)
	return w, w.start()
}

func (w *Watchdog) ensureDefaults() {
	if w.o.Reserve == 0 {
		w.o.Reserve = DefaultReserve
	}
	if w.o.BallastSize == 0 {
		w.o.BallastSize = DefaultBallast
	}
	if w.o.Ballast == "" {
		w.o.BallastSize = 0
	}
	if w.o.Interval == 0 {
		w.o.Interval = DefaultInterval
	}
	if w.o.Statfs == nil {
		w.o.Statfs = statfs
	}
}

// start decides about a disk as it was found: a ballast that is there counts as used, one that is not must fit.
func (w *Watchdog) start() error {
	s, err := w.space()
	if err != nil {
		return err
	}
	if s.Free < w.o.Reserve || (!w.hasBallast() && s.Free < w.o.Reserve+w.o.BallastSize) {
		w.low.Store(true)
		w.o.Logger.Warn("disk space is low", zap.Strings("paths", w.o.Paths), zap.Uint64("free-bytes", s.Free),
			zap.Uint64("reserve-bytes", w.o.Reserve))
		return w.release()
	}
	return w.fill()
}

// Low reports whether the free space is below the reserve, or has not recovered since it was.
func (w *Watchdog) Low() bool { return w.low.Load() }

// Reserve is the free space below which the disk is low, in bytes, as it was fitted to the file system.
func (w *Watchdog) Reserve() uint64 { return w.o.Reserve }

// Run looks at the disk until the context ends, and returns the context's error.
func (w *Watchdog) Run(ctx context.Context) error {
	tick := time.NewTicker(w.o.Interval)
	defer tick.Stop()
	said := "" // an error that stays is told once
	for {
		select {
		case <-tick.C:
			err := w.look()
			if err != nil && err.Error() != said {
				w.o.Logger.Error("look at the disk space", zap.Error(err))
			}
			if said = ""; err != nil {
				said = err.Error()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look compares the free space with the reserve once.
func (w *Watchdog) look() error {
	s, err := w.space()
	if err != nil {
		return err
	}
	switch {
	case !w.Low() && s.Free < w.o.Reserve:
		return w.becomeLow(s)
	case w.Low() && s.Free+w.ballast() >= w.o.Reserve+w.o.BallastSize+w.o.Reserve/4:
		return w.recover(s)
	}
	return nil
}

func (w *Watchdog) becomeLow(s Space) error {
	w.change(true)
	w.o.Logger.Warn("disk space is low: releasing the ballast", zap.Strings("paths", w.o.Paths),
		zap.Uint64("free-bytes", s.Free), zap.Uint64("reserve-bytes", w.o.Reserve))
	return w.release()
}

// recover restores the ballast before anybody may write again.
func (w *Watchdog) recover(s Space) error {
	if err := w.fill(); err != nil {
		return err
	}
	w.o.Logger.Info("disk space is sufficient again", zap.Strings("paths", w.o.Paths), zap.Uint64("free-bytes", s.Free))
	w.change(false)
	return nil
}

func (w *Watchdog) change(low bool) {
	w.low.Store(low)
	if w.o.OnChange != nil {
		w.o.OnChange(low)
	}
}

// space is the least free space, and the least size, of all watched file systems.
func (w *Watchdog) space() (Space, error) {
	least := Space{Free: ^uint64(0), Total: ^uint64(0)}
	for _, path := range w.o.Paths {
		s, err := w.o.Statfs(path)
		if err != nil {
			return Space{}, fmt.Errorf("free space of %q: %w", path, err)
		}
		least.Free, least.Total = min(least.Free, s.Free), min(least.Total, s.Total)
	}
	return least, nil
}

// minRoom is what must be free for more to be written beside the stores, which cannot go on without.
const minRoom = 16 << 20

// Room returns why nothing should be written that the stores do not need to go on. It looks at the disk.
func (w *Watchdog) Room() error {
	s, err := w.space()
	if err == nil && s.Free < minRoom {
		err = fmt.Errorf("%d bytes are free on disk, at least %d are kept for the stores", s.Free, minRoom)
	}
	return err
}

func (w *Watchdog) hasBallast() bool { return w.ballast() >= w.o.BallastSize }

// ballast is how much of it is there, in bytes.
func (w *Watchdog) ballast() uint64 {
	info, err := os.Stat(w.o.Ballast)
	if err != nil {
		return 0
	}
	return uint64(info.Size())
}

// fill lays out the ballast if it is not there. Its blocks are really taken, which a sparse file's would not be.
func (w *Watchdog) fill() error {
	if w.o.Ballast == "" || w.hasBallast() {
		return nil
	}
	if err := preallocate(w.o.Ballast, int64(w.o.BallastSize)); err != nil {
		os.Remove(w.o.Ballast) // half a ballast would be taken for none
		return fmt.Errorf("lay out the ballast %q of %d bytes: %w", w.o.Ballast, w.o.BallastSize, err)
	}
	return nil
}

// release leaves a quarter of the ballast.
func (w *Watchdog) release() error {
	last := w.o.BallastSize / 4
	if w.ballast() <= last {
		return nil
	}
	if err := os.Truncate(w.o.Ballast, int64(last)); err != nil {
		return fmt.Errorf("release the ballast %q: %w", w.o.Ballast, err)
	}
	return nil
}
