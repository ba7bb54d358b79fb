package coordtest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// soon is how long a test lets somebody wait who must not be let in.
const soon = 20 * time.Millisecond

// foreignKey is a form of what another client may put directly below a name.
type foreignKey struct {
	suffix string
	lease  int64 // 0: none; it is granted
}

// foreignKeys are all forms but that of a session's entry on the lease in its name.
var foreignKeys = map[string][]foreignKey{
	"least lease":           {{fmt.Sprintf("%x", int64(math.MinInt64)), math.MinInt64}},
	"lease -1":              {{"-1", -1}},
	"no lease":              {{"7f", 0}},
	"lease in no key":       {{"7f", 0x80}},
	"lease of -1 under 1":   {{"1", -1}},
	"empty":                 {{"", 0}},
	"empty, on a lease":     {{"", 0x80}},
	"words":                 {{"notes", 0}},
	"upper case":            {{"7F", 0x7f}},
	"leading zero":          {{"07f", 0x7f}},
	"prefix 0x":             {{"0x7f", 0x7f}},
	"owner of no lease":     {{"7f.owner", 0}},
	"empty owner":           {{"7f.", 0x7f}},
	"beyond 64 bits":        {{"10000000000000000", 0x80}},
	"not UTF-8":             {{"\xff\xfe", 0}},
	"a zero byte":           {{"\x00", 0x80}},
	"two at once":           {{"80", 0x80}, {"81", 0x81}},
	"a foreign one at once": {{"80", 0x80}, {"x", 0}},
}

// putForeign creates the keys in one transaction.
func putForeign(t *testing.T, c *clientv3.Client, name string, keys []foreignKey) {
	t.Helper()
	var ops []clientv3.Op
	for _, k := range keys {
		if k.lease != 0 {
			if err := grantID(t.Context(), c, k.lease); err != nil {
				t.Fatal(err)
			}
		}
		ops = append(ops, clientv3.OpPut(name+"/"+k.suffix, "theirs", clientv3.WithLease(clientv3.LeaseID(k.lease))))
	}
	if _, err := c.Txn(t.Context()).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
}

// TestForeignKeysHoldBack: while a key of any form stands directly below a name that is older, nobody is let in,
// neither by ours nor by etcd's clients; ours are told which key it is, and neither a forced release of the name nor a
// transfer passes over it.
func TestForeignKeysHoldBack(t *testing.T) {
	for form, keys := range foreignKeys {
		t.Run(form, func(t *testing.T) {
			fake := coordtest.NewFake(t)
			c, s := etcdClient(t, fake), open(t, fake, time.Hour)
			for _, name := range []string{"job", "led"} {
				for _, k := range keys {
					if k.lease != 0 {
						_, _ = c.Revoke(t.Context(), clientv3.LeaseID(k.lease))
					}
				}
				putForeign(t, c, name, keys)
				blocked(t, fake, c, s, name, keys)
			}
		})
	}
}

func blocked(
	t *testing.T, fake *coordtest.Fake, c *clientv3.Client, s *client.Session, name string, keys []foreignKey,
) {
	t.Helper()
	ctx := t.Context()
	if h, err := s.Lock(name).TryAcquire(ctx); !errors.Is(err, client.ErrNotAcquired) {
		t.Errorf("a try got %v, %v", h, err)
	}
	d, err := s.Lock(name).Describe(ctx)
	if err != nil || !strings.HasPrefix(string(d.Holder().ForeignKey), name+"/") {
		t.Errorf("described as %v, %v", d, err)
	}
	admin := coordv1.NewIntrospectionClient(c.ActiveConnection())
	if r, err := admin.ForceRelease(ctx, &coordv1.ForceReleaseRequest{Name: name, Reason: "by its name"}); err == nil {
		t.Errorf("forced release removed %v", r.Removed)
	}
	acquired := make(chan error, 1)
	go func() {
		_, err := s.Lock(name).Acquire(ctx)
		acquired <- err
	}()
	theirs, err := concurrency.NewSession(c)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	waitUntil(t, "our entry", func() bool { return count(t, c, name) == len(keys)+1 })
	if err := concurrency.NewMutex(theirs, name).TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("etcd's client: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	if r, err := v3lockpb.NewLockClient(c.ActiveConnection()).Lock(short,
		&v3lockpb.LockRequest{Name: []byte(name)}); err == nil {
		t.Errorf("v3lock let %q in", r.Key)
	}
	if err := s.Election(name).Transfer(ctx, fmt.Sprintf("%s/%x", name, s.Lease())); err == nil {
		t.Error("a transfer passed over it")
	}
	for i, k := range keys {
		select {
		case err := <-acquired:
			t.Fatalf("let in while %q and %d more stand: %v", k.suffix, len(keys)-i-1, err)
		case <-time.After(soon / 2):
		}
		if _, err := c.Delete(ctx, name+"/"+k.suffix); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-acquired:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("not let in after the keys went")
	}
}

func count(t *testing.T, c *clientv3.Client, name string) int {
	t.Helper()
	resp, err := c.Get(t.Context(), name+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return int(resp.Count)
}

// TestNestedKeysHoldBackTheirsOnly: ours do not wait for what stands deeper below; etcd's do, so never do both hold.
func TestNestedKeysHoldBackTheirsOnly(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, s := etcdClient(t, fake), open(t, fake, time.Hour)
	if _, err := c.Put(t.Context(), "job/a/b", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lock("job").TryAcquire(t.Context()); err != nil {
		t.Error(err)
	}
	theirs, err := concurrency.NewSession(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := concurrency.NewMutex(theirs, "job").TryLock(t.Context()); !errors.Is(err, concurrency.ErrLocked) {
		t.Errorf("etcd's client: %v", err)
	}
}

// TestEntryWrittenOver: an entry that is put on another lease, or on none, is lost to its session at that revision, and
// stands in the way of all others; one that stays on its own is its session's, whatever its value.
func TestEntryWrittenOver(t *testing.T) {
	for how, c := range map[string]struct {
		lease int64 // -1: its own
		lost  bool
	}{"without a lease": {0, true}, "on another lease": {0x80, true}, "with another value": {-1, false}} {
		t.Run(how, func(t *testing.T) {
			fake := coordtest.NewFake(t)
			etcd, s := etcdClient(t, fake), open(t, fake, time.Hour)
			h, err := s.Lock("job").Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := grantID(t.Context(), etcd, 0x80); err != nil {
				t.Fatal(err)
			}
			lease := clientv3.LeaseID(c.lease)
			if c.lease < 0 {
				lease = s.Lease()
			}
			if _, err := etcd.Put(t.Context(), h.Key(), "theirs", clientv3.WithLease(lease)); err != nil {
				t.Fatal(err)
			}
			if c.lost {
				select {
				case <-h.Lost():
				case <-time.After(patience):
					t.Error("the holder was not told")
				}
			}
			holds, err := connect(t, fake).CheckToken(t.Context(), "job", h.Key(), h.Token())
			if err != nil || holds == c.lost {
				t.Errorf("its token holds: %v, %v", holds, err)
			}
			if _, err := h.KV().Put(t.Context(), "guarded", ""); (err == nil) == c.lost {
				t.Errorf("a guarded put: %v", err)
			}
			if _, err := open(t, fake, time.Hour).Lock("job").TryAcquire(t.Context()); !errors.Is(err,
				client.ErrNotAcquired) {
				t.Errorf("a try: %v", err)
			}
		})
	}
}

// TestLockRPCOfAKeyPutAgain: who waits by the Lock RPC and whose key is deleted and put again behind others is not let
// in before them.
func TestLockRPCOfAKeyPutAgain(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, s := etcdClient(t, fake), open(t, fake, time.Hour)
	if err := grantID(t.Context(), c, 0x80); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "job/x", ""); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := lockRPC(t.Context(), c, "job", 0x80)
		answer <- err
	}()
	waitUntil(t, "their entry", func() bool { return count(t, c, "job") == 2 })
	acquired := make(chan error, 1)
	go func() {
		_, err := s.Lock("job").Acquire(t.Context())
		acquired <- err
	}()
	waitUntil(t, "our entry", func() bool { return count(t, c, "job") == 3 })
	if _, err := c.Delete(t.Context(), "job/80"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "job/80", "", clientv3.WithLease(0x80)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(t.Context(), "job/x"); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err == nil || !strings.Contains(err.Error(), concurrency.ErrSessionExpired.Error()) {
		t.Errorf("the RPC answered %v", err)
	}
	if err := <-acquired; err != nil {
		t.Error(err)
	}
}

// lockRPC calls Lock on a lease.
func lockRPC(ctx context.Context, c *clientv3.Client, name string, lease int64) (*v3lockpb.LockResponse, error) {
	return v3lockpb.NewLockClient(c.ActiveConnection()).Lock(ctx,
		&v3lockpb.LockRequest{Name: []byte(name), Lease: lease})
}

// TestLockRPCCalledAgain: a client whose call of the Lock RPC has ended, and which calls again on the same lease, keeps
// the place that its second call found; and one that was made since.
func TestLockRPCCalledAgain(t *testing.T) {
	for how, between := range map[string]func(c *clientv3.Client) error{
		"found": func(*clientv3.Client) error { return nil },
		"made anew": func(c *clientv3.Client) error {
			_, err := c.Delete(t.Context(), "job/80")
			return err
		},
	} {
		fake := coordtest.NewFake(t)
		c := etcdClient(t, fake)
		if err := grantID(t.Context(), c, 0x80); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Put(t.Context(), "job/x", ""); err != nil {
			t.Fatal(err)
		}
		call := func(ctx context.Context) chan error {
			answer := make(chan error, 1)
			go func() {
				_, err := lockRPC(ctx, c, "job", 0x80)
				answer <- err
			}()
			waitUntil(t, "the entry", func() bool { return count(t, c, "job") == 2 })
			return answer
		}
		first, cancel := context.WithCancel(t.Context())
		gone := call(first)
		if err := between(c); err != nil {
			t.Fatal(err)
		}
		again := call(t.Context())
		time.Sleep(soon) // until the second has found it
		cancel()
		<-gone
		time.Sleep(soon) // until the first has cleaned up
		if n := count(t, c, "job"); n != 2 {
			t.Errorf("%s: there are %d keys", how, n)
		}
		if _, err := c.Delete(t.Context(), "job/x"); err != nil {
			t.Fatal(err)
		}
		if err := <-again; err != nil || count(t, c, "job") != 1 {
			t.Errorf("%s: the second call: %v, %d keys", how, err, count(t, c, "job"))
		}
	}
}

// TestRecipeRPCsCalledAgainAtTheGrant: who calls again, just when its first call ends and its turn comes, and is told
// that it holds, does.
func TestRecipeRPCsCalledAgainAtTheGrant(t *testing.T) {
	fake := coordtest.NewFake(t)
	c := etcdClient(t, fake)
	if err := grantID(t.Context(), c, 0x80); err != nil {
		t.Fatal(err)
	}
	campaign := func(ctx context.Context, name string) error {
		_, err := v3electionpb.NewElectionClient(c.ActiveConnection()).Campaign(ctx,
			&v3electionpb.CampaignRequest{Name: []byte(name), Lease: 0x80})
		return err
	}
	lock := func(ctx context.Context, name string) error {
		_, err := lockRPC(ctx, c, name, 0x80)
		return err
	}
	for i := range 100 {
		name, enter := fmt.Sprint("job", i), []func(context.Context, string) error{lock, campaign}[i%2]
		if _, err := c.Put(t.Context(), name+"/x", ""); err != nil {
			t.Fatal(err)
		}
		first, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() { gone <- enter(first, name) }()
		waitUntil(t, "the entry", func() bool { return count(t, c, name) == 2 })
		go func() { _, _ = c.Delete(t.Context(), name+"/x") }()
		time.Sleep(time.Duration(i) * 20 * time.Microsecond)
		cancel()
		if err := enter(t.Context(), name); err != nil {
			continue // it was told
		}
		<-gone
		time.Sleep(soon / 4)
		if n := count(t, c, name); n != 1 {
			t.Fatalf("%s: it was told that it holds, and there are %d keys", name, n)
		}
	}
}

// TestCampaignRPCOfAKeyThatIsGone: who waits by the Campaign RPC and whose key has gone meanwhile is not told that it
// leads.
func TestCampaignRPCOfAKeyThatIsGone(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, s := etcdClient(t, fake), open(t, fake, time.Hour)
	leads, err := s.Election("led").Campaign(t.Context(), []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	if err := grantID(t.Context(), c, 0x80); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := v3electionpb.NewElectionClient(c.ActiveConnection()).Campaign(t.Context(),
			&v3electionpb.CampaignRequest{Name: []byte("led"), Lease: 0x80})
		answer <- err
	}()
	waitUntil(t, "their entry", func() bool { return count(t, c, "led") == 2 })
	next := make(chan error, 1)
	go func() {
		_, err := open(t, fake, time.Hour).Election("led").Campaign(t.Context(), []byte("next"))
		next <- err
	}()
	waitUntil(t, "our entry", func() bool { return count(t, c, "led") == 3 })
	if _, err := c.Revoke(t.Context(), 0x80); err != nil {
		t.Fatal(err)
	}
	if err := leads.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err == nil || !strings.Contains(err.Error(), concurrency.ErrElectionNotLeader.Error()) {
		t.Errorf("the RPC answered %v", err)
	}
	if err := <-next; err != nil {
		t.Error(err)
	}
}

// claimed is what a client was told: that it holds by a key created at a revision, as seen at another one.
type claimed struct {
	who           string
	key           string
	create, since int64
	ours          bool
	lease         int64
}

// contest has clients of all kinds contend for one name over generated keys and leases.
type contest struct {
	*testing.T
	rng      *rand.Rand
	fake     *coordtest.Fake
	c        *clientv3.Client
	sessions []*client.Session
	election bool

	running sync.WaitGroup
	mu      sync.Mutex
	claims  []claimed
	held    []func() // give up what is held
}

const contested = "n"

func (x *contest) claim(c claimed, release func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.claims, x.held = append(x.claims, c), append(x.held, release)
}

// TestNeverTwoHolders: whatever clients contend, put and revoke, at no revision do one of ours and another client both
// act as the holder, and none of ours holds while a key directly below the name has no greater create revision. Judged
// by the history of the keys.
func TestNeverTwoHolders(t *testing.T) {
	seeds, ours, theirs := 24, 0, 0
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		x := newContest(t, uint64(seed))
		for range 60 {
			x.operate()
		}
		x.judge(seed)
		for _, c := range x.claims {
			if c.ours {
				ours++
			} else {
				theirs++
			}
		}
	}
	if ours == 0 || theirs == 0 { // how often depends on the machine
		t.Errorf("ours held %d times, others %d times", ours, theirs)
	}
}

func newContest(t *testing.T, seed uint64) *contest {
	x := &contest{T: t, rng: rand.New(rand.NewPCG(seed, 7)), fake: coordtest.NewFake(t), election: seed%2 == 1}
	x.c = etcdClient(t, x.fake)
	x.sessions = []*client.Session{open(t, x.fake, time.Hour), open(t, x.fake, time.Hour)}
	return x
}

// operate does one thing, and lets those who wait go on for a moment.
func (x *contest) operate() {
	ctx, cancel := context.WithTimeout(x.Context(), 2*soon)
	x.running.Go(func() {
		<-ctx.Done()
		cancel()
	})
	switch x.rng.IntN(11) {
	case 0, 1, 2:
		s := x.sessions[x.rng.IntN(2)]
		x.running.Go(func() { x.native(ctx, s) })
	case 3:
		x.running.Go(func() { x.mutex(ctx) })
	case 4:
		x.running.Go(func() { x.campaign(ctx) })
	case 5:
		lease := x.lease()
		x.running.Go(func() { x.rpc(ctx, lease) })
	case 6, 7:
		x.put(x.Context())
	case 8:
		if resp, err := x.c.Get(x.Context(), contested+"/", clientv3.WithPrefix()); err == nil && len(resp.Kvs) > 0 {
			_, _ = x.c.Delete(x.Context(), string(resp.Kvs[x.rng.IntN(len(resp.Kvs))].Key))
		}
	default:
		x.giveUp()
	}
	time.Sleep(time.Millisecond)
}

func (x *contest) giveUp() {
	x.mu.Lock()
	held := x.held
	x.held = nil
	x.mu.Unlock()
	for _, release := range held {
		release()
	}
}

// lease grants a lease with an id of any form, perhaps one that is there.
func (x *contest) lease() int64 {
	id := []int64{math.MinInt64, -1, -5, 1, 0x80, 1 << 62, math.MaxInt64}[x.rng.IntN(7)]
	_ = grantID(x.Context(), x.c, id)
	return id
}

// put writes one key or two at once: of any form, or of a client that contends.
func (x *contest) put(ctx context.Context) {
	suffixes := []string{"", "-1", "80", "080", "x", "\xff", "a/b", fmt.Sprintf("%x", x.sessions[0].Lease()),
		fmt.Sprintf("%x", x.sessions[1].Lease())}
	if resp, err := x.c.Get(ctx, contested+"/", clientv3.WithPrefix()); err == nil && len(resp.Kvs) > 0 {
		suffixes = append(suffixes, string(resp.Kvs[x.rng.IntN(len(resp.Kvs))].Key[len(contested)+1:]))
	}
	var ops []clientv3.Op
	seen := map[string]bool{}
	for range 1 + x.rng.IntN(2) {
		suffix, lease := suffixes[x.rng.IntN(len(suffixes))], int64(0)
		switch x.rng.IntN(3) {
		case 0:
			lease = x.lease()
		case 1:
			lease = int64(x.sessions[x.rng.IntN(2)].Lease())
		}
		if !seen[suffix] {
			ops = append(ops, clientv3.OpPut(contested+"/"+suffix, "theirs",
				clientv3.WithLease(clientv3.LeaseID(lease))))
		}
		seen[suffix] = true
	}
	_, _ = x.c.Txn(ctx).Then(ops...).Commit()
}

func (x *contest) native(ctx context.Context, s *client.Session) {
	type grant interface {
		Key() string
		Revision() int64
	}
	var g grant
	var create int64
	var release func()
	if x.election {
		l, err := s.Election(contested).Campaign(ctx, []byte("ours"))
		if err != nil {
			return
		}
		g, create, release = l, l.Term(), func() { _ = l.Resign(x.Context()) }
	} else {
		h, err := s.Lock(contested).Acquire(ctx)
		if err != nil {
			return
		}
		g, create, release = h, h.Token(), func() { _ = h.Release(x.Context()) }
	}
	x.claim(claimed{"ours", g.Key(), create, g.Revision(), true, int64(s.Lease())}, release)
}

func (x *contest) mutex(ctx context.Context) {
	s, err := concurrency.NewSession(x.c)
	if err != nil {
		return
	}
	m := concurrency.NewMutex(s, contested)
	if m.Lock(ctx) != nil {
		_ = s.Close()
		return
	}
	place := m.IsOwner() // its guard: of the key that it made, not of one put again since
	x.claim(claimed{"mutex", m.Key(), place.GetCompare().GetCreateRevision(), m.Header().Revision, false, 0},
		func() { _ = s.Close() })
}

func (x *contest) campaign(ctx context.Context) {
	s, err := concurrency.NewSession(x.c)
	if err != nil {
		return
	}
	e := concurrency.NewElection(s, contested)
	if e.Campaign(ctx, "theirs") != nil {
		_ = s.Close()
		return
	}
	resp, err := x.c.Get(x.Context(), e.Key())
	if err != nil {
		return
	}
	x.claim(claimed{"election", e.Key(), e.Rev(), resp.Header.Revision, false, 0}, func() { _ = s.Close() })
}

// rpc locks, or campaigns, by the RPCs, on a lease whose key may be there already.
func (x *contest) rpc(ctx context.Context, lease int64) {
	if x.election {
		resp, err := v3electionpb.NewElectionClient(x.c.ActiveConnection()).Campaign(ctx,
			&v3electionpb.CampaignRequest{Name: []byte(contested), Lease: lease, Value: []byte("theirs")})
		if err != nil {
			return
		}
		l := resp.Leader // the header is that of the entry's creation, not of the election
		if now, err := x.c.Get(x.Context(), string(l.Key)); err == nil {
			x.claim(claimed{"v3election", string(l.Key), l.Rev, now.Header.Revision, false, 0}, func() {
				_, _ = x.c.Delete(x.Context(), string(l.Key))
			})
		}
		return
	}
	resp, err := v3lockpb.NewLockClient(x.c.ActiveConnection()).Lock(ctx,
		&v3lockpb.LockRequest{Name: []byte(contested), Lease: lease})
	if err == nil {
		x.claim(claimed{"v3lock", string(resp.Key), 0, resp.Header.Revision, false, 0}, func() {
			_, _ = x.c.Delete(x.Context(), string(resp.Key))
		})
	}
}

// judge replays the history. A claim counts from the revision at which its client was told until its key goes, or of
// one of ours is put on another lease.
func (x *contest) judge(seed int) {
	x.running.Wait()
	end, err := x.c.Put(x.Context(), "end", "")
	if err != nil {
		x.Fatal(err)
	}
	keys := map[string]*mvccpb.KeyValue{}
	over := map[int]bool{}
	for resp := range x.c.Watch(x.Context(), "", clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if resp.Err() != nil {
			x.Fatal(resp.Err())
		}
		for i, e := range resp.Events {
			if e.Type == clientv3.EventTypeDelete {
				delete(keys, string(e.Kv.Key))
			} else {
				keys[string(e.Kv.Key)] = e.Kv
			}
			if i+1 == len(resp.Events) || resp.Events[i+1].Kv.ModRevision > e.Kv.ModRevision {
				x.judgeAt(seed, e.Kv.ModRevision, keys, over)
			}
			if e.Kv.ModRevision == end.Header.Revision {
				return
			}
		}
	}
}

func (x *contest) judgeAt(seed int, revision int64, keys map[string]*mvccpb.KeyValue, over map[int]bool) {
	var ours, theirs string
	for i, c := range x.claims {
		if c.create == 0 && c.since <= revision && keys[c.key] != nil {
			x.claims[i].create, c.create = keys[c.key].CreateRevision, keys[c.key].CreateRevision
		}
		kv := keys[c.key]
		over[i] = over[i] || c.since <= revision && (kv == nil || kv.CreateRevision != c.create ||
			c.ours && kv.Lease != c.lease)
		if c.since > revision || over[i] {
			continue
		}
		if !c.ours {
			theirs = fmt.Sprintf("%s by %q of revision %d", c.who, c.key, c.create)
			continue
		}
		ours = fmt.Sprintf("%q of revision %d", c.key, c.create)
		for key, o := range keys {
			suffix, below := strings.CutPrefix(key, contested+"/")
			if below && !strings.Contains(suffix, "/") && key != c.key && o.CreateRevision <= c.create {
				x.Fatalf("seed %d, revision %d: ours hold by %s while %q of revision %d stands", seed, revision, ours,
					key, o.CreateRevision)
			}
		}
	}
	if ours != "" && theirs != "" {
		x.Fatalf("seed %d, revision %d: ours hold by %s, and so does %s", seed, revision, ours, theirs)
	}
}
