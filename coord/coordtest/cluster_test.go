package coordtest_test

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/coordtest"
)

var nopLogger = zap.NewNop()

func url(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

func dial(t *testing.T, endpoints []string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestThreeMembersServeWhileOneIsStopped(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{Members: 3})
	client := dial(t, c.Endpoints())
	for round := range 3 {
		c.StopMember(round)
		key := fmt.Sprint("k", round)
		if _, err := client.Put(t.Context(), key, "v"); err != nil {
			t.Fatalf("put with member %d stopped: %v", round, err)
		}
		c.StartMember(round)
		one := dial(t, c.Endpoints()[round:round+1])
		r, err := one.Get(t.Context(), key)
		if err != nil || len(r.Kvs) != 1 {
			t.Fatalf("the member that came back does not see %s: %v %v", key, r, err)
		}
	}
}

func TestRestartOfAllKeepsEverything(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{Members: 3})
	client := dial(t, c.Endpoints())
	for i := range 50 {
		if _, err := client.Put(t.Context(), fmt.Sprint("k", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	c.Stop()
	done := make(chan struct{})
	for i := range 3 { // one alone has no quorum: they must start together
		go func() {
			c.StartMember(i)
			done <- struct{}{}
		}()
	}
	for range 3 {
		<-done
	}
	r, err := client.Get(t.Context(), "k", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || r.Count != 50 {
		t.Fatalf("%v keys, %v", r, err)
	}
}
