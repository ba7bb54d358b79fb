package logstore

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
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
	for seed := range seeds(20) {
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

// crashAt makes a clone of fs as a crash before the at-th operation leaves it. A
// goroutine of Pebble's own may have come to that operation, while the caller of
// the store goes on.
type crashAt struct {
	fs    *vfs.MemFS
	rng   *rand.Rand
	at    int64
	ops   atomic.Int64
	clone chan *vfs.MemFS
}

func newCrashAt(fs *vfs.MemFS, rng *rand.Rand, at int) *crashAt {
	return &crashAt{fs: fs, rng: rng, at: int64(at), clone: make(chan *vfs.MemFS, 1)}
}

func (c *crashAt) wrap() vfs.FS {
	return errorfs.Wrap(c.fs, errorfs.InjectorFunc(func(errorfs.Op) error {
		if c.ops.Add(1) == c.at {
			c.clone <- crash(c.fs, c.rng)
		}
		return nil
	}))
}

// begun says whether the crash may have happened; what returned while it had not
// is in the clone. That there is a clone says less: calls may have returned between
// the making of the clone and its arrival.
func (c *crashAt) begun() bool { return c.ops.Load() >= c.at }

// A crash in the middle of a call or of an open, then another in the middle of
// the open that follows, lose nothing that was synced before.
func TestCrashAnywhere(t *testing.T) {
	for seed := range seeds(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(seed)
			c := newCrashAt(vfs.NewCrashableMem(), rand.New(rand.NewPCG(seed, 2)), 1+h.rng.IntN(400))
			fs := c.wrap()
			var allowed, p past
			p.add(h.twins, true)
			s := openStore(t, fs, testDir)
			for i := 0; !c.begun(); i++ {
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
			fs1 := <-c.clone
			s.Close()
			if len(allowed) == 0 { // in the first open
				allowed = p
			}
			for round := range 3 {
				d := newCrashAt(fs1, c.rng, 1+h.rng.IntN(60))
				s := openStore(t, d.wrap(), testDir)
				if _, err := allowed.find(s, h.rng); err != nil {
					t.Fatalf("open %d: %v", round, err)
				}
				s.Close()
				if !d.begun() {
					break
				}
				fs1 = <-d.clone
			}
		})
	}
}

// A crash anywhere in an open leaves a store that opens, whatever part of what was
// not synced it keeps.
func TestCrashInOpen(t *testing.T) {
	const entries = 20
	mem := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(1, 4))
	var mu sync.Mutex
	var opening bool
	var clones []*vfs.MemFS
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		for i := 0; opening && i < 8; i++ {
			clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}))
		}
		return nil
	}))
	for _, want := range []uint64{0, entries} {
		mu.Lock()
		clones, opening = nil, true
		mu.Unlock()
		s := openStore(t, fs, testDir)
		mu.Lock()
		opening = false
		mu.Unlock()
		for i, clone := range clones {
			if last, err := reopened(clone); err != nil || last != want {
				t.Errorf("clone %d of an open: the log ends at %d of %d, %v", i, last, want, err)
			}
		}
		for i := range entries - want {
			appendOne(t, s, i+1)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What cannot be written is an error, also of all later writes, and what was
// saved before is there after a restart.
func TestWriteFails(t *testing.T) {
	for seed := range seeds(30) {
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
			db, err := Factory{
				FS: fs, OnFatal: func(msg string) { fatal.Store(&msg) },
			}.Create(config.NodeHostConfig{}, nil, []string{testDir}, nil)
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
					if msg := fatal.Load(); msg == nil || !strings.Contains(*msg, disk.Error()) ||
						!strings.Contains(err.Error(), *msg) {
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
