package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/coord-dev/coord/client"
)

// coord has one client for all callers: one stream, and one session for all writes and locks.
type coord struct {
	cfg    Config
	value  string
	client *client.Client
}

func openCoord(ctx context.Context, cfg Config) (*coord, error) {
	// One stream goes to one member; let it be the leader, as the first connection of the others does.
	c, err := client.New(client.Config{Endpoints: cfg.Endpoints[:1], SessionTTL: cfg.TTL})
	if err != nil {
		return nil, err
	}
	d := &coord{cfg: cfg, value: string(cfg.value()), client: c}
	if err := each(ctx, cfg.Callers, d.Write); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return d, nil
}

func (d *coord) Write(ctx context.Context, caller int) error {
	_, err := d.client.Put(ctx, string(ownKey(caller)), d.value)
	return err
}

func (d *coord) Read(ctx context.Context, caller int) error {
	resp, err := d.client.Get(ctx, string(ownKey(caller)))
	if err == nil && len(resp.Kvs) != 1 {
		return fmt.Errorf("caller %d reads %d keys", caller, len(resp.Kvs))
	}
	return err
}

func (d *coord) Pair(ctx context.Context, caller int) error {
	held, err := d.client.Lock(ownLock(caller)).Acquire(ctx)
	if err != nil {
		return err
	}
	return held.Release(ctx)
}

func (d *coord) Churn(ctx context.Context, _ int) error {
	s, err := d.client.NewSession(ctx)
	if err != nil {
		return err
	}
	return s.Close(ctx)
}

func (d *coord) Locker(_ context.Context, name string) (Locker, error) {
	return &coordLock{lock: d.client.Lock(name)}, nil
}

type coordLock struct {
	lock *client.Lock
	held *client.Held
}

func (l *coordLock) Lock(ctx context.Context) (err error) {
	l.held, err = l.lock.Acquire(ctx)
	return err
}

func (l *coordLock) Unlock(ctx context.Context) error { return l.held.Release(ctx) }

func (d *coord) Hold(ctx context.Context, name string) error {
	s, err := d.client.NewSession(ctx)
	if err != nil {
		return err
	}
	_, err = s.Lock(name).Acquire(ctx)
	return err
}

func (d *coord) Close() error { return d.client.Close() }
