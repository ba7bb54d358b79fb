package suite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/report"
	"github.com/coord-dev/coord/bench/workload"
)

// contender is a product with the election timeout it runs with.
type contender struct {
	peers.Product
	electionTimeout time.Duration
	sameTiming      bool // coord with etcd's timing and not its own
}

// contenders returns the replicated products with their defaults, and coord once more with etcd's timing, so that one
// comparison is of what users get and one of the same setting.
func (s *Suite) contenders() []contender {
	var out []contender
	for _, p := range s.replicated() {
		if p.Kind == peers.Etcd {
			out = append(out, contender{p, time.Second, false})
			continue
		}
		same := p.With(p.Name+"@1s", "--election-timeout=1000", "--heartbeat-interval=100")
		out = append(out, contender{p, 300 * time.Millisecond, false}, contender{same, time.Second, true})
	}
	return out
}

// disturbance is a cluster of three under writers that is about to be disturbed.
type disturbance struct {
	*peers.Cluster
	electionTimeout time.Duration
	gap             *workload.Gap

	failed struct {
		sync.Mutex
		number int
		first  error
	}
}

// disturb runs fn on a cluster of three that number writers write to, each put bounded by attempt.
func (s *Suite) disturb(
	ctx context.Context, p contender, number int, attempt time.Duration, fn func(context.Context, *disturbance) error,
) (err error) {
	c, err := peers.Start(ctx, p.Product, 3, s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	d := &disturbance{Cluster: c, electionTimeout: p.electionTimeout, gap: workload.NewGap(time.Now())}
	writers := workload.Writers{
		Endpoints: c.Endpoints(), Number: number, Attempt: attempt, ValueBytes: s.cfg.ValueBytes,
		Acked: d.gap.Ack, Failed: d.fail,
	}
	writing, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- writers.Run(writing) }()
	defer func() {
		stop()
		err = errors.Join(err, <-stopped)
	}()
	if err := d.calm(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	return fn(ctx, d)
}

func (d *disturbance) fail(err error) {
	d.failed.Lock()
	defer d.failed.Unlock()
	d.failed.number++
	if d.failed.first == nil {
		d.failed.first = err
	}
}

// begin forgets earlier gaps and failures.
func (d *disturbance) begin() {
	d.failed.Lock()
	defer d.failed.Unlock()
	d.failed.number = 0
	d.gap.Reset()
}

// recordGap adds the longest gap since begin.
func (d *disturbance) recordGap(rec *report.Record) {
	gap := d.gap.Longest(time.Now())
	rec.Add(report.GapTime, gap.Seconds())
	rec.Add(report.GapPerTimeout, float64(gap)/float64(d.electionTimeout))
}

// record adds the longest gap and the failed writes since begin.
func (d *disturbance) record(rec *report.Record) {
	d.recordGap(rec)
	d.failed.Lock()
	defer d.failed.Unlock()
	rec.Add(report.FailedWrites, float64(d.failed.number))
	if d.failed.first != nil {
		rec.Note = "first failed write: " + d.failed.first.Error()
	}
}

// recoveryTimeout is how long the writers may stand still before a run is given up.
const recoveryTimeout = 60 * time.Second

// calm waits for at least atLeast, and until writes flow.
func (d *disturbance) calm(ctx context.Context, atLeast time.Duration) error {
	const flowing, look = 100 * time.Millisecond, 10 * time.Millisecond
	begin := time.Now()
	before := d.gap.Acks()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
		waited := time.Since(begin)
		if waited >= atLeast && d.gap.Acks() > before && d.gap.SinceAck(time.Now()) < flowing {
			return nil
		}
		if waited > recoveryTimeout {
			return fmt.Errorf("no steady writes for %s", waited.Round(time.Second))
		}
	}
}
