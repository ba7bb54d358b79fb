//go:build unix

package docs_test

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/coord-dev/coord/client"
)

// The code of recipes/election.md.
func TestCodeOfElection(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)

	run := func() error {
		return c.Election("scheduler").Run(ctx, []byte("node-1"), func(ctx context.Context, term *client.Leadership) error {
			// ctx ends before anybody else can lead; then Run waits for this function, and campaigns again.
			return work(ctx, term.Term())
		}, client.WithOneTerm()) // return after one term
	}
	if err := run(); err != nil {
		t.Error(err)
	}

	byHand := func() error {
		term, err := c.Election("scheduler").Campaign(ctx, []byte("node-1"))
		if err != nil {
			return err
		}
		if err := term.Proclaim(ctx, []byte("node-1, ready")); err != nil { // a new value for who looks or follows
			return err
		}
		if _, err := term.KV().Put(ctx, "results/scheduler", "yes"); err != nil { // client.ErrFenced, and no effect, if the term is over
			return err
		}
		return term.Resign(ctx)
	}
	if err := byHand(); err != nil {
		t.Error(err)
	}

	leader, err := c.Election("scheduler").Leader(ctx) // client.ErrNoLeader if nobody does
	if !errors.Is(err, client.ErrNoLeader) {
		t.Errorf("%v leads, %v", leader, err)
	}

	observe := func(ctx context.Context, follow func(value []byte)) error {
		for seen, err := range c.Election("scheduler").Observe(ctx) {
			if err != nil {
				return err // ctx has ended
			}
			if seen.Leader.Term != 0 { // 0: nobody leads
				follow(seen.Leader.Value)
			}
		}
		return nil
	}
	term, err := c.Election("scheduler").Campaign(ctx, []byte("node-2"))
	if err != nil {
		t.Fatal(err)
	}
	observing, cancel := context.WithCancel(ctx)
	var followed string
	if err := observe(observing, func(value []byte) { followed = string(value); cancel() }); !errors.Is(err, context.Canceled) || followed != "node-2" {
		t.Errorf("observed %q, %v", followed, err)
	}
	if err := term.Resign(ctx); err != nil {
		t.Error(err)
	}

	start := func(ctx context.Context, token int64) <-chan error {
		done := make(chan error, 1)
		done <- work(ctx, token)
		return done
	}
	inEtcd := func() error {
		session, err := concurrency.NewSession(etcd, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer session.Close()
		election := concurrency.NewElection(session, "scheduler")
		if err := election.Campaign(ctx, "node-1"); err != nil {
			return err
		}
		select { // nothing else tells that the session is lost
		case <-session.Done():
			return errors.New("the session is lost")
		case err := <-start(ctx, election.Rev()):
			return errors.Join(err, election.Resign(ctx))
		}
	}
	if err := inEtcd(); err != nil {
		t.Error(err)
	}
}
