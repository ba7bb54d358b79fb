package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/bench/wire"
)

// etcd writes and reads with raw stubs and locks with etcd's package concurrency, each over cfg.conns() connections.
type etcd struct {
	cfg     Config
	value   []byte
	pool    wire.Pool
	clients []*clientv3.Client
	shared  []*concurrency.Session // one a client

	contenders atomic.Int64
	mu         struct {
		sync.Mutex
		own []*concurrency.Session // of contenders
	}
}

func openEtcd(ctx context.Context, cfg Config) (*etcd, error) {
	d := &etcd{cfg: cfg, value: cfg.value()}
	if err := d.connect(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := each(ctx, cfg.Callers, d.Write); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *etcd) connect(ctx context.Context) (err error) {
	if d.pool, err = wire.DialPool(d.cfg.Endpoints, d.cfg.conns()); err != nil {
		return err
	}
	for i := range d.cfg.conns() {
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{d.cfg.endpoint(i)}, Context: ctx, Logger: zap.NewNop(),
		})
		if err != nil {
			return err
		}
		d.clients = append(d.clients, c)
		s, err := d.session(c)
		if err != nil {
			return err
		}
		d.shared = append(d.shared, s)
	}
	return nil
}

func (d *etcd) session(c *clientv3.Client) (*concurrency.Session, error) {
	return concurrency.NewSession(c, concurrency.WithTTL(int(d.cfg.TTL/time.Second)))
}

func (d *etcd) conn(caller int) *wire.Conn { return d.pool[caller%len(d.pool)] }

func ownKey(caller int) []byte { return fmt.Appendf(nil, "own/%08d", caller) }

func ownLock(caller int) string { return fmt.Sprintf("lock/%08d", caller) }

func (d *etcd) Write(ctx context.Context, caller int) error {
	_, err := d.conn(caller).KV.Put(ctx, &pb.PutRequest{Key: ownKey(caller), Value: d.value})
	return err
}

func (d *etcd) Read(ctx context.Context, caller int) error {
	resp, err := d.conn(caller).KV.Range(ctx, &pb.RangeRequest{Key: ownKey(caller)})
	if err == nil && len(resp.Kvs) != 1 {
		return fmt.Errorf("caller %d reads %d keys", caller, len(resp.Kvs))
	}
	return err
}

func (d *etcd) Pair(ctx context.Context, caller int) error {
	m := concurrency.NewMutex(d.shared[caller%len(d.shared)], ownLock(caller))
	if err := m.Lock(ctx); err != nil {
		return err
	}
	return m.Unlock(ctx)
}

func (d *etcd) Churn(ctx context.Context, caller int) error {
	c := d.clients[caller%len(d.clients)]
	granted, err := c.Grant(ctx, int64(d.cfg.TTL/time.Second))
	if err != nil {
		return err
	}
	_, err = c.Revoke(ctx, granted.ID)
	return err
}

// Locker gives each contender a session: etcd's mutex takes those of one session for one.
func (d *etcd) Locker(_ context.Context, name string) (Locker, error) {
	s, err := d.session(d.clients[int(d.contenders.Add(1))%len(d.clients)])
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.own = append(d.mu.own, s)
	return concurrency.NewMutex(s, name), nil
}

func (d *etcd) Hold(ctx context.Context, name string) error {
	l, err := d.Locker(ctx, name)
	if err != nil {
		return err
	}
	return l.Lock(ctx)
}

func (d *etcd) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	errs := []error{closeSessions(d.shared), closeSessions(d.mu.own)}
	for _, c := range d.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, d.pool.Close())...)
}

// closeSessions ends them, many at the same time. Where the servers or the context are gone already there is nothing to
// end.
func closeSessions(sessions []*concurrency.Session) error {
	return each(context.Background(), len(sessions), func(_ context.Context, i int) error {
		if err := sessions[i].Close(); err != nil && sessions[i].Client().Ctx().Err() == nil {
			return fmt.Errorf("end session: %w", err)
		}
		return nil
	})
}
