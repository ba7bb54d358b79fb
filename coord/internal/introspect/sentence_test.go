package introspect

import (
	"testing"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func TestSentences(t *testing.T) {
	entry := &coordv1.Entry{
		Key: "jobs/4a3f", Token: 42, Lease: 0x4a3f, Owner: "worker", Labels: map[string]string{"why": "reindex"},
		Value: []byte("worker\nwhy=reindex"), SinceUnixMs: 1796140800000,
	}
	identity := &coordv1.Identity{
		Host: "db1", Process: "indexer:77", Labels: map[string]string{"zone": "b", "team": "search"},
	}
	etcd := &coordv1.Entry{Key: "jobs/4a3f", Token: 42, Lease: 0x4a3f}
	candidate := &coordv1.Entry{
		Key: "jobs/4a3f", Token: 42, Lease: 0x4a3f, Value: []byte("10.0.0.1:80"), SinceUnixMs: 1796140800000,
	}
	lock, election := coordv1.QueueKind_QUEUE_LOCK, coordv1.QueueKind_QUEUE_ELECTION
	for name, test := range map[string]struct {
		situation
		want string
	}{
		"held": {
			situation{
				queue: &coordv1.QueueInfo{
					Kind: lock, Name: "jobs", Holder: entry, Identity: identity, Waiting: 2,
				}, remainingMS: 8250,
			},
			`lock "jobs" is held by "worker" (host "db1", process "indexer:77", team "search", why "reindex", zone "b", session 4a3f) ` +
				`with token 42 since 2026-12-01T16:00:00Z; 2 wait; ` +
				`it becomes free by a release, or by the expiry of session 4a3f in at most 8.25s unless it is renewed`,
		},
		"held with a place": {
			situation{
				queue: &coordv1.QueueInfo{
					Kind: lock, Name: "jobs", Holder: candidate, Identity: &coordv1.Identity{Host: "db1"}, Waiting: 1,
				}, remainingMS: 800, placeMS: 3000,
			},
			`lock "jobs" is held by "" (host "db1", session 4a3f) with token 42 since 2026-12-01T16:00:00Z; 1 waits; ` +
				`it becomes free by a release, or by the expiry of session 4a3f in at most 800ms unless it is renewed, and 3s later`,
		},
		"by an etcd client": {
			situation{
				queue: &coordv1.QueueInfo{
					Kind: coordv1.QueueKind_QUEUE_ETCD, Name: "jobs", Holder: etcd,
				}, remainingMS: 60000,
			},
			`lock "jobs" is held by "" (lease 4a3f) with token 42 since an unknown time; nobody waits; ` +
				`it becomes free by a release, or by the expiry of lease 4a3f in at most 1m0s unless it is renewed`,
		},
		"lingering": {
			situation{queue: &coordv1.QueueInfo{Kind: lock, Name: "jobs", Waiting: 3, LingerMs: 2100}, dead: entry},
			`lock "jobs" is kept for "worker" (session 4a3f) with token 42 since 2026-12-01T16:00:00Z, who died; 3 wait; it becomes free in at most 2.1s`,
		},
		"free": {
			situation{queue: &coordv1.QueueInfo{Kind: lock, Name: "jobs"}},
			`lock "jobs" is free; nobody waits`,
		},
		"led": {
			situation{
				queue: &coordv1.QueueInfo{
					Kind: election, Name: "jobs", Holder: candidate, Identity: identity, Waiting: 1,
				}, remainingMS: 9000,
			},
			`election "jobs" is led by "10.0.0.1:80" (host "db1", process "indexer:77", team "search", zone "b", session 4a3f) ` +
				`in term 42 since 2026-12-01T16:00:00Z; 1 waits; ` +
				`it gets another leader by a resignation or a transfer, or by the expiry of session 4a3f in at most 9s unless it is renewed`,
		},
		"no leader": {
			situation{queue: &coordv1.QueueInfo{Kind: coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, Name: "jobs"}},
			`election "jobs" with priorities has no leader; nobody waits`,
		},
		"read by several": {
			situation{
				queue: &coordv1.QueueInfo{
					Kind: coordv1.QueueKind_QUEUE_RWLOCK, Name: "jobs", Holder: entry, Holding: 3, Waiting: 1,
				},
				remainingMS: 1000,
			},
			`read-write lock "jobs" is held for reading by 3, the oldest "worker" (why "reindex", lease 4a3f) with token 42 since 2026-12-01T16:00:00Z; ` +
				`1 waits; it becomes free by a release, or by the expiry of lease 4a3f in at most 1s unless it is renewed`,
		},
		"written": {
			situation{
				queue: &coordv1.QueueInfo{
					Kind: coordv1.QueueKind_QUEUE_RWLOCK, Name: "jobs", Holding: 1, Holder: &coordv1.Entry{
						Owner: "worker", Token: 42, Lease: 0x4a3f, Write: true,
					},
				},
				remainingMS: 1000,
			},
			`read-write lock "jobs" is held for writing by "worker" (lease 4a3f) with token 42 since an unknown time; ` +
				`nobody waits; it becomes free by a release, or by the expiry of lease 4a3f in at most 1s unless it is renewed`,
		},
		"permits": {
			situation{
				queue: &coordv1.QueueInfo{
					Kind: coordv1.QueueKind_QUEUE_SEMAPHORE, Name: "jobs", Holding: 2, Waiting: 3,
					Holder:    &coordv1.Entry{Owner: "worker", Token: 42, Lease: 0x4a3f, Permits: 2},
					Semaphore: &coordv1.SemaphoreInfo{Limit: 4, Held: 3},
				},
				remainingMS: 1000,
			},
			`semaphore "jobs" has 3 of 4 permits held by 2, the oldest "worker" (lease 4a3f) with 2 and token 42 since an unknown time; ` +
				`3 wait; permits become free by a release, or by the expiry of lease 4a3f in at most 1s unless it is renewed`,
		},
		"no limit": {
			situation{
				queue: &coordv1.QueueInfo{
					Kind: coordv1.QueueKind_QUEUE_SEMAPHORE, Name: "jobs", Semaphore: &coordv1.SemaphoreInfo{},
				},
			},
			`semaphore "jobs" has no limit; nobody waits`,
		},
		"parties gather": {
			situation{queue: &coordv1.QueueInfo{
				Kind: coordv1.QueueKind_QUEUE_BARRIER, Name: "jobs", Waiting: 2,
				Barrier: &coordv1.BarrierInfo{Parties: 5, Arrived: 2, Generation: 3},
			}},
			`barrier "jobs" has 2 of 5 parties there and was open 3 times; 2 wait; it opens when 3 more have come`,
		},
		"parties inside": {
			situation{queue: &coordv1.QueueInfo{
				Kind: coordv1.QueueKind_QUEUE_BARRIER, Name: "jobs", Holding: 1, Holder: etcd,
				Barrier: &coordv1.BarrierInfo{Parties: 5, Arrived: 1, Generation: 3, Open: true},
			}},
			`barrier "jobs" is open for the 3. time, with 1 of 5 parties inside, the oldest "" (lease 4a3f) with token 42 since an unknown time; ` +
				`nobody waits; it can be entered again when all have left`,
		},
		"deadlock": {
			situation{
				queue:       &coordv1.QueueInfo{Kind: lock, Name: "jobs", Holder: etcd, Waiting: 1},
				remainingMS: 1000, deadlock: []edge{{0x10, 0x4a3f, "jobs"}, {0x4a3f, 0x10, "other"}},
			},
			`lock "jobs" is held by "" (lease 4a3f) with token 42 since an unknown time; 1 waits; ` +
				`it becomes free by a release, or by the expiry of lease 4a3f in at most 1s unless it is renewed; ` +
				`deadlock: 10 waits for 4a3f ("jobs"), 4a3f waits for 10 ("other")`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.as = test.queue.Kind
			if got := test.sentence(); got != test.want {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
		})
	}
}
