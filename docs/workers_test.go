//go:build unix

package docs_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Two of five workers work at a time, at every revision of the store, also when one is killed at work; its permit is used again.
func TestExampleWorkers(t *testing.T) {
	t.Parallel()
	endpoint, _ := startMember(t)
	ctx, _, etcd := connectTo(t, endpoint)
	const limit = 2
	workers := map[string]*process{}
	for i := range 5 {
		name := fmt.Sprint("worker-", i)
		workers[name] = start(t, endpoint, "workers", "-name", name, "-limit", fmt.Sprint(limit), "-ttl", "1s")
	}

	// What runs, after each revision. A worker's key and its permit go in one.
	running, most, done := map[string]bool{}, 0, map[string]int{}
	events := etcd.Watch(ctx, "running/", clientv3.WithRev(1), clientv3.WithPrefix())
	until := func(what string, holds func() bool) {
		t.Helper()
		for !holds() {
			resp, ok := <-events
			if !ok || resp.Err() != nil {
				t.Fatalf("the watch ended before %s: %v", what, resp.Err())
			}
			for i, ev := range resp.Events {
				name := strings.TrimPrefix(string(ev.Kv.Key), "running/")
				if ev.Type == clientv3.EventTypePut {
					running[name] = true
				} else {
					delete(running, name)
					done[name]++
				}
				if last := i+1 == len(resp.Events) || resp.Events[i+1].Kv.ModRevision > ev.Kv.ModRevision; last && len(running) > limit {
					t.Fatalf("%v run at revision %d, and %d may", running, ev.Kv.ModRevision, limit)
				}
			}
			most = max(most, len(running))
		}
	}
	all := func(times int) func() bool {
		return func() bool {
			for name := range workers {
				if done[name] < times {
					return false
				}
			}
			return true
		}
	}
	until("each has done two jobs", all(2))
	until("one works", func() bool { return len(running) > 0 })
	for name := range running {
		workers[name].signal(syscall.SIGKILL)
		delete(workers, name)
		until("the killed one is gone", func() bool { return !running[name] })
		break
	}
	clear(done)
	until("each of the others has done two more", all(2))
	until("two work at a time", func() bool { return most == limit })

	for name, worker := range workers {
		worker.signal(syscall.SIGTERM)
		if code := worker.ended(t); code != 0 {
			t.Errorf("%s ended with %d", name, code)
		}
	}
}
