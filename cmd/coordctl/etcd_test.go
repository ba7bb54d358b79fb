//go:build unix

package main_test

import (
	"net/url"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// TestAgainstEtcd talks to a server of another make: etcdctl's verbs work, and lock and elect say what is missing.
func TestAgainstEtcd(t *testing.T) {
	etcd := startEtcd(t)
	if got := ok(t, "--endpoints", etcd, "put", "k", "v"); got != "OK\n" {
		t.Errorf("put printed %q", got)
	}
	if got := ok(t, "--endpoints", etcd, "get", "k"); got != "k\nv\n" {
		t.Errorf("get printed %q", got)
	}
	for _, args := range [][]string{{"lock", "x", "--", "true"}, {"lock", "x", "--try", "--", "true"},
		{"elect", "x", "v", "--", "true"}} {
		r := start(t, options{}, append([]string{"--endpoints", etcd}, args...)...)
		r.wantCode(t, 75)
		r.wantOneLine(t, "is it coordd?")
	}
	r := start(t, options{}, "--endpoints", etcd, "elect", "-l", "x")
	r.wantCode(t, 1)
	r.wantOneLine(t, "is it coordd?")
}

func startEtcd(t *testing.T) (endpoint string) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	clients, peers := url.URL{Scheme: "http", Host: freeAddr()}, url.URL{Scheme: "http", Host: freeAddr()}
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
	return clients.Host
}
