package exampletest

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coord-dev/coord/client"
)

// BenchmarkLock is acquire and release of a lock nobody else wants: 64 goroutines for each processor, each with a lock
// of its own, all in one session.
func BenchmarkLock(b *testing.B) {
	c, err := client.New(client.Config{Endpoints: []string{endpoint}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for name, acquire := range map[string]func(*client.Lock) (*client.Held, error){
		"acquire": func(l *client.Lock) (*client.Held, error) { return l.Acquire(b.Context()) },
		"try":     func(l *client.Lock) (*client.Held, error) { return l.TryAcquire(b.Context()) },
	} {
		b.Run(name, func(b *testing.B) {
			var next atomic.Int64
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				lock := c.Lock(fmt.Sprintf("bench/%s/%d", name, next.Add(1)))
				for pb.Next() {
					held, err := acquire(lock)
					if err != nil {
						b.Error(err)
						return
					}
					if err := held.Release(b.Context()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkSemaphore is acquire and release of one permit by 512 goroutines of one session, for several limits.
func BenchmarkSemaphore(b *testing.B) {
	c, err := client.New(client.Config{Endpoints: []string{endpoint}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for _, limit := range []int64{1, 16, 256, 1024} {
		b.Run(fmt.Sprint(limit), func(b *testing.B) {
			sem := c.Semaphore(fmt.Sprint("bench/semaphore/", limit), limit)
			b.SetParallelism(512 / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					held, err := sem.Acquire(b.Context(), 1)
					if err != nil {
						b.Error(err)
						return
					}
					if err := held.Release(b.Context()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkBarrier is 1,000 parties that enter and leave.
func BenchmarkBarrier(b *testing.B) {
	c, err := client.New(client.Config{Endpoints: []string{endpoint}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const parties = 1000
	barrier := c.Barrier("bench/barrier", parties)
	var running sync.WaitGroup
	for range parties {
		running.Go(func() {
			for range b.N {
				inside, err := barrier.Enter(b.Context())
				if err != nil {
					b.Error(err)
					return
				}
				if err := inside.Leave(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
}

// BenchmarkHandOff is one lock that 16 sessions' worth of goroutines pass around.
func BenchmarkHandOff(b *testing.B) {
	c, err := client.New(client.Config{Endpoints: []string{endpoint}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		lock := c.Lock("bench/handoff")
		for pb.Next() {
			held, err := lock.Acquire(b.Context())
			if err != nil {
				b.Error(err)
				return
			}
			if err := held.Release(b.Context()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkKV is writes and reads by 1, 64 and 512 goroutines of one client.
func BenchmarkKV(b *testing.B) {
	c, err := client.New(client.Config{Endpoints: []string{endpoint}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	value := strings.Repeat("x", 256)
	for name, do := range map[string]func(key string) error{
		"put": func(key string) error { return second(c.Put(b.Context(), key, value)) },
		"get": func(key string) error { return second(c.Get(b.Context(), key)) },
	} {
		for _, callers := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("%s/%d", name, callers), func(b *testing.B) {
				var left atomic.Int64
				left.Store(int64(b.N))
				var group sync.WaitGroup
				for i := range callers {
					group.Go(func() {
						for left.Add(-1) >= 0 {
							if err := do(fmt.Sprint("bench/", i)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				group.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
			})
		}
	}
}

// BenchmarkCounter is additions to one counter by 512 goroutines of one session, and numbers of one sequence.
func BenchmarkCounter(b *testing.B) {
	c, err := client.New(client.Config{Endpoints: []string{endpoint}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for name, change := range map[string]func() (int64, error){
		"add":  func() (int64, error) { return c.Counter("bench").Add(b.Context(), 1) },
		"next": func() (int64, error) { return c.Sequence("bench").Next(b.Context()) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(512 / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := change(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
