package queue

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// startEtcd runs a server for one test. Nothing passes between it and the client any more once silence was called.
func startEtcd(t *testing.T) (client *clientv3.Client, silence func()) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	clients, peers := freeURL(t), freeURL(t)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	select {
	case <-etcd.Server.ReadyNotify():
	case <-time.After(patience):
		t.Fatal("etcd did not become ready")
	}
	var silent atomic.Bool
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		return &cuttable{conn, &silent}, err
	}
	client, err = clientv3.New(clientv3.Config{
		Endpoints: []string{clients.Host}, DialTimeout: patience, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(dial)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, func() { silent.Store(true) }
}

// cuttable is a connection that swallows everything once silent is set.
type cuttable struct {
	net.Conn
	silent *atomic.Bool
}

func (c *cuttable) Write(p []byte) (int, error) {
	if c.silent.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *cuttable) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.silent.Load() {
			return n, err
		}
	}
}

func freeURL(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

func acquire(t *testing.T, client *clientv3.Client, name string, ttl time.Duration) *Held {
	t.Helper()
	held, err := Acquire(t.Context(), client, Request{Name: name, TTL: ttl, Reach: patience})
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func waitLost(t *testing.T, held *Held) {
	t.Helper()
	select {
	case <-held.Lost():
	case <-time.After(patience):
		t.Fatal("the loss was not noticed")
	}
	if err := held.Err(); !errors.Is(err, ErrLost) {
		t.Fatalf("Err is %v, want ErrLost", err)
	}
}

func deleteKey(t *testing.T, client *clientv3.Client, key string) {
	t.Helper()
	if resp, err := client.Delete(t.Context(), key); err != nil || resp.Deleted != 1 {
		t.Fatalf("delete %s: %v, %v", key, resp, err)
	}
}

// TestReleaseIsByToken takes the entry away, and lets another take its very key, unseen by the holder's watch: the release
// says so and leaves the other one's entry alone.
func TestReleaseIsByToken(t *testing.T) {
	client, _ := startEtcd(t)
	held := acquire(t, client, "l", time.Minute)
	held.session.stopWatch()
	deleteKey(t, client, held.Key())
	if _, err := client.Put(t.Context(), held.Key(), "another"); err != nil {
		t.Fatal(err)
	}
	if err := held.Release(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("Release of a deleted entry: %v, want ErrLost", err)
	}
	if resp, err := client.Get(t.Context(), held.Key()); err != nil || len(resp.Kvs) != 1 {
		t.Errorf("the other entry is gone: %v, %v", resp, err)
	}
}

func TestReleaseTwiceIsHarmless(t *testing.T) {
	client, _ := startEtcd(t)
	first := acquire(t, client, "l", time.Minute)
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := acquire(t, client, "l", time.Minute)
	if second.Token() <= first.Token() {
		t.Errorf("token %d after %d", second.Token(), first.Token())
	}
	_ = first.Release(t.Context())
	if err := second.Release(t.Context()); err != nil {
		t.Errorf("Release after the other's second release: %v", err)
	}
}

// TestLostBeforeTheServerCouldGrantAgain cuts the connection: the holder must give up while the server still has the entry.
func TestLostBeforeTheServerCouldGrantAgain(t *testing.T) {
	const ttl = 3 * time.Second
	client, silence := startEtcd(t)
	watcher, err := clientv3.New(clientv3.Config{Endpoints: client.Endpoints(), DialTimeout: patience, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	held := acquire(t, client, "l", ttl)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		<-watcher.Watch(t.Context(), held.Key(), clientv3.WithRev(held.Token()+1))
	}()
	time.Sleep(ttl / 2) // a renewal is due in between
	silence()
	waitLost(t, held)
	select {
	case <-gone:
		t.Error("the server deleted the entry before the holder gave up")
	default:
	}
	<-gone
}

// TestLossIsSeenThroughCompaction deletes the entry and compacts the deletion away before the watch starts.
func TestLossIsSeenThroughCompaction(t *testing.T) {
	client, _ := startEtcd(t)
	s, err := openSession(t.Context(), client, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close(errReleased)
	put, err := client.Put(t.Context(), "l/entry", "", clientv3.WithLease(s.lease))
	if err != nil {
		t.Fatal(err)
	}
	deleteKey(t, client, "l/entry")
	last, err := client.Put(t.Context(), "other", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), last.Header.Revision); err != nil {
		t.Fatal(err)
	}
	s.watchEntry("l/entry", put.Header.Revision)
	waitLost(t, &Held{session: s})
}

// TestWaitSurvivesCompaction compacts while a waiter waits behind two others.
func TestWaitSurvivesCompaction(t *testing.T) {
	client, _ := startEtcd(t)
	first := acquire(t, client, "l", time.Minute)
	granted := make(chan error, 1)
	go func() {
		held, err := Acquire(t.Context(), client, Request{Name: "l", TTL: time.Minute, Reach: patience})
		if err == nil {
			err = held.Release(context.Background())
		}
		granted <- err
	}()
	waitEntries(t, client, "l", 2)
	put, err := client.Put(t.Context(), "other", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), put.Header.Revision); err != nil {
		t.Fatal(err)
	}
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-granted:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("the waiter was never granted")
	}
}

func waitEntries(t *testing.T, client *clientv3.Client, name string, n int64) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		resp, err := client.Get(t.Context(), name+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		if resp.Count == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d entries in the queue, want %d", resp.Count, n)
		}
	}
}
