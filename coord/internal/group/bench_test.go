package group

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkPropose measures entries applied a second at one member, with a window
// of entries under way.
func BenchmarkPropose(b *testing.B) {
	for _, size := range []int{1, 3} {
		for _, window := range []int{1, 64} {
			b.Run(fmt.Sprintf("members=%d/window=%d", size, window), func(b *testing.B) {
				c := newCluster(b, size, nil)
				m := c.leader()
				var wg sync.WaitGroup
				var next atomic.Int64
				b.ResetTimer()
				for w := range window {
					wg.Go(func() {
						for i := 0; next.Add(1) <= int64(b.N); i++ {
							if _, err := m.put(context.Background(), name(fmt.Sprint(w), i), 256); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// BenchmarkReadIndex measures linearizable barriers with many callers.
func BenchmarkReadIndex(b *testing.B) {
	for _, size := range []int{1, 3} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("members=%d/callers=%d", size, callers), func(b *testing.B) {
				c := newCluster(b, size, nil)
				m := c.leader()
				m.mustPut(name("w", 0))
				var wg sync.WaitGroup
				var next atomic.Int64
				b.ResetTimer()
				for range callers {
					wg.Go(func() {
						for next.Add(1) <= int64(b.N) {
							if err := m.node.ReadIndex(context.Background()); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
