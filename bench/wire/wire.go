// Package wire is the client side that every server of the benchmark is measured with: raw etcd v3 stubs over plain
// gRPC connections with the same options for all, so that what differs between two rows is the server.
package wire

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// Conn is one gRPC connection to one member, with the stubs the workloads use. Safe for concurrent use.
type Conn struct {
	KV          pb.KVClient
	Watch       pb.WatchClient
	Maintenance pb.MaintenanceClient

	cc *grpc.ClientConn
}

// Dial returns a connection to endpoint (host:port). It does not wait for the server: the first call connects, and a
// lost connection is tried again after milliseconds, because rows that restart servers measure the server's time and
// not gRPC's default back-off of a second.
func Dial(endpoint string) (*Conn, error) {
	cc, err := grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 2 * time.Millisecond, Multiplier: 1.3, MaxDelay: 20 * time.Millisecond,
			},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", endpoint, err)
	}
	return &Conn{
		KV:          pb.NewKVClient(cc),
		Watch:       pb.NewWatchClient(cc),
		Maintenance: pb.NewMaintenanceClient(cc),
		cc:          cc,
	}, nil
}

// Close ends the connection and every call on it.
func (c *Conn) Close() error { return c.cc.Close() }

// Pool is a fixed number of connections spread evenly over the members.
type Pool []*Conn

// DialPool opens n connections, the i-th to endpoint i modulo their number.
func DialPool(endpoints []string, n int) (Pool, error) {
	pool := make(Pool, 0, n)
	for i := range n {
		c, err := Dial(endpoints[i%len(endpoints)])
		if err != nil {
			return nil, errors.Join(err, pool.Close())
		}
		pool = append(pool, c)
	}
	return pool, nil
}

// Conn returns the connection that client i shares with others.
func (p Pool) Conn(i int) *Conn { return p[i%len(p)] }

// Close closes every connection of the pool.
func (p Pool) Close() error {
	var errs []error
	for _, c := range p {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// WaitReady returns when the member at endpoint has answered a linearizable read, or with the last error when ctx ends.
func WaitReady(ctx context.Context, endpoint string) error {
	c, err := Dial(endpoint)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		err := read(ctx, c)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no linearizable read from %s: %w", endpoint, err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// read does one linearizable read. A member without a leader may hold a request for many seconds, so each attempt is
// short and the next one may find the leader.
func read(ctx context.Context, c *Conn) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := c.KV.Range(ctx, &pb.RangeRequest{Key: []byte("ready")}, grpc.WaitForReady(true))
	return err
}

// Leader returns the index in endpoints of the member that says it leads, asking each in turn until ctx ends.
func Leader(ctx context.Context, endpoints []string) (int, error) {
	for {
		for i, e := range endpoints {
			if st, err := Status(ctx, e); err == nil && st.Leader != 0 && st.Leader == st.Header.GetMemberId() {
				return i, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("no leader among %s: %w", strings.Join(endpoints, ", "), ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Status asks one member for its status, for at most two seconds.
func Status(ctx context.Context, endpoint string) (*pb.StatusResponse, error) {
	c, err := Dial(endpoint)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.Maintenance.Status(ctx, &pb.StatusRequest{})
}
