package suite

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/process"
	"github.com/coord-dev/coord/bench/report"
	"github.com/coord-dev/coord/bench/wire"
	"github.com/coord-dev/coord/bench/workload"
)

const (
	// sharedPerStream of the watchers of each stream watch one key: with 100 streams, a thousand.
	sharedPerStream = 10
	// fanOuts is how often each kind of event is timed.
	fanOuts = 200
	// idleClients put keys that nobody watches while all watchers are registered.
	idleClients = 64
	// watchSettle passes between registration and the look at memory and goroutines.
	watchSettle = time.Second
)

// watchers registers many watchers on one member and measures what they cost and how fast they hear.
func (s *Suite) watchers(ctx context.Context) error {
	if !s.selected(RowWatchers) {
		return nil
	}
	for _, p := range s.replicated() {
		s.logf("watchers: %s, %d streams of %d", p.Name, s.cfg.WatchStreams, s.cfg.WatchersPerStream)
		rec := report.Record{Row: RowWatchers, Peer: p.Name, Members: 1}
		err := s.watch(ctx, p, &rec)
		s.keep(rec, err)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Suite) watch(ctx context.Context, p peers.Product, rec *report.Record) (err error) {
	c, err := peers.Start(ctx, p, 1, s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	pool, err := wire.DialPool(c.Endpoints(), s.cfg.Conns)
	if err != nil {
		return err
	}
	defer pool.Close()
	plan := workload.WatchPlan{
		Streams: s.cfg.WatchStreams, PerStream: s.cfg.WatchersPerStream, SharedPerStream: sharedPerStream,
	}
	w, err := register(ctx, c.Members[0], pool, plan, rec)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := timeEvents(ctx, w, pool[0], plan, rec); err != nil {
		return err
	}
	return s.idlePuts(ctx, c, pool, rec)
}

// register opens the watchers and records what they cost the member.
func register(
	ctx context.Context, m *peers.Member, pool wire.Pool, plan workload.WatchPlan, rec *report.Record,
) (*workload.Watchers, error) {
	before, err := look(ctx, m)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	w, err := workload.OpenWatchers(ctx, pool, plan)
	if err != nil {
		return nil, err
	}
	rec.Add(report.RegisterTime, time.Since(begin).Seconds())
	time.Sleep(watchSettle)
	after, err := look(ctx, m)
	if err != nil {
		w.Close()
		return nil, err
	}
	rec.Add(report.RSSPerWatcher, float64(after.usage.RSS-before.usage.RSS)/float64(plan.Streams*plan.PerStream))
	rec.Add(report.Goroutines, float64(after.goroutines-before.goroutines))
	return w, nil
}

// state is a member's memory and goroutines at one moment.
type state struct {
	usage      process.Usage
	goroutines int
}

func look(ctx context.Context, m *peers.Member) (state, error) {
	u, err := m.Usage()
	if err != nil {
		return state{}, err
	}
	g, err := m.Goroutines(ctx)
	return state{usage: u, goroutines: g}, err
}

// timeEvents records the time from a put to the last of its events, for a key that one and one that many watch.
func timeEvents(
	ctx context.Context, w *workload.Watchers, c *wire.Conn, plan workload.WatchPlan, rec *report.Record,
) error {
	one, err := w.FanOut(ctx, c, plan.SoleKey(rand.IntN(plan.Sole())), 1, fanOuts)
	if err != nil {
		return err
	}
	many, err := w.FanOut(ctx, c, plan.SharedKey(), plan.Shared(), fanOuts)
	if err != nil {
		return err
	}
	rec.Add(report.FanOutOneP50, milliseconds(one.Quantile(50)))
	rec.Add(report.FanOutOneP99, milliseconds(one.Quantile(99)))
	rec.Add(report.FanOutManyP50, milliseconds(many.Quantile(50)))
	rec.Add(report.FanOutManyP99, milliseconds(many.Quantile(99)))
	return nil
}

// idlePuts records puts of keys that nobody watches.
func (s *Suite) idlePuts(ctx context.Context, c *peers.Cluster, pool wire.Pool, rec *report.Record) error {
	res, err := workload.Loop{
		Clients: idleClients, Op: workload.Put(pool, s.data()), WarmUp: s.cfg.WarmUp, Window: s.cfg.Round,
	}.Run(ctx)
	if err != nil {
		return err
	}
	u, err := c.Usage()
	if err != nil {
		return err
	}
	rec.Add(report.OpsPerSecond, res.PerSecond())
	rec.Add(report.IdlePutP50, milliseconds(res.Latency.Quantile(50)))
	rec.Add(report.IdlePutP99, milliseconds(res.Latency.Quantile(99)))
	rec.Add(report.RSS, megabytes(u.RSS))
	rec.Add(report.PeakRSS, megabytes(u.Peak))
	rec.Add(report.Errors, float64(res.Errors))
	return nil
}
