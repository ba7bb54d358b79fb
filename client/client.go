package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Times of a connection. gRPC does not ping more often than every ten seconds, so pings find what nothing else finds;
// sessions find a silent member sooner.
const (
	pingTime    = 10 * time.Second
	pingTimeout = 3 * time.Second
	minConnect  = time.Second // for one attempt to connect
)

// Config says where the servers are and how to talk to them.
type Config struct {
	// Endpoints are the client addresses of the members: host:port, or http(s)://host:port. At least one.
	Endpoints []string
	// TLS, if set, is used for all endpoints.
	TLS *tls.Config
	// Username and Password, if set, authenticate.
	Username, Password string
	// DialTimeout bounds the authentication of a new connection. Default 5 s.
	DialTimeout time.Duration
	// SessionTTL is the TTL of sessions that are not given one. Default 10 s; the server may raise it.
	SessionTTL time.Duration
	// Owner is who we are, for people who look at a lock's queue. Default "host:pid".
	Owner string
	// Logger is for what cannot be returned. Default: none.
	Logger *zap.Logger
	// DialOptions are added to those of the connection.
	DialOptions []grpc.DialOption
}

func (c *Config) ensureDefaults() {
	if c.DialTimeout == 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.SessionTTL == 0 {
		c.SessionTTL = 10 * time.Second
	}
	if c.Owner == "" {
		host, _ := os.Hostname()
		c.Owner = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
}

func (c *Config) validate() error {
	switch {
	case len(c.Endpoints) == 0:
		return errors.New("client config: no endpoints")
	case slices.Contains(c.Endpoints, ""):
		return errors.New("client config: an endpoint is empty")
	case c.DialTimeout < 0 || c.SessionTTL < 0:
		return fmt.Errorf("client config: negative time: dial timeout %v, session TTL %v", c.DialTimeout, c.SessionTTL)
	}
	return nil
}

// Client talks to one cluster. Safe for concurrent use. Its etcd client is for everything that is not a session, a lock or
// an election: keys, transactions, watches.
type Client struct {
	*clientv3.Client // closed by Close; nobody else may call SetEndpoints

	config   Config
	lock     coordv1.LockClient
	election coordv1.ElectionClient
	lease    pb.LeaseClient
	members  *endpoints
	clock    clock
	running  sync.WaitGroup // the watch over the connection

	shared chan *Session // capacity 1, holds the shared session or nil: a mutex that a context can give up on
}

// New returns a Client. It waits for a server only to authenticate, if a user is configured; else the first call connects.
func New(config Config) (*Client, error) {
	config.ensureDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	order := slices.Clone(config.Endpoints)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	etcd, err := connect(config, order)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	conn := etcd.ActiveConnection()
	c := &Client{
		Client: etcd, config: config, clock: newClock(), shared: make(chan *Session, 1),
		lock: coordv1.NewLockClient(conn), election: coordv1.NewElectionClient(conn), lease: pb.NewLeaseClient(conn),
		members: newEndpoints(order, func(e string) { etcd.SetEndpoints(e) }, config.Logger),
	}
	c.shared <- nil
	c.running.Go(func() { c.members.watch(etcd.Ctx(), conn) })
	return c, nil
}

// connect makes the connection to the first of the endpoints that works, which it moves to the front. Only where a user
// must be authenticated is a server needed for that.
func connect(config Config, order []string) (etcd *clientv3.Client, err error) {
	for range order {
		etcd, err = clientv3.New(clientv3.Config{
			Endpoints: order[:1:1], TLS: config.TLS, Username: config.Username, Password: config.Password,
			DialTimeout: config.DialTimeout, DialKeepAliveTime: pingTime, DialKeepAliveTimeout: pingTimeout,
			PermitWithoutStream: true, Logger: config.Logger,
			DialOptions: append([]grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: minConnect,
			})}, config.DialOptions...),
		})
		if err == nil {
			return etcd, nil
		}
		copy(order, append(order[1:len(order):len(order)], order[0]))
	}
	return nil, err
}

// LockService is the native Lock service on the client's connection, for what the SDK does not offer.
func (c *Client) LockService() coordv1.LockClient { return c.lock }

// ElectionService is the native Election service on the client's connection.
func (c *Client) ElectionService() coordv1.ElectionClient { return c.election }

// Close closes the client's shared session, which gives up what it holds, and the connection. Sessions made by NewSession
// should be closed before: they are lost.
func (c *Client) Close() error {
	var err error
	if s := <-c.shared; s != nil && s.Err() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), s.attempt)
		err = s.Close(ctx)
		cancel()
	}
	c.shared <- nil
	if closeErr := c.Client.Close(); err == nil && !errors.Is(closeErr, context.Canceled) {
		err = closeErr
	}
	c.running.Wait()
	return err
}

// Session returns the session that Lock and Election of this client share. A new one is made where there is none or
// the last one was lost.
func (c *Client) Session(ctx context.Context) (*Session, error) {
	var s *Session
	select {
	case s = <-c.shared:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { c.shared <- s }()
	if s != nil && s.Err() == nil {
		return s, nil
	}
	fresh, err := c.NewSession(ctx)
	if err != nil {
		return nil, err
	}
	s = fresh
	return s, nil
}
