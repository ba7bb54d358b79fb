package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Losing the leader stops writes for about one election timeout. Figures are
// printed; the bounds asserted are three times what is expected.
func TestLeaderLoss(t *testing.T) {
	const rounds = 10
	c := newCluster(t, 3, nil)
	ctx := testContext(t)
	var gaps []time.Duration
	written := 0
	for round := range rounds {
		old := c.leader()
		writer := c.members[old.id%3+1]
		writer.mustPut(name("before", round))
		start := time.Now()
		old.stop()
		closed := time.Since(start)
		if _, err := writer.put(ctx, name("after", round), 100); err != nil {
			t.Fatal(err)
		}
		gaps = append(gaps, time.Since(start))
		t.Logf("round %d: %v, of which %v until the leader had closed", round, gaps[round], closed)
		written += 2
		old.start(c.config(old))
	}
	slices.Sort(gaps)
	t.Logf("time without writes after the loss of the leader: median %v, max %v", gaps[rounds/2], gaps[rounds-1])
	if median := gaps[rounds/2]; median > 3*600*time.Millisecond {
		t.Errorf("median %v", median)
	}
	if longest := gaps[rounds-1]; longest > 3*1200*time.Millisecond {
		t.Errorf("longest %v", longest)
	}
	checkEntries(t, c.equal(), written)
}

// checkEntries makes sure that entries holds want different names. Entries that
// were proposed again are there more than once: telling them apart is the state
// machine's business.
func checkEntries(t testing.TB, entries []string, want int) {
	t.Helper()
	names := map[string]bool{}
	for _, e := range entries {
		names[e[:24]] = true
	}
	if len(names) != want {
		t.Errorf("%d different entries, want %d", len(names), want)
	}
}

// gate is a Hold for the writers of a test.
type gate struct{ mu sync.RWMutex }

func (g *gate) hold() func() {
	g.mu.Lock()
	return g.mu.Unlock
}

// load writes at every member until stop is called, which returns how many
// entries were acknowledged and the longest time one took.
func (c *cluster) load(ctx context.Context, writers int, gates map[uint64]*gate) (stop func() (int, time.Duration)) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var total, longest atomic.Int64
	for _, m := range c.live() {
		for w := range writers {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					start := time.Now()
					if err := m.putThrough(gates[m.id], name(fmt.Sprintf("%d-%d", m.id, w), i)); err != nil {
						c.t.Errorf("write at member %d: %v", m.id, err)
						return
					}
					total.Add(1)
					for d := int64(time.Since(start)); ; {
						old := longest.Load()
						if d <= old || longest.CompareAndSwap(old, d) {
							break
						}
					}
				}
			})
		}
	}
	return func() (int, time.Duration) {
		cancel()
		wg.Wait()
		return int(total.Load()), time.Duration(longest.Load())
	}
}

// putThrough writes one entry, proposing only while the gate is open.
func (m *member) putThrough(g *gate, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := m.acks.wait(key)
	entry := append([]byte(key), make([]byte, 200)...)
	for {
		if g != nil {
			g.mu.RLock()
		}
		err := m.node.Propose(entry)
		if g != nil {
			g.mu.RUnlock()
		}
		if err != nil && err != ErrBusy {
			return err
		}
		select {
		case <-done:
			return nil
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestTransferUnderLoad(t *testing.T) {
	const rounds = 10
	gates := map[uint64]*gate{1: {}, 2: {}, 3: {}}
	c := newCluster(t, 3, nil)
	c.leader()
	ctx := testContext(t)
	stop := c.load(ctx, 16, gates)
	var times []time.Duration
	for range rounds {
		from := c.leader()
		target := from.id%3 + 1
		start := time.Now()
		if err := from.node.TransferLeadership(ctx, target, gates[from.id].hold); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(start))
		if s := from.node.Status(); s.Leader != target {
			t.Errorf("leader is %d after a transfer to %d", s.Leader, target)
		}
	}
	total, longest := stop()
	slices.Sort(times)
	t.Logf("%d transfers under load: median %v, max %v; %d writes, the longest took %v", rounds, times[rounds/2], times[rounds-1], total, longest)
	checkEntries(t, c.equal(), total)
}

// A member that is about to stop hands over first, so that nobody waits for an
// election.
func TestHandOverBeforeStop(t *testing.T) {
	c := newCluster(t, 3, nil)
	ctx := testContext(t)
	for round := range 3 {
		old := c.leader()
		writer := c.members[old.id%3+1]
		writer.mustPut(name("before", round))
		start := time.Now()
		if err := old.node.HandOver(ctx, nil); err != nil {
			t.Fatal(err)
		}
		old.stop()
		if _, err := writer.put(ctx, name("after", round), 100); err != nil {
			t.Fatal(err)
		}
		t.Logf("stopped the leader and wrote in %v", time.Since(start))
		old.start(c.config(old))
	}
	for _, m := range c.live() {
		if !m.node.Status().IsLeader() {
			if err := m.node.HandOver(ctx, nil); err != nil {
				t.Errorf("nothing to hand over: %v", err)
			}
		}
	}
	checkEntries(t, c.equal(), 6)
}

func TestTransferNeedsAVoter(t *testing.T) {
	c := newCluster(t, 1, nil)
	m := c.leader()
	if err := m.node.TransferLeadership(testContext(t), 9, nil); err == nil {
		t.Error("transferred to nobody")
	}
	if err := m.node.TransferLeadership(testContext(t), m.id, nil); err != nil {
		t.Errorf("transfer to itself: %v", err)
	}
	if err := m.node.HandOver(testContext(t), nil); err != nil {
		t.Errorf("hand over with nobody there: %v", err)
	}
}
