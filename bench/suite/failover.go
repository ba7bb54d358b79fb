package suite

import (
	"context"
	"sync"
	"time"

	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/report"
)

const (
	// failoverWriters write while members are killed.
	failoverWriters = 8
	// failoverAttempt is how long a writer waits before it tries the next member. It is shorter than any election, so
	// the gap is the servers' and not the client's patience.
	failoverAttempt = 250 * time.Millisecond
)

// victims returns the members to kill, given the index of the leader.
type victims func(c *peers.Cluster, leader int) []*peers.Member

func theLeader(c *peers.Cluster, leader int) []*peers.Member {
	return c.Members[leader : leader+1]
}

func aFollower(c *peers.Cluster, leader int) []*peers.Member {
	return []*peers.Member{c.Members[(leader+1)%len(c.Members)]}
}

func everybody(c *peers.Cluster, _ int) []*peers.Member { return c.Members }

// failover kills members under writers, again and again, and records the longest time nobody could write.
func (s *Suite) failover(ctx context.Context) error {
	kinds := []struct {
		row    string
		choose victims
	}{{RowFailoverLeader, theLeader}, {RowFailoverFollower, aFollower}, {RowFailoverAll, everybody}}
	for _, kind := range kinds {
		if !s.selected(kind.row) {
			continue
		}
		for _, p := range s.contenders() {
			s.logf("%s: %s, %d times", kind.row, p.Name, s.cfg.Failovers)
			rec := report.Record{Row: kind.row, Peer: p.Name, Members: 3, Clients: failoverWriters}
			err := s.disturb(ctx, p, failoverWriters, failoverAttempt, func(ctx context.Context, d *disturbance) error {
				return repeat(s.cfg.Failovers, func() error { return killAndRestart(ctx, d, kind.choose, &rec) })
			})
			s.keep(rec, err)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

func repeat(times int, fn func() error) error {
	for range times {
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}

// killAndRestart kills, waits for writes when some members are left, starts the dead again, and records the longest gap
// of all that. Failed attempts are what a kill causes and not recorded.
func killAndRestart(ctx context.Context, d *disturbance, choose victims, rec *report.Record) error {
	leader, err := d.leader(ctx)
	if err != nil {
		return err
	}
	dead := choose(d.Cluster, leader)
	d.begin()
	killAll(dead)
	if len(dead) < len(d.Members) {
		if err := d.calm(ctx, 2*d.electionTimeout); err != nil {
			return err
		}
	}
	if err := d.StartAll(ctx); err != nil {
		return err
	}
	if err := d.calm(ctx, d.electionTimeout); err != nil {
		return err
	}
	d.recordGap(rec)
	return nil
}

// killAll kills members at the same moment and returns when all are gone.
func killAll(members []*peers.Member) {
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(m.Kill)
	}
	wg.Wait()
}

// leader returns the index of the leading member.
func (d *disturbance) leader(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	return d.Leader(ctx)
}
