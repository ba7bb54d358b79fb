package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/process"
	"github.com/coord-dev/coord/bench/profile"
	"github.com/coord-dev/coord/bench/report"
	"github.com/coord-dev/coord/bench/wire"
	"github.com/coord-dev/coord/bench/workload"
)

// settleTime is how long a peer has to itself after it first served, before it counts as idle.
const settleTime = 2 * time.Second

// target is a running peer of the closed-loop rows.
type target struct {
	cluster *peers.Cluster
	err     error // once set, the peer is left out of the rest of the row
}

func (t *target) name() string { return t.cluster.Product.Name }

// closedLoops runs the idle and the closed-loop rows with clusters of one size: all peers are started, and their rounds
// alternate, so that whatever else the machine does meets each of them.
func (s *Suite) closedLoops(ctx context.Context, members int) (err error) {
	rows := slices.DeleteFunc(loopRows(), func(r loopRow) bool { return !s.selected(r.name) })
	if len(rows) == 0 && !s.selected(RowIdle) {
		return nil
	}
	targets, err := s.launchAll(ctx, members, rows)
	defer func() {
		for _, t := range targets {
			err = errors.Join(err, t.cluster.Stop())
		}
	}()
	if err != nil {
		return err
	}
	for _, row := range rows {
		for _, t := range targets {
			t.err = nil
		}
		for _, clients := range s.cfg.Clients {
			if clients < row.leastClients {
				continue
			}
			if err := s.alternate(ctx, targets, row,
				report.Record{Row: row.name, Members: members, Clients: clients}); err != nil {
				return err
			}
		}
	}
	return nil
}

// launchAll starts every peer that any of the rows is for, or all where idle ones are looked at. One that does not
// start is a line of the report and left out; the error is ctx's. What is running is returned beside an error.
func (s *Suite) launchAll(ctx context.Context, members int, rows []loopRow) ([]*target, error) {
	var targets []*target
	for _, p := range s.products {
		if p.Stateless() && members > 1 {
			continue // no member has anything to tell another: it would be the same row again
		}
		its := slices.DeleteFunc(slices.Clone(rows), func(r loopRow) bool { return !r.isFor(p) })
		if len(its) == 0 && !s.selected(RowIdle) {
			continue
		}
		c, err := s.launch(ctx, p, members, its)
		if err != nil {
			s.keep(report.Record{Row: RowIdle, Peer: p.Name, Members: members}, err)
			continue
		}
		targets = append(targets, &target{cluster: c})
	}
	return targets, ctx.Err()
}

// launch starts a peer, looks at what it uses when idle, and makes it ready for its rows.
func (s *Suite) launch(ctx context.Context, p peers.Product, members int, rows []loopRow) (*peers.Cluster, error) {
	s.logf("start %s with %d members", p.Name, members)
	c, err := peers.Start(ctx, p, members, s.dir)
	if err != nil {
		return nil, err
	}
	if s.selected(RowIdle) {
		err = s.idle(ctx, c, members)
	}
	if err == nil && slices.ContainsFunc(rows, func(r loopRow) bool { return r.loaded }) {
		s.logf("load %d keys into %s", s.cfg.Keys, p.Name)
		err = fill(ctx, c, s.data(), s.cfg.Conns)
	}
	if err == nil && p.Kind == peers.ZooKeeper {
		err = s.heat(ctx, c, rows)
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// heatClients is how many clients a Java server is heated by.
const heatClients = 64

// heat lets a Java server compile what its rows use before anything is measured.
func (s *Suite) heat(ctx context.Context, c *peers.Cluster, rows []loopRow) error {
	for _, row := range rows {
		s.logf("heat %s: %s", c.Product.Name, row.name)
		if _, err := s.loop(ctx, c, row, heatClients, uint64(s.cfg.Rounds), s.cfg.Heat, nil); err != nil {
			return err
		}
	}
	return nil
}

// idle records what a peer uses while nobody asks anything of it, in rounds of which none begins before the start is
// over.
func (s *Suite) idle(ctx context.Context, c *peers.Cluster, members int) error {
	if err := pause(ctx, min(settleTime, s.cfg.Idle)); err != nil {
		return err
	}
	rec := report.Record{Row: RowIdle, Peer: c.Product.Name, Members: members}
	for range s.cfg.Rounds {
		u, err := s.addIdleCPU(ctx, c, &rec)
		if err != nil {
			return err
		}
		rec.Add(report.RSS, megabytes(u.RSS))
		rec.Add(report.PeakRSS, megabytes(u.Peak))
	}
	s.logf("idle, %d members, %s: %.2f %% of a core", members, rec.Peer, report.Median(rec.Samples[report.IdleCPU]))
	s.keep(rec, nil)
	return nil
}

// addIdleCPU looks at an idle peer for Config.Idle and records what it uses; it returns its usage at the end.
func (s *Suite) addIdleCPU(ctx context.Context, c *peers.Cluster, rec *report.Record) (process.Usage, error) {
	before, err := c.Usage()
	if err != nil {
		return process.Usage{}, err
	}
	begin := time.Now()
	if err := pause(ctx, s.cfg.Idle); err != nil {
		return process.Usage{}, err
	}
	after, err := c.Usage()
	rec.Add(report.IdleCPU, 100*float64(after.CPU-before.CPU)/float64(time.Since(begin)))
	return after, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fill loads data over conns connections to all members.
func fill(ctx context.Context, c *peers.Cluster, data workload.Data, conns int) error {
	pool, err := wire.DialPool(c.Endpoints(), conns)
	if err != nil {
		return err
	}
	defer pool.Close()
	return workload.Fill(ctx, pool, data)
}

// alternate measures one line of the table for each target that the row is for, round by round.
func (s *Suite) alternate(ctx context.Context, targets []*target, row loopRow, line report.Record) error {
	targets = slices.DeleteFunc(slices.Clone(targets), func(t *target) bool { return !row.isFor(t.cluster.Product) })
	records := make([]report.Record, len(targets))
	for i, t := range targets {
		records[i] = line
		records[i].Peer = t.name()
	}
	for round := range s.cfg.Rounds {
		for i, t := range targets {
			if t.err == nil {
				t.err = s.measure(ctx, t.cluster, row, &records[i], uint64(round))
			}
		}
	}
	for i, t := range targets {
		if s.cfg.Profile != "" && t.err == nil {
			t.err = s.profile(ctx, t.cluster, row, records[i])
		}
		s.keep(records[i], t.err)
	}
	return ctx.Err()
}

// measure runs one round and adds its samples to rec.
func (s *Suite) measure(ctx context.Context, c *peers.Cluster, row loopRow, rec *report.Record, round uint64) error {
	var server, client []process.Usage
	res, err := s.loop(ctx, c, row, rec.Clients, round, s.cfg.Round, func() error {
		u, err := c.Usage()
		server = append(server, u)
		if err != nil {
			return err
		}
		u, err = process.Self()
		client = append(client, u)
		return err
	})
	if err != nil {
		return err
	}
	addRound(rec, res, server)
	rec.Add(report.ClientCPUPerOp, perOperation(client, res))
	s.logf("%s, %d members, %d clients, %s: %.0f/s", rec.Row, rec.Members, rec.Clients, rec.Peer, res.PerSecond())
	return nil
}

// profile runs one round more, of which only the profile is kept.
func (s *Suite) profile(ctx context.Context, c *peers.Cluster, row loopRow, line report.Record) error {
	if err := os.MkdirAll(s.cfg.Profile, 0o755); err != nil {
		return err
	}
	base := filepath.Join(s.cfg.Profile, fmt.Sprintf("%s-%dmembers-%dclients-%s", line.Row, line.Members, line.Clients,
		line.Peer))
	var taking *profile.Recording
	_, err := s.loop(ctx, c, row, line.Clients, uint64(s.cfg.Rounds), s.cfg.Round, func() (err error) {
		if taking == nil {
			taking, err = profile.Start(c.Pids(), base)
		}
		return err
	})
	if taking != nil {
		err = errors.Join(err, taking.Stop())
	}
	return err
}

// loop runs one closed loop of a row against a cluster. edge, when not nil, is called at both ends of its window.
func (s *Suite) loop(
	ctx context.Context, c *peers.Cluster, row loopRow, clients int, seed uint64, window time.Duration,
	edge func() error,
) (workload.Result, error) {
	endpoints, err := leaderFirst(ctx, c)
	if err != nil {
		return workload.Result{}, err
	}
	l, err := row.open(ctx, s, c.Product, endpoints, clients)
	if err != nil {
		return workload.Result{}, err
	}
	res, err := workload.Loop{
		Clients: clients, Op: l.op, WarmUp: s.cfg.WarmUp, Window: window, Seed: seed,
		Edge: func() error {
			if l.handoff != nil {
				l.handoff.Toggle()
			}
			if edge == nil {
				return nil
			}
			return edge()
		},
	}.Run(ctx)
	if l.handoff != nil {
		res.Latency = l.handoff.Latency()
	}
	err = errors.Join(err, l.close())
	if err == nil && res.Latency.Count() == 0 {
		err = fmt.Errorf("no operation succeeded in %s; the first error: %v", res.Window, res.FirstError)
	}
	return res, err
}

// addRound adds a round's samples; usage is the server's at both edges of the window.
func addRound(rec *report.Record, res workload.Result, usage []process.Usage) {
	rec.Add(report.OpsPerSecond, res.PerSecond())
	rec.Add(report.P50, milliseconds(res.Latency.Quantile(50)))
	rec.Add(report.P99, milliseconds(res.Latency.Quantile(99)))
	rec.Add(report.CPUPerOp, perOperation(usage, res))
	rec.Add(report.RSS, megabytes(usage[1].RSS))
	rec.Add(report.PeakRSS, megabytes(usage[1].Peak))
	rec.Add(report.Errors, float64(res.Errors))
	if res.FirstError != nil {
		rec.Note = "first error: " + res.FirstError.Error()
	}
}

// perOperation returns the microseconds of CPU between the two edges of a window for each operation in it.
func perOperation(edges []process.Usage, res workload.Result) float64 {
	return float64((edges[1].CPU - edges[0].CPU).Microseconds()) / float64(res.Latency.Count())
}

// leaderFirst returns the endpoints with the leader's in front, so that a single client talks to the leader of every
// product and not to whichever member happened to be named first.
func leaderFirst(ctx context.Context, c *peers.Cluster) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	endpoints := c.Endpoints()
	leader, err := c.Leader(ctx)
	if err != nil {
		return nil, err
	}
	return append(append([]string(nil), endpoints[leader:]...), endpoints[:leader]...), nil
}
