package suite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coord-dev/coord/bench/driver"
	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/report"
)

// barrier lets many parties of one process enter a barrier and leave it, again and again, and records how long it takes
// until all are in, and until all are out.
func (s *Suite) barrier(ctx context.Context) error {
	if !s.selected(RowBarrier) {
		return nil
	}
	for _, members := range s.cfg.Members {
		for _, p := range s.products {
			if p.Stateless() {
				continue
			}
			s.logf("barrier: %s, %d members, %d parties", p.Name, members, s.cfg.Parties)
			rec := report.Record{Row: RowBarrier, Peer: p.Name, Members: members, Clients: s.cfg.Parties}
			err := s.gather(ctx, p, &rec)
			s.keep(rec, err)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// gather measures one line.
func (s *Suite) gather(ctx context.Context, p peers.Product, rec *report.Record) (err error) {
	c, err := peers.Start(ctx, p, rec.Members, s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	endpoints, err := leaderFirst(ctx, c)
	if err != nil {
		return err
	}
	d, err := driver.Open(ctx, p.Kind, s.driving(endpoints, s.cfg.Parties))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	for round := range 1 + s.cfg.Rounds { // the first one warms up
		enter, leave, err := s.meet(ctx, d, fmt.Sprintf("round%d", round))
		if err != nil {
			return err
		}
		if round > 0 {
			rec.Add(report.EnterTime, milliseconds(enter))
			rec.Add(report.LeaveTime, milliseconds(leave))
		}
	}
	return nil
}

// meet has all parties of one barrier enter, and then leave, and returns how long each took until the last was through.
func (s *Suite) meet(ctx context.Context, d driver.Driver, name string) (enter, leave time.Duration, err error) {
	parties := make([]driver.Party, s.cfg.Parties)
	for i := range parties {
		if parties[i], err = d.Party(ctx, name, len(parties)); err != nil {
			return 0, 0, err
		}
	}
	all := func(do func(driver.Party, context.Context) error) (time.Duration, error) {
		begin := time.Now()
		g, ctx := errgroup.WithContext(ctx)
		for _, p := range parties {
			g.Go(func() error { return do(p, ctx) })
		}
		err := g.Wait()
		return time.Since(begin), err
	}
	if enter, err = all(driver.Party.Enter); err != nil {
		return 0, 0, fmt.Errorf("enter %s: %w", name, err)
	}
	if leave, err = all(driver.Party.Leave); err != nil {
		return 0, 0, fmt.Errorf("leave %s: %w", name, err)
	}
	return enter, leave, nil
}
