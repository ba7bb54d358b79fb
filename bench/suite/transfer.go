package suite

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/coord-dev/coord/bench/report"
	"github.com/coord-dev/coord/bench/wire"
)

const (
	// transferWriters write while leadership moves.
	transferWriters = 64
	// transferAttempt is longer than any server takes to give up on a write: what fails is what the server refused.
	transferAttempt = 20 * time.Second
)

// transfer moves leadership under writers, by request and by stopping the leader, and records the writes that failed
// and the longest time nobody could write.
func (s *Suite) transfer(ctx context.Context) error {
	kinds := []struct {
		row  string
		move func(context.Context, *disturbance, *report.Record) error
	}{{RowTransferMove, moveLeader}, {RowTransferStop, stopLeader}}
	for _, kind := range kinds {
		if !s.selected(kind.row) {
			continue
		}
		for _, p := range s.contenders() {
			if p.sameTiming {
				continue // a hand-over does not wait for a timeout
			}
			s.logf("%s: %s, %d times", kind.row, p.Name, s.cfg.Transfers)
			rec := report.Record{Row: kind.row, Peer: p.Name, Members: 3, Clients: transferWriters}
			err := s.disturb(ctx, p, transferWriters, transferAttempt, func(ctx context.Context, d *disturbance) error {
				return repeat(s.cfg.Transfers, func() error { return kind.move(ctx, d, &rec) })
			})
			s.keep(rec, err)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveLeader asks the leader to hand over to the next member.
func moveLeader(ctx context.Context, d *disturbance, rec *report.Record) error {
	leader, err := d.leader(ctx)
	if err != nil {
		return err
	}
	to := d.Members[(leader+1)%len(d.Members)].Endpoint
	st, err := wire.Status(ctx, to)
	if err != nil {
		return fmt.Errorf("status of %s: %w", to, err)
	}
	conn, err := wire.Dial(d.Members[leader].Endpoint)
	if err != nil {
		return err
	}
	defer conn.Close()
	d.begin()
	if _, err := conn.Maintenance.MoveLeader(ctx,
		&pb.MoveLeaderRequest{TargetID: st.Header.GetMemberId()}); err != nil {
		return fmt.Errorf("move leader: %w", err)
	}
	if err := d.calm(ctx, d.electionTimeout); err != nil {
		return err
	}
	d.record(rec)
	return nil
}

// stopLeader stops the leader cleanly and starts it again.
func stopLeader(ctx context.Context, d *disturbance, rec *report.Record) error {
	leader, err := d.leader(ctx)
	if err != nil {
		return err
	}
	d.begin()
	if err := d.Members[leader].Terminate(); err != nil {
		return err
	}
	if err := d.calm(ctx, d.electionTimeout); err != nil {
		return err
	}
	if err := d.StartAll(ctx); err != nil {
		return err
	}
	if err := d.calm(ctx, d.electionTimeout); err != nil {
		return err
	}
	d.record(rec)
	return nil
}
