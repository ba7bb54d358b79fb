package crashtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
)

const (
	multitudeSize   = 5000
	multitudeTTL    = 6 * time.Second // a busy machine lets a process stand still for seconds
	multitudePrefix = "multitude/"
	multitudeReady  = "the multitude is there"
)

// multitude holds very many sessions, each with a key, until the process is killed.
func multitude() {
	c, err := client.New(client.Config{Endpoints: strings.Split(os.Getenv(endpointsEnv), ",")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx := context.Background()
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() {
			for n := worker; n < multitudeSize; n += 64 {
				s, err := c.NewSession(ctx, client.WithTTL(multitudeTTL))
				if err == nil {
					_, err = s.KV().Put(ctx, fmt.Sprint(multitudePrefix, n), "", clientv3.WithLease(s.Lease()))
				}
				if err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
			}
		})
	}
	wg.Wait()
	fmt.Println(multitudeReady)
	select {}
}

// TestS5MassDeath kills a process with very many sessions on one stream. While it lives none is lost, though it lives
// for longer than their TTL. After its death all are gone within the time that one would take, and the backlog of
// expiries; nobody is early, and writes go on.
func TestS5MassDeath(t *testing.T) {
	c := startCluster(t, 3)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(c.dir, "multitude.log")
	p := launch{
		env: []string{roleEnv + "=multitude", endpointsEnv + "=" + strings.Join(c.endpoints(), ",")},
	}.start(t, log, self)
	waitFor(t, p, multitudeReady)
	cli := c.dial()
	count := func() int64 {
		got, err := cli.Get(within(t, patience), multitudePrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return got.Count
	}
	time.Sleep(2 * multitudeTTL)
	if n := count(); n != multitudeSize {
		t.Fatalf("%d of %d sessions live after twice their TTL", n, multitudeSize)
	}
	w := startWriters(t, c, 4, patience)
	one, err := cli.Get(within(t, patience), multitudePrefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	// one stream: all have the same
	least, err := cli.TimeToLive(within(t, patience), clientv3.LeaseID(one.Kvs[0].Lease))
	if err != nil {
		t.Fatal(err)
	}
	died := time.Now()
	p.kill()
	for count() == multitudeSize {
		time.Sleep(time.Millisecond)
	}
	if first := time.Since(asked); first < time.Duration(least.TTL)*time.Second {
		t.Errorf("the first session was gone %v after it was to live for %d s at least", first, least.TTL)
	}
	for count() > 0 {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(died)
	// A tick expires a thousand; the next one follows at once.
	backlog := multitudeSize / 1000 * 100 * time.Millisecond
	t.Logf("%d sessions of one process with a TTL of %v were gone %v after its death", multitudeSize, multitudeTTL,
		took.Round(time.Millisecond))
	if bound := 3 * (multitudeTTL + lateness(multitudeTTL) + backlog); took > bound {
		t.Errorf("that is more than %v", bound)
	}
	w.check(c.dial())
}

// waitFor waits until a process has said something.
func waitFor(t *testing.T, p *process, text string) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(20 * time.Millisecond) {
		out, err := os.ReadFile(p.log)
		if err == nil && strings.Contains(string(out), text) {
			return
		}
		if !p.running() {
			t.Fatalf("the process has ended: %s", p.tail(10))
		}
	}
	t.Fatalf("%q was not said within %v: %s", text, patience, p.tail(10))
}
