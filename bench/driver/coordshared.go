package driver

import (
	"context"

	"github.com/coord-dev/coord/client"
)

func (d *coord) Count(ctx context.Context, _ int) error {
	_, err := d.client.Counter(sharedCounter).Add(ctx, 1)
	return err
}

func (d *coord) Permit(ctx context.Context, _ int) error {
	held, err := d.client.Semaphore(sharedPermits, Permits).Acquire(ctx, 1)
	if err != nil {
		return err
	}
	return held.Release(ctx)
}

func (d *coord) Party(_ context.Context, name string, parties int) (Party, error) {
	return &coordParty{barrier: d.client.Barrier(name, int64(parties))}, nil
}

type coordParty struct {
	barrier *client.Barrier
	inside  *client.Party
}

func (p *coordParty) Enter(ctx context.Context) (err error) {
	p.inside, err = p.barrier.Enter(ctx)
	return err
}

func (p *coordParty) Leave(ctx context.Context) error { return p.inside.Leave(ctx) }
