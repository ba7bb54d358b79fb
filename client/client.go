package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Client talks to one cluster over one stream. Safe for concurrent use.
//
// Its KV, Watcher and Lease are etcd's API. Writes go through the shared session and are executed exactly once, however
// often they had to be sent; only when their context or the session ends first is their outcome unknown
// (ErrOutcomeUnknown).
type Client struct {
	clientv3.KV
	clientv3.Watcher
	clientv3.Lease

	config Config
	t      *transport
	plain  *clientv3.Client // of nothing; etcd's packages want one

	current atomic.Pointer[Session] // the shared session; nil: none yet
	opening chan struct{}           // capacity 1: a mutex for opening one, that a context can give up on

	lazy struct {
		sync.Mutex
		etcd   *clientv3.Client
		closed bool
	}
}

// New returns a Client. It waits for a server only to authenticate, if a user is configured; else the first call
// connects.
func New(config Config) (*Client, error) {
	config.ensureDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	order := slices.Clone(config.Endpoints)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	c := newClient(config, order, nil)
	if config.Username != "" {
		if err := c.authenticate(); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("client: %w", err)
		}
	}
	return c, nil
}

func newClient(config Config, order []string, dial func(context.Context, string) (*link, error)) *Client {
	c := &Client{config: config, opening: make(chan struct{}, 1)}
	c.t = newTransport(&c.config, order, dial)
	c.useEtcd()
	return c
}

// authenticate waits until one server has taken the user and the password.
func (c *Client) authenticate() error {
	ctx, cancel := context.WithTimeout(context.Background(),
		time.Duration(len(c.config.Endpoints))*c.config.DialTimeout)
	defer cancel()
	_, err := c.t.do(ctx, nil,
		request{kind: coordv1.Kind_KIND_LEADER, body: &coordv1.LeaderRequest{Name: "_"}, quick: true})
	if errors.Is(err, ErrNoLeader) {
		return nil
	}
	return err
}

// Close closes the shared session, which gives up what it holds, and the connection. Sessions made by NewSession should
// be closed before: they are lost. It returns when all goroutines of the client have ended.
func (c *Client) Close() error {
	var err error
	c.opening <- struct{}{}
	if s := c.live(); s != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*s.attempt)
		err = s.Close(ctx)
		cancel()
	}
	<-c.opening
	_ = c.Lease.Close()
	_ = c.Watcher.Close()
	c.t.close()
	_ = c.plain.Close()
	c.lazy.Lock()
	defer c.lazy.Unlock()
	c.lazy.closed = true
	if c.lazy.etcd != nil {
		if closeErr := c.lazy.etcd.Close(); err == nil && !errors.Is(closeErr, context.Canceled) {
			err = closeErr
		}
		c.lazy.etcd = nil
	}
	return err
}

// Session returns the session that the client's writes, locks and elections share. A new one is opened where there is
// none or the last one was lost.
func (c *Client) Session(ctx context.Context) (*Session, error) {
	if s := c.live(); s != nil {
		return s, nil
	}
	select {
	case c.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, cause(ctx)
	}
	defer func() { <-c.opening }()
	if s := c.live(); s != nil {
		return s, nil
	}
	o := c.config.session()
	if c.config.Hooks.OnState != nil {
		o.onState = c.config.Hooks.OnState
	}
	s, err := c.openSession(ctx, o)
	if err != nil {
		return nil, err
	}
	if before := c.current.Swap(s); before != nil {
		c.t.rememberPredecessor(before)
	}
	return s, nil
}

// live is the shared session, nil if there is none that lives.
func (c *Client) live() *Session {
	if s := c.current.Load(); s != nil && s.ctx.Err() == nil {
		return s
	}
	return nil
}

// Etcd returns etcd's own client of the same endpoints, on connections of its own: for members, maintenance and users,
// and for programs that want that type. Close closes it.
func (c *Client) Etcd() (*clientv3.Client, error) {
	c.lazy.Lock()
	defer c.lazy.Unlock()
	switch {
	case c.lazy.closed:
		return nil, ErrClosed
	case c.lazy.etcd != nil:
		return c.lazy.etcd, nil
	}
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints: c.config.Endpoints, TLS: c.config.TLS, Username: c.config.Username, Password: c.config.Password,
		DialTimeout: c.config.DialTimeout, DialKeepAliveTime: pingTime, DialKeepAliveTimeout: pingTimeout,
		Logger: zap.NewNop(), DialOptions: c.config.DialOptions,
	})
	if err != nil {
		return nil, fmt.Errorf("etcd's client: %w", err)
	}
	c.lazy.etcd = etcd
	return etcd, nil
}

// Conn returns etcd's client's connection, for services beside the stream, such as coord.v1.Introspection.
func (c *Client) Conn() (grpc.ClientConnInterface, error) {
	etcd, err := c.Etcd()
	if err != nil {
		return nil, err
	}
	return etcd.ActiveConnection(), nil
}

// ActiveConnection is Conn as etcd's client has it, nil if the client is closed: for packages that take either client.
func (c *Client) ActiveConnection() *grpc.ClientConn {
	etcd, err := c.Etcd()
	if err != nil {
		return nil
	}
	return etcd.ActiveConnection()
}
