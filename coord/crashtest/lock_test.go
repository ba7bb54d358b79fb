package crashtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestLockUnderFire has native and etcd clients contend for one lock while members and holders are killed and stopped
// and entries removed in every way, and checks the history that the log has of it.
func TestLockUnderFire(t *testing.T) {
	c := startCluster(t, 3)
	cli := c.dial()
	h := recordLock(t, cli)
	people := make(map[string]*process)
	for i := range 3 {
		for _, kind := range []string{"native", "etcd"} {
			name := fmt.Sprint(kind, i)
			people[name] = startContender(t, c, name)
		}
	}
	h.next(t, "the start", time.Now(), 0)
	for _, removal := range []struct {
		what string
		do   func(holder string, entry *mvccpb.KeyValue)
	}{
		{"release", func(string, *mvccpb.KeyValue) {}},
		{"plain delete", func(_ string, entry *mvccpb.KeyValue) {
			if _, err := cli.Delete(within(t, patience), string(entry.Key)); err != nil {
				t.Error(err)
			}
		}},
		{"revoke", func(_ string, entry *mvccpb.KeyValue) {
			// The contender may have closed its session meanwhile.
			_, _ = cli.Revoke(within(t, patience), clientv3.LeaseID(entry.Lease))
		}},
		{"kill -9 of the holder", func(holder string, _ *mvccpb.KeyValue) {
			people[holder].kill()
			people[holder] = startContender(t, c, holder)
		}},
		{"SIGSTOP of the holder", func(holder string, _ *mvccpb.KeyValue) {
			people[holder].signal(syscall.SIGSTOP)
			go func(p *process) {
				time.Sleep(2 * lockTTL * time.Second)
				p.signal(syscall.SIGCONT)
			}(people[holder])
		}},
		{"kill -9 of the leader", func(string, *mvccpb.KeyValue) {
			c.leader().kill()
			c.start()
		}},
	} {
		for range rounds(t) {
			holder, entry := h.holder(t)
			begin := time.Now()
			removal.do(holder, entry)
			h.next(t, removal.what, begin, entry.CreateRevision)
		}
	}
	h.everybody(t, len(people))
	for _, p := range people {
		p.kill()
	}
	h.finish(t, cli)
}

func startContender(t *testing.T, c *cluster, name string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{roleEnv + "=contend", contenderEnv + "=" + name, endpointsEnv + "=" + strings.Join(c.endpoints(),
		",")}
	return launch{env: env}.start(t, filepath.Join(c.dir, name+".log"), self)
}

// lockHistory replays what the log says about the lock, and checks each step.
type lockHistory struct {
	t       *testing.T
	running sync.WaitGroup
	stop    context.CancelFunc

	mu sync.Mutex
	// queue has the entries that exist, in the order of the log.
	queue map[string]*mvccpb.KeyValue
	// user is the contender that last used the lock, entry its entry then, uses how often anybody did.
	user  string
	entry *mvccpb.KeyValue
	uses  int
	users map[string]int
}

func recordLock(t *testing.T, cli *clientv3.Client) *lockHistory {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	h := &lockHistory{t: t, stop: stop, queue: make(map[string]*mvccpb.KeyValue), users: make(map[string]int)}
	events := cli.Watch(ctx, "crash/", clientv3.WithPrefix(), clientv3.WithRev(1))
	h.running.Go(func() {
		for resp := range events {
			if err := resp.Err(); err != nil && ctx.Err() == nil {
				t.Errorf("watch: %v", err)
			}
			h.replay(resp.Events)
		}
	})
	t.Cleanup(h.end)
	return h
}

func (h *lockHistory) end() {
	h.stop()
	h.running.Wait()
}

func (h *lockHistory) replay(events []*clientv3.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range events {
		key := string(e.Kv.Key)
		switch {
		case key == heldKey:
			h.used(e.Kv)
		case e.Type == clientv3.EventTypeDelete:
			delete(h.queue, key)
		default:
			h.queue[key] = e.Kv
		}
	}
}

// used checks a use of the lock: it must be the holder's, and tokens must not fall.
func (h *lockHistory) used(kv *mvccpb.KeyValue) {
	user, key, _ := strings.Cut(string(kv.Value), " ")
	entry := h.queue[key]
	if entry == nil {
		h.t.Errorf("revision %d: %s uses the lock without an entry", kv.ModRevision, user)
		return
	}
	if first := h.first(); first != entry {
		h.t.Errorf("revision %d: %s uses the lock with token %d while %s holds it with %d", kv.ModRevision, user,
			entry.CreateRevision, first.Key, first.CreateRevision)
	}
	if h.entry != nil && entry.CreateRevision < h.entry.CreateRevision {
		h.t.Errorf("revision %d: the token falls from %d to %d", kv.ModRevision, h.entry.CreateRevision,
			entry.CreateRevision)
	}
	h.user, h.entry = user, entry
	h.uses++
	h.users[user]++
}

// first is the entry that holds.
func (h *lockHistory) first() *mvccpb.KeyValue {
	var first *mvccpb.KeyValue
	for _, entry := range h.queue {
		if first == nil || entry.CreateRevision < first.CreateRevision {
			first = entry
		}
	}
	return first
}

// holder waits until somebody uses the lock and is still in the queue.
func (h *lockHistory) holder(t *testing.T) (string, *mvccpb.KeyValue) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		user, entry := h.user, h.entry
		first := h.first()
		held := entry != nil && first != nil && first.CreateRevision == entry.CreateRevision
		h.mu.Unlock()
		if held {
			return user, entry
		}
	}
	t.Fatal("nobody holds the lock")
	return "", nil
}

// next waits until somebody uses the lock with a token greater than the one given: the lock was handed on.
func (h *lockHistory) next(t *testing.T, what string, begin time.Time, token int64) {
	t.Helper()
	const ttl = lockTTL * time.Second
	bound := 3 * (ttl + lateness(ttl))
	for ; ; time.Sleep(time.Millisecond) {
		took := time.Since(begin)
		h.mu.Lock()
		handed := h.entry != nil && h.entry.CreateRevision > token
		h.mu.Unlock()
		if handed {
			t.Logf("%s: next holder after %v", what, took.Round(time.Millisecond))
			return
		}
		if took > bound {
			t.Errorf("%s: the lock was not handed on within %v", what, bound)
			return
		}
	}
}

// everybody waits until n contenders have used the lock.
func (h *lockHistory) everybody(t *testing.T, n int) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(10 * time.Millisecond) {
		h.mu.Lock()
		all := len(h.users) == n
		h.mu.Unlock()
		if all {
			return
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t.Errorf("not everybody used the lock: %v", h.users)
}

// finish waits until the entries of everybody, who is dead by now, are gone.
func (h *lockHistory) finish(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	const ttl = lockTTL * time.Second
	left := int64(-1)
	for begin := time.Now(); left != 0 && time.Since(begin) < 3*(ttl+lateness(ttl)); time.Sleep(50 * time.Millisecond) {
		got, err := cli.Get(within(t, patience), lockName+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		left = got.Count
	}
	if left != 0 {
		t.Errorf("%d entries are left of clients that are dead", left)
	}
	h.end()
	t.Logf("the lock was used %d times: %v", h.uses, h.users)
}
