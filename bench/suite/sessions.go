package suite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/bench/holder"
	"github.com/coord-dev/coord/bench/peers"
	"github.com/coord-dev/coord/bench/process"
	"github.com/coord-dev/coord/bench/report"
	"github.com/coord-dev/coord/bench/wire"
)

const (
	// sessionWriters write beside the sessions.
	sessionWriters = 64
	// sessionMembers is the size of the cluster.
	sessionMembers = 3
	// heldPrefix is what the names of all held locks begin with.
	heldPrefix = "held"
	// deathPatience is how long the dead may hold their locks, beside the TTL.
	deathPatience = time.Minute
	// sessionsPatience is how long a holder may take to open all of its sessions.
	sessionsPatience = 5 * time.Minute
)

// sessions has a process hold many sessions on three members, and records what writes lose by them, what they cost, and
// how long they outlive their process. Only coord's are measured: nothing else has so many on so few connections.
func (s *Suite) sessions(ctx context.Context) error {
	if !s.selected(RowSessions) {
		return nil
	}
	for _, p := range s.products {
		if p.Kind != peers.Coord {
			continue
		}
		s.logf("sessions: %s, %d on %d streams", p.Name, s.cfg.Sessions, s.cfg.SessionStreams)
		rec := report.Record{
			Row: RowSessions, Peer: p.Name, Members: sessionMembers, Clients: sessionWriters,
			Note: fmt.Sprintf("sessions held by 1 process on %d streams", s.cfg.SessionStreams),
		}
		err := s.holdSessions(ctx, p, &rec)
		s.keep(rec, err)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Suite) holdSessions(ctx context.Context, p peers.Product, rec *report.Record) (err error) {
	c, err := peers.Start(ctx, p, sessionMembers, s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	before, err := c.Usage()
	if err != nil {
		return err
	}
	first, carried, err := s.spell(ctx, c, rec)
	if err != nil {
		return err
	}
	// Later the members would also have given back what they had taken for writes.
	rec.Add(report.RSSPerSession, float64(carried.RSS-before.RSS)/float64(s.cfg.Sessions))
	alone, err := s.writes(ctx, c)
	if err != nil {
		return err
	}
	second, _, err := s.spell(ctx, c, rec)
	if err != nil {
		return err
	}
	addLoss(rec, first, alone, second)
	return nil
}

// spell has a process hold the sessions, has others write, and kills the process. It returns the writes a second of
// each round, and what the servers used just before.
func (s *Suite) spell(ctx context.Context, c *peers.Cluster, rec *report.Record) ([]float64, process.Usage, error) {
	held, err := s.openSessions(ctx, c, rec)
	if err != nil {
		return nil, process.Usage{}, err
	}
	defer held.Kill()
	carried, err := s.addIdleCPU(ctx, c, rec)
	if err != nil {
		return nil, process.Usage{}, err
	}
	rounds, err := s.writes(ctx, c)
	if err != nil {
		return nil, process.Usage{}, err
	}
	if left, err := countHeld(ctx, c); err != nil || left != int64(s.cfg.Sessions) {
		return nil, process.Usage{}, errors.Join(err, fmt.Errorf("%d of %d sessions hold their locks under writes",
			left, s.cfg.Sessions))
	}
	held.Kill()
	return rounds, carried, timeDeath(ctx, c, s.cfg.SessionTTL, rec)
}

// addLoss records what rounds with sessions, the mean of those before and those after, have less than rounds without.
func addLoss(rec *report.Record, before, alone, after []float64) {
	for i, without := range alone {
		with := (before[i] + after[i]) / 2
		rec.Add(report.OpsPerSecond, with)
		rec.Add(report.WriteLoss, 100*(1-with/without))
	}
}

// writes returns the writes a second of each round.
func (s *Suite) writes(ctx context.Context, c *peers.Cluster) ([]float64, error) {
	var rounds []float64
	for round := range s.cfg.Rounds {
		res, err := s.loop(ctx, c, writeRow(), sessionWriters, uint64(round), s.cfg.Round, nil)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, res.PerSecond())
	}
	s.logf("writes/s: %.0f", rounds)
	return rounds, nil
}

// openSessions starts the holder and records how long it takes to hold everything.
func (s *Suite) openSessions(ctx context.Context, c *peers.Cluster, rec *report.Record) (*process.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionsPatience)
	defer cancel()
	begin := time.Now()
	held, err := holder.Start(ctx, s.cfg.Self, holder.Plan{
		Kind: c.Product.Kind, Endpoints: c.Endpoints(), Name: heldPrefix,
		Sessions: s.cfg.Sessions, Streams: s.cfg.SessionStreams, TTL: s.cfg.SessionTTL,
	}, filepath.Join(s.dir, "sessions.log"))
	if err != nil {
		return nil, err
	}
	rec.Add(report.Sessions, float64(s.cfg.Sessions))
	rec.Add(report.OpenTime, time.Since(begin).Seconds())
	return held, nil
}

// timeDeath records how long the locks of a process that was just killed are there.
func timeDeath(ctx context.Context, c *peers.Cluster, ttl time.Duration, rec *report.Record) error {
	const look = 50 * time.Millisecond
	for begin := time.Now(); ; {
		left, err := countHeld(ctx, c)
		if err != nil {
			return err
		}
		gone := time.Since(begin)
		if left == 0 {
			rec.Add(report.MassDeath, gone.Seconds())
			return nil
		}
		if gone > ttl+deathPatience {
			return fmt.Errorf("%d locks are there %s after their holder was killed", left, gone.Round(time.Second))
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// countHeld returns the number of locks that are held, by a linearizable read.
func countHeld(ctx context.Context, c *peers.Cluster) (int64, error) {
	conn, err := wire.Dial(c.Endpoints()[0])
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	prefix := heldPrefix + "/"
	resp, err := conn.KV.Range(ctx, &pb.RangeRequest{
		Key: []byte(prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)), CountOnly: true,
	})
	return resp.GetCount(), err
}
