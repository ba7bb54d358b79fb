package suite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coord-dev/coord/bench/driver"
	"github.com/coord-dev/coord/bench/holder"
	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/report"
)

// shortTTL is what coord is measured with once more: the others' sessions may not be so short.
const shortTTL = time.Second

// holderDeath kills holders of locks that somebody waits for, and records when the waiter holds.
func (s *Suite) holderDeath(ctx context.Context) error {
	if !s.selected(RowHolderDeath) {
		return nil
	}
	for _, p := range s.products {
		if p.Stateless() {
			continue
		}
		if err := s.killHolders(ctx, p, p.Name, s.cfg.SessionTTL); err != nil {
			return err
		}
		if p.Kind != peers.Coord {
			continue
		}
		if err := s.killHolders(ctx, p, fmt.Sprintf("%s@%s", p.Name, shortTTL), shortTTL); err != nil {
			return err
		}
	}
	return nil
}

// killHolders records one line. The error is ctx's.
func (s *Suite) killHolders(ctx context.Context, p peers.Product, name string, ttl time.Duration) error {
	s.logf("holder-death: %s, %d times", name, s.cfg.Failovers)
	rec := report.Record{Row: RowHolderDeath, Peer: name, Members: 3}
	rec.Add(report.TTL, ttl.Seconds())
	err := s.timeGrants(ctx, p, ttl, &rec)
	s.keep(rec, err)
	return ctx.Err()
}

// timeGrants kills cfg.Failovers holders, each of a lock of its own, side by side.
func (s *Suite) timeGrants(ctx context.Context, p peers.Product, ttl time.Duration, rec *report.Record) (err error) {
	c, err := peers.Start(ctx, p, 3, s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	endpoints, err := leaderFirst(ctx, c)
	if err != nil {
		return err
	}
	d, err := driver.Open(ctx, p.Kind, driver.Config{Endpoints: endpoints, Conns: 1, TTL: ttl})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	took := make([]time.Duration, s.cfg.Failovers)
	g, timing := errgroup.WithContext(ctx)
	for i := range took {
		plan := holder.Plan{
			Kind: p.Kind, Endpoints: endpoints, Name: fmt.Sprintf("death-%d", i), Sessions: 1, Streams: 1, TTL: ttl,
		}
		// By half a TTL it has renewed at least once, and its next renewal is somewhere within the following third.
		kill := ttl/2 + ttl/3*time.Duration(i)/time.Duration(len(took))
		g.Go(func() (err error) {
			took[i], err = timeGrant(timing, d, s.cfg.Self, plan, kill, filepath.Join(s.dir, plan.Name+".log"))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, t := range took {
		rec.Add(report.GrantAfterKill, t.Seconds())
	}
	return nil
}

// timeGrant starts a holder of one lock, has a contender of d wait for it, kills the holder when life has passed, and
// returns how long after that the contender held the lock.
func timeGrant(
	ctx context.Context, d driver.Driver, self string, plan holder.Plan, life time.Duration, logFile string,
) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*plan.TTL+deathPatience)
	defer cancel()
	held, err := holder.Start(ctx, self, plan, logFile)
	if err != nil {
		return 0, err
	}
	defer held.Kill()
	next, err := d.Locker(ctx, plan.Lock(0))
	if err != nil {
		return 0, err
	}
	killed := make(chan time.Time, 1)
	kill := time.AfterFunc(life, func() { killed <- time.Now(); held.Kill() })
	defer kill.Stop()
	if err := next.Lock(ctx); err != nil {
		return 0, fmt.Errorf("wait for lock %q: %w", plan.Lock(0), err)
	}
	granted := time.Now()
	select {
	case at := <-killed:
		return granted.Sub(at), nil
	default:
		return 0, fmt.Errorf("lock %q was granted while its holder lived", plan.Lock(0))
	}
}
