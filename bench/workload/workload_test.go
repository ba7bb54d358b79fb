package workload

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestKey(t *testing.T) {
	for n, want := range map[int]string{0: "00000000", 7: "00000007", 99_999: "00099999", 12_345_678: "12345678"} {
		if got := string(Key(n)); got != want {
			t.Errorf("key %d is %q, want %q", n, got, want)
		}
	}
}

func TestLatencyKeepsOnePercent(t *testing.T) {
	l := NewLatency()
	for ms := range 1000 {
		l.Record(time.Duration(ms+1) * time.Millisecond)
	}
	for percent, want := range map[float64]time.Duration{50: 500 * time.Millisecond, 99: 990 * time.Millisecond} {
		if got := l.Quantile(percent); got < want*99/100 || got > want*101/100 {
			t.Errorf("p%v is %s, want %s within one percent", percent, got, want)
		}
	}
	other := NewLatency()
	other.Record(time.Hour) // beyond the range, counts as its end
	other.Record(0)
	other.Add(l)
	if other.Count() != 1002 || other.Quantile(100) < 9*time.Minute {
		t.Errorf("%d recorded, the longest %s", other.Count(), other.Quantile(100))
	}
}

func TestGapIsTheLongestWithoutAck(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	g := NewGap(start)
	for _, ms := range []int{5, 10, 400, 410} {
		g.Ack(at(ms))
	}
	if got := g.Longest(at(420)); got != 390*time.Millisecond {
		t.Errorf("longest is %s, want 390ms", got)
	}
	if got := g.Longest(at(2410)); got != 2*time.Second {
		t.Errorf("with the gap still open, longest is %s, want 2s", got)
	}
	g.Reset()
	g.Ack(at(510))
	if got := g.Longest(at(510)); got != 100*time.Millisecond {
		t.Errorf("a gap that began before Reset is %s, want 100ms", got)
	}
	if g.Acks() != 1 || g.SinceAck(at(530)) != 20*time.Millisecond {
		t.Errorf("%d acks, the last %s ago", g.Acks(), g.SinceAck(at(530)))
	}
}

func TestUnsentIsOnlyWhatNeverLeft(t *testing.T) {
	refused := status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: connection refused"`)
	if !unsent(refused) {
		t.Error("a refused connection counts as sent")
	}
	for _, sent := range []error{
		status.Error(codes.Unavailable, "etcdserver: leader changed"),
		status.Error(codes.Unknown, "error while dialing"), errors.New("x"),
	} {
		if unsent(sent) {
			t.Errorf("%v counts as unsent", sent)
		}
	}
}

// pause is an operation of known length; every failEvery-th fails.
func pause(d time.Duration, failEvery int64) (Op, *atomic.Int64) {
	var calls atomic.Int64
	return func(context.Context, int, *rand.Rand) error {
		time.Sleep(d)
		if n := calls.Add(1); failEvery > 0 && n%failEvery == 0 {
			return errors.New("refused")
		}
		return nil
	}, &calls
}

func TestLoopCountsItsWindowOnly(t *testing.T) {
	op, calls := pause(5*time.Millisecond, 0)
	edges := 0
	res, err := Loop{
		Clients: 4, Op: op, WarmUp: time.Second, Window: 200 * time.Millisecond,
		Edge: func() error { edges++; return nil },
	}.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if edges != 2 {
		t.Errorf("%d edges of the window, want 2", edges)
	}
	most := int64(res.Window/(5*time.Millisecond)+2) * 4
	if n := res.Latency.Count(); n == 0 || n > most {
		t.Errorf("%d operations of 5ms counted in %s by 4 clients", n, res.Window)
	}
	if outside := calls.Load() - res.Latency.Count(); outside < 8 {
		t.Errorf("%d operations outside the window: the warm-up was counted", outside)
	}
	if p50 := res.Latency.Quantile(50); p50 < 4900*time.Microsecond {
		t.Errorf("p50 is %s for operations that take 5ms", p50)
	}
}

func TestLoopCountsErrorsApart(t *testing.T) {
	op, _ := pause(time.Millisecond, 2)
	res, err := Loop{Clients: 2, Op: op, Window: 200 * time.Millisecond}.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if res.Errors == 0 || res.FirstError == nil || res.Latency.Count() == 0 {
		t.Errorf("%d errors, first %v, %d operations", res.Errors, res.FirstError, res.Latency.Count())
	}
}

func TestLoopStopsWithItsContext(t *testing.T) {
	op, _ := pause(time.Millisecond, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := (Loop{Clients: 2, Op: op, Window: time.Minute}).Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s to stop", took)
	}
}

func TestWatchPlanGivesEveryKeyItsWatchers(t *testing.T) {
	p := WatchPlan{Streams: 3, PerStream: 5, SharedPerStream: 2}
	watchers := map[string]int{}
	for s := range p.Streams {
		for i := range p.PerStream {
			watchers[string(p.key(s, i))]++
		}
	}
	if watchers[string(p.SharedKey())] != p.Shared() || p.Shared() != 6 {
		t.Errorf("%d watch the shared key, want 6", watchers[string(p.SharedKey())])
	}
	for n := range p.Sole() {
		if got := watchers[string(p.SoleKey(n))]; got != 1 {
			t.Errorf("%d watch sole key %d, want 1", got, n)
		}
	}
	if len(watchers) != p.Sole()+1 || p.Sole() != 9 {
		t.Errorf("%d keys watched, want 9 sole ones and the shared one", len(watchers))
	}
}
