package crashtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// writers write keys that differ, each once, and remember what was acknowledged.
type writers struct {
	t       *testing.T
	attempt time.Duration
	stop    context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex
	// acked has the revision of each write that was acknowledged.
	acked map[string]int64
	// failed counts the writes that were not acknowledged, since the last begin; failure is the first.
	failed  int
	failure error
	// last is when a write was last acknowledged, longest the longest time without since the last begin.
	last    time.Time
	longest time.Duration
	acks    int // since the last begin
}

// startWriters starts n writers. Each has a client of its own that knows all members; attempt bounds one write. The
// test's end stops them.
func startWriters(t *testing.T, c *cluster, n int, attempt time.Duration) *writers {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &writers{t: t, attempt: attempt, stop: stop, acked: make(map[string]int64), last: time.Now()}
	for i := range n {
		cli := c.dial()
		w.running.Go(func() { w.write(ctx, cli, i) })
	}
	t.Cleanup(w.finish)
	w.calm(0)
	return w
}

// finish stops the writers. It can be repeated.
func (w *writers) finish() {
	w.stop()
	w.running.Wait()
}

func (w *writers) write(ctx context.Context, cli *clientv3.Client, id int) {
	for seq := 0; ctx.Err() == nil; seq++ {
		key := fmt.Sprintf("written/%03d/%07d", id, seq)
		attempt, cancel := context.WithTimeout(ctx, w.attempt)
		resp, err := cli.Put(attempt, key, "value of "+key)
		cancel()
		switch {
		case err == nil:
			w.note(key, resp.Header.Revision)
		case ctx.Err() == nil:
			w.fail(fmt.Errorf("put %s: %w", key, err))
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func (w *writers) note(key string, rev int64) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked[key] = rev
	w.longest = max(w.longest, now.Sub(w.last))
	w.last = now
	w.acks++
}

func (w *writers) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == 0 {
		w.failure = err
	}
	w.failed++
}

// begin forgets failures and gaps so far.
func (w *writers) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed, w.failure, w.longest, w.acks = 0, nil, 0, 0
}

// gap is the longest time without an acknowledged write since the last begin.
func (w *writers) gap() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.longest, time.Since(w.last))
}

// failures is how many writes failed since the last begin, and the first of them.
func (w *writers) failures() (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed, w.failure
}

// calm waits for at least atLeast, and until writes flow.
func (w *writers) calm(atLeast time.Duration) {
	w.t.Helper()
	const flowing = 100 * time.Millisecond
	w.mu.Lock()
	before := len(w.acked)
	w.mu.Unlock()
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		flows := len(w.acked) > before && time.Since(w.last) < flowing
		w.mu.Unlock()
		if flows && time.Since(begin) >= atLeast {
			return
		}
	}
	_, err := w.failures()
	w.t.Fatalf("no steady writes within %v: %v", patience, err)
}

// check stops the writers, and sees that every write that was acknowledged is there as it was acknowledged, and that no
// write was executed twice.
func (w *writers) check(cli *clientv3.Client) {
	w.t.Helper()
	w.finish()
	got, err := cli.Get(within(w.t, patience), "written/", clientv3.WithPrefix())
	if err != nil {
		w.t.Fatal(err)
	}
	stored := make(map[string]int64, len(got.Kvs))
	for _, kv := range got.Kvs {
		key := string(kv.Key)
		stored[key] = kv.ModRevision
		if kv.Version != 1 || string(kv.Value) != "value of "+key {
			w.t.Errorf("%s was written once and is there with version %d and value %q", key, kv.Version, kv.Value)
		}
	}
	var missing []string
	for key, rev := range w.acked {
		if stored[key] != rev {
			missing = append(missing, fmt.Sprintf("%s acknowledged at %d, found at %d", key, rev, stored[key]))
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		w.t.Errorf("%d of %d acknowledged writes are missing or moved, among them %v", len(missing), len(w.acked),
			missing[:min(10, len(missing))])
	}
	w.t.Logf("%d acknowledged writes, all there; %d more executed without the client's knowing", len(w.acked),
		len(stored)-len(w.acked))
}

// gaps are the longest times without an acknowledged write, one for each disturbance of a kind.
type gaps []time.Duration

// report prints the gaps in units of the election timeout, and asserts the bounds with threefold slack: median at most
// twice, maximum at most four times the election timeout.
func (g gaps) report(t *testing.T, what string) {
	t.Helper()
	slices.Sort(g)
	units := func(d time.Duration) float64 { return float64(d) / float64(electionTimeout) }
	median, longest := units(g[(len(g)-1)/2]), units(g[len(g)-1])
	t.Logf("longest time without an acknowledged write, %s, %d times: median %.2f, max %.2f election timeouts of %v",
		what, len(g), median, longest, electionTimeout)
	if median > 3*2 || longest > 3*4 {
		t.Errorf("%s: nobody could write for too long: %v", what, []time.Duration(g))
	}
}
