package logstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/config"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

func onDisk(*cluster) config.LogDBFactory { return Factory{} }

// BenchmarkSave saves entries of 300 bytes one at a time on the real file
// system.
func BenchmarkSave(b *testing.B) {
	db, err := Factory{}.Create(config.NodeHostConfig{}, nil, []string{b.TempDir()}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	s := db.(*store)
	var index uint64
	b.Run("entry", func(b *testing.B) {
		for range b.N {
			index++
			appendOne(b, s, index)
		}
	})
	b.Run("commit-only", func(b *testing.B) {
		for i := range b.N {
			u := pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Commit: uint64(i % 2)}}
			if err := s.SaveRaftState([]pb.Update{u}, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPropose compares the store with Dragonboat's own. Both clusters run
// all the time and are loaded in turns, so that what else the machine does
// touches both. ratio is how many times faster the store is.
func BenchmarkPropose(b *testing.B) {
	for _, size := range []int{1, 3} {
		for _, clients := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("members=%d/clients=%d", size, clients), func(b *testing.B) {
				theirs, ours := newCluster(b, size, 0, nil), newCluster(b, size, 0, onDisk)
				defer ours.stop()
				defer theirs.stop()
				var took [2]time.Duration
				const rounds = 10
				each := max(b.N/rounds, clients)
				for range rounds {
					for i, c := range []*cluster{theirs, ours} {
						took[i] += c.load(b, clients, each)
					}
				}
				n := float64(rounds * each)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(n/took[0].Seconds(), "default-writes/s")
				b.ReportMetric(n/took[1].Seconds(), "logstore-writes/s")
				b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "ratio")
			})
		}
	}
}

// load proposes n commands through the leader and returns how long that took.
func (c *cluster) load(b *testing.B, clients, n int) time.Duration {
	leader := c.leader()
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if !leader.propose(context.Background(), command(uint64(i), 300)) {
					b.Error("proposal failed")
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}
