package crashtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/client"
)

// The lock that everybody contends for, and the key that whoever holds it writes "CONTENDER ENTRY" to.
const (
	lockName = "crash/lock"
	heldKey  = "crash/held"
	lockTTL  = 2 // seconds
)

// Environment of a contender's process.
const (
	contenderEnv = "CRASHTEST_CONTENDER" // its name: "native…" or "etcd…"
	endpointsEnv = "CRASHTEST_ENDPOINTS"
)

// contend takes the lock and gives it back in every way until the process is killed.
func contend() {
	name, endpoints := os.Getenv(contenderEnv), strings.Split(os.Getenv(endpointsEnv), ",")
	var err error
	if strings.HasPrefix(name, "native") {
		err = contendNative(name, endpoints)
	} else {
		err = contendEtcd(name, endpoints)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// contendNative contends with this project's client.
func contendNative(name string, endpoints []string) error {
	c, err := client.New(client.Config{Endpoints: endpoints, SessionTTL: lockTTL * time.Second, Owner: name})
	if err != nil {
		return err
	}
	ctx := context.Background()
	for {
		held, err := c.Lock(lockName).Acquire(ctx)
		if err != nil {
			continue // lost while it waited
		}
		useLock(c, held.Guards(), name+" "+held.Key())
		if rand.IntN(4) > 0 {
			_ = held.Release(ctx) // what was lost needs no release
			continue
		}
		if s, err := c.Session(ctx); err == nil {
			_ = s.Close(ctx)
		}
	}
}

// contendEtcd contends with etcd's client.
func contendEtcd(name string, endpoints []string) error {
	cli, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	ctx := context.Background()
	for {
		s, err := concurrency.NewSession(cli, concurrency.WithTTL(lockTTL))
		if err != nil {
			continue
		}
		m := concurrency.NewMutex(s, lockName)
		for m.Lock(ctx) == nil {
			useLock(cli, []clientv3.Cmp{m.IsOwner()}, name+" "+m.Key())
			if rand.IntN(4) == 0 || m.Unlock(ctx) != nil {
				break
			}
		}
		_ = s.Close()
	}
}

// useLock writes who holds as long as the entry is there, a few times.
func useLock(kv clientv3.KV, guards []clientv3.Cmp, value string) {
	for range 1 + rand.IntN(3) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, _ = kv.Txn(ctx).If(guards...).Then(clientv3.OpPut(heldKey, value)).Commit()
		cancel()
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
	}
}
