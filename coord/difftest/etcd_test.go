package difftest

import (
	"net/url"
	"os"
	"testing"
	"time"
	_ "unsafe" // for go:linkname

	"go.etcd.io/etcd/server/v3/embed"
)

// watchResyncPeriod is how long etcd's store waits between two looks at the watchers that are behind, 100 ms. Most of
// the time of a sequence would be spent waiting for it.
//
//go:linkname watchResyncPeriod go.etcd.io/etcd/server/v3/storage/mvcc.watchResyncPeriod
var watchResyncPeriod time.Duration

func init() { watchResyncPeriod = 4 * time.Millisecond }

// startEtcd starts a real etcd of one member in this process, without fsync, and returns its address.
func startEtcd(t testing.TB) (addr string, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "difftest-etcd-")
	if err != nil {
		t.Fatal(err)
	}
	cfg := embed.NewConfig()
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.Dir = dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = local, local
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = local, local
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = true
	cfg.WatchProgressNotifyInterval = notifyInterval
	cfg.LogLevel = "panic"
	cfg.LogOutputs = []string{"stderr"}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	stop = func() {
		e.Close()
		os.RemoveAll(dir)
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		stop()
		t.Fatal("etcd is not ready after a minute")
	}
	return e.Clients[0].Addr().String(), stop
}
