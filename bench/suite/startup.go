package suite

import (
	"context"
	"errors"
	"time"

	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/report"
	"github.com/coord-dev/coord/bench/workload"
)

// restarts is how often the start-up with many keys is timed.
const restarts = 3

// startup loads many keys and times how long a restarted member takes to its first linearizable read.
func (s *Suite) startup(ctx context.Context) error {
	if !s.selected(RowStartup) {
		return nil
	}
	for _, p := range s.replicated() {
		s.logf("startup: %s, %d keys", p.Name, s.cfg.StartupKeys)
		rec := report.Record{Row: RowStartup, Peer: p.Name, Members: 1}
		err := s.restart(ctx, p, &rec)
		s.keep(rec, err)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Suite) restart(ctx context.Context, p peers.Product, rec *report.Record) (err error) {
	c, err := peers.Start(ctx, p, 1, s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	begin := time.Now()
	data := workload.Data{Keys: s.cfg.StartupKeys, ValueBytes: s.cfg.ValueBytes}
	if err := fill(ctx, c, data, s.cfg.Conns); err != nil {
		return err
	}
	rec.Add(report.LoadTime, time.Since(begin).Seconds())
	for range restarts {
		if err := timeRestart(ctx, c, rec); err != nil {
			return err
		}
	}
	return nil
}

func timeRestart(ctx context.Context, c *peers.Cluster, rec *report.Record) error {
	m := c.Members[0]
	begin := time.Now()
	if err := m.Terminate(); err != nil {
		return err
	}
	rec.Add(report.StopTime, time.Since(begin).Seconds())
	if err := m.Start(); err != nil {
		return err
	}
	if err := m.WaitReady(ctx); err != nil {
		return err
	}
	rec.Add(report.FirstRead, time.Since(m.Started()).Seconds())
	u, err := m.Usage()
	if err != nil {
		return err
	}
	rec.Add(report.RSS, megabytes(u.RSS))
	rec.Add(report.PeakRSS, megabytes(u.Peak))
	return nil
}
