package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-zookeeper/zk"
)

// zooKeeper spreads its callers over cfg.conns() connections, each to one member.
type zooKeeper struct {
	cfg    Config
	value  []byte
	conns  []*zk.Conn
	lockAt atomic.Int64 // the connection of the next contender
	stop   func() bool

	mu struct {
		sync.Mutex
		held []*zk.Conn
	}
}

// Parents of the nodes of all callers.
const (
	ownParent     = "/own"
	pairParent    = "/pair"
	lockParent    = "/lock"
	barrierParent = "/barrier"
)

var anybody = zk.WorldACL(zk.PermAll)

func openZooKeeper(ctx context.Context, cfg Config) (*zooKeeper, error) {
	d := &zooKeeper{cfg: cfg, value: cfg.value(), conns: make([]*zk.Conn, cfg.conns())}
	err := each(ctx, len(d.conns), func(ctx context.Context, i int) (err error) {
		d.conns[i], err = connectZooKeeper(ctx, cfg, i)
		return err
	})
	if err == nil {
		err = d.prepare(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	// The client's calls know no context; closing its connections ends them.
	d.stop = context.AfterFunc(ctx, d.disconnect)
	return d, nil
}

// silent takes what the client would log.
type silent struct{}

func (silent) Printf(string, ...any) {}

// connectZooKeeper returns a connection, to one member, that has its session.
func connectZooKeeper(ctx context.Context, cfg Config, i int) (*zk.Conn, error) {
	c, events, err := zk.Connect([]string{cfg.endpoint(i)}, cfg.TTL, zk.WithLogger(silent{}), zk.WithLogInfo(false))
	if err != nil {
		return nil, err
	}
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return c, nil
			}
		case <-ctx.Done():
			c.Close()
			return nil, ctx.Err()
		}
	}
}

// prepare creates the parents and every caller's own node.
func (d *zooKeeper) prepare(ctx context.Context) error {
	for _, parent := range []string{ownParent, pairParent, lockParent, barrierParent} {
		if err := d.create(0, parent, nil); err != nil {
			return err
		}
	}
	for _, register := range []string{sharedCounter, sharedPermits} {
		if err := d.create(0, "/"+register, []byte("0")); err != nil {
			return err
		}
	}
	return each(ctx, d.cfg.Callers, func(_ context.Context, caller int) error {
		return d.create(caller, node(ownParent, caller), d.value)
	})
}

// create makes a node that stays, if it is not there.
func (d *zooKeeper) create(caller int, path string, value []byte) error {
	if _, err := d.conn(caller).Create(path, value, 0, anybody); err != nil && !errors.Is(err, zk.ErrNodeExists) {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return nil
}

func node(parent string, caller int) string { return fmt.Sprintf("%s/%08d", parent, caller) }

func (d *zooKeeper) conn(caller int) *zk.Conn { return d.conns[caller%len(d.conns)] }

// anyVersion writes and deletes whatever is there.
const anyVersion = -1

func (d *zooKeeper) Write(_ context.Context, caller int) error {
	_, err := d.conn(caller).Set(node(ownParent, caller), d.value, anyVersion)
	return err
}

func (d *zooKeeper) Read(_ context.Context, caller int) error {
	_, _, err := d.conn(caller).Get(node(ownParent, caller))
	return err
}

func (d *zooKeeper) Pair(_ context.Context, caller int) error {
	path := node(pairParent, caller)
	if _, err := d.conn(caller).Create(path, nil, zk.FlagEphemeral, anybody); err != nil {
		return err
	}
	return d.conn(caller).Delete(path, anyVersion)
}

// Churn opens and closes a connection: there is one to each session.
func (d *zooKeeper) Churn(ctx context.Context, caller int) error {
	c, err := connectZooKeeper(ctx, d.cfg, caller)
	if err != nil {
		return err
	}
	c.Close()
	return nil
}

// Locker is the client's recipe: a sequential ephemeral node, and a watch of the one before it.
func (d *zooKeeper) Locker(_ context.Context, name string) (Locker, error) {
	conn := d.conn(int(d.lockAt.Add(1)))
	return zooKeeperLock{lock: zk.NewLock(conn, lockParent+"/"+name, anybody)}, nil
}

type zooKeeperLock struct{ lock *zk.Lock }

func (l zooKeeperLock) Lock(context.Context) error { return l.lock.Lock() }

func (l zooKeeperLock) Unlock(context.Context) error { return l.lock.Unlock() }

// Hold connects once more: there is one session to each connection.
func (d *zooKeeper) Hold(ctx context.Context, name string) error {
	c, err := connectZooKeeper(ctx, d.cfg, int(d.lockAt.Add(1)))
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.mu.held = append(d.mu.held, c)
	d.mu.Unlock()
	return zk.NewLock(c, lockParent+"/"+name, anybody).Lock()
}

func (d *zooKeeper) disconnect() {
	d.mu.Lock()
	all := append(slices.Clone(d.conns), d.mu.held...)
	d.mu.Unlock()
	// It has no errors to return, and ignores its context.
	_ = each(context.Background(), len(all), func(_ context.Context, i int) error {
		if all[i] != nil {
			all[i].Close()
		}
		return nil
	})
}

func (d *zooKeeper) Close() error {
	if d.stop != nil {
		d.stop()
	}
	d.disconnect()
	return nil
}
