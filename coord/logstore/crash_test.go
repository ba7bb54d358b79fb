package logstore

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
)

// past is what a crash may leave: the states after the last durable step and
// after each step since, in order.
type past []map[raftio.NodeInfo]*twin

func (p *past) add(twins map[raftio.NodeInfo]*twin, durable bool) {
	if durable {
		*p = (*p)[:0]
	}
	now := maps.Clone(twins)
	for node, w := range now {
		now[node] = w.clone()
	}
	*p = append(*p, now)
}

// find returns the state that the store is in, or why it is in none.
func (p past) find(s *store, rng *rand.Rand) (map[raftio.NodeInfo]*twin, error) {
	var all error
	for i := len(p) - 1; i >= 0; i-- {
		var err error
		for node, w := range p[i] {
			if e := w.check(s, node, rng); e != nil {
				err = fmt.Errorf("not the state %d of %d: %s: %w", i, len(p), name(node), e)
			}
		}
		if err == nil {
			return p[i], nil
		}
		all = errors.Join(all, err)
	}
	return nil, all
}

func crash(fs *vfs.MemFS, rng *rand.Rand) *vfs.MemFS {
	cfg := vfs.CrashCloneCfg{}
	if rng.IntN(2) == 0 {
		cfg.UnsyncedDataPercent, cfg.RNG = 1+rng.IntN(100), rand.New(rand.NewPCG(rng.Uint64(), 3))
	}
	return fs.CrashClone(cfg)
}

// What was saved with a sync survives a crash between two calls, and what was
// not survives in order.
func TestCrash(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			s := openStore(t, fs, testDir)
			h := newHistory(seed)
			var p past
			p.add(h.twins, true)
			for i := range 200 {
				_, durable, err := h.step(s)
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				p.add(h.twins, durable)
				if h.rng.IntN(10) != 0 {
					continue
				}
				after := crash(fs, h.rng)
				s.Close() // has no effect on after
				fs, s = after, openStore(t, after, testDir)
				if h.twins, err = p.find(s, h.rng); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				p = nil
				p.add(h.twins, true)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// crashAt wraps fs so that its clone after a crash before the n-th operation is
// kept.
type crashAt struct {
	fs    *vfs.MemFS
	rng   *rand.Rand
	at    int64
	ops   atomic.Int64
	clone atomic.Pointer[vfs.MemFS]
}

func (c *crashAt) wrap() vfs.FS {
	return errorfs.Wrap(c.fs, errorfs.InjectorFunc(func(errorfs.Op) error {
		if c.ops.Add(1) == c.at {
			c.clone.Store(crash(c.fs, c.rng))
		}
		return nil
	}))
}

// A crash in the middle of a call or of an open, then another in the middle of
// the open that follows, lose nothing that was synced before.
func TestCrashAnywhere(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(seed)
			c := &crashAt{fs: vfs.NewCrashableMem(), rng: rand.New(rand.NewPCG(seed, 2)), at: 1 + int64(h.rng.IntN(400))}
			fs := c.wrap()
			var allowed, p past
			p.add(h.twins, true)
			s := openStore(t, fs, testDir)
			for i := 0; c.clone.Load() == nil; i++ {
				_, durable, err := h.step(s)
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				allowed = append(past(nil), p...) // the crash may have come before the step
				p.add(h.twins, durable)
				allowed = append(allowed, p[len(p)-1])
				if h.rng.IntN(20) == 0 {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = openStore(t, fs, testDir)
				}
			}
			s.Close()
			if len(allowed) == 0 { // in the first open
				allowed = p
			}
			fs1 := c.clone.Load()
			for round := range 3 {
				d := &crashAt{fs: fs1, rng: c.rng, at: 1 + int64(h.rng.IntN(60))}
				s := openStore(t, d.wrap(), testDir)
				if _, err := allowed.find(s, h.rng); err != nil {
					t.Fatalf("open %d: %v", round, err)
				}
				s.Close()
				if fs1 = d.clone.Load(); fs1 == nil {
					break
				}
			}
		})
	}
}

// What cannot be written is an error, also of all later writes, and what was
// saved before is there after a restart.
func TestWriteFails(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(seed)
			mem := vfs.NewCrashableMem()
			var on atomic.Bool
			disk := errors.New("disk is gone")
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if on.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
					return disk
				}
				return nil
			}))
			var fatal atomic.Pointer[string]
			db, err := Factory{FS: fs, OnFatal: func(msg string) { fatal.Store(&msg) }}.Create(config.NodeHostConfig{}, nil, []string{testDir}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := db.(*store)
			var p past
			p.add(h.twins, true)
			for i := 0; ; i++ {
				on.Store(i >= 50)
				_, durable, err := h.step(s)
				if err != nil {
					if msg := fatal.Load(); msg == nil || !strings.Contains(*msg, disk.Error()) || !strings.Contains(err.Error(), *msg) {
						t.Errorf("error %q, fatal message %v", err, msg)
					}
					break
				}
				if i > 1000 {
					t.Fatal("writes do not fail")
				}
				if i > 50 && durable {
					t.Fatalf("step %d is durable on a disk that fails", i)
				}
				p.add(h.twins, durable)
			}
			if err := s.SaveBootstrapInfo(1, 1, h.bootstrap()); err == nil {
				t.Error("write after a failed write succeeded")
			}
			if s.Close() == nil {
				t.Error("a store that failed closes as if nothing had been")
			}
			p.add(h.twins, false) // the failed write may be there
			after := openStore(t, crash(mem, h.rng), testDir)
			defer after.Close()
			if _, err := p.find(after, h.rng); err != nil {
				t.Error(err)
			}
		})
	}
}
