package difftest

import (
	"net/url"
	"os"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

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
