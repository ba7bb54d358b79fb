package exampletest

import (
	"fmt"
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
