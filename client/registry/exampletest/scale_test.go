package exampletest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sync/errgroup"

	"github.com/coord-dev/coord/client/registry"
)

// Sizes that do not depend on how much time there is.
const (
	watchedInstances = 100 // of the service that many watch
	changes          = 20
)

// directory is a registry as the comparison uses it: ours, or etcd's package.
type directory interface {
	// put registers an instance of a service on a lease, or changes it.
	put(ctx context.Context, service string, i int, lease clientv3.LeaseID, version string) error
	// watch tells, at each change, how many instances there are, whether one has this version, and whether all are
	// stale.
	watch(ctx context.Context, service string, tell func(count int, has func(version string) bool, stale bool))
}

// ours registers as Register does, without a goroutine for each of so many.
type ours struct {
	t testing.TB
	r *registry.Registry

	mu   sync.Mutex
	regs []*registry.Registration
}

func (o *ours) put(ctx context.Context, service string, i int, lease clientv3.LeaseID, version string) error {
	reg, err := o.r.Register(ctx, always(&own{lease, nil}),
		registry.Instance{Service: service, ID: fmt.Sprint(i), Addr: address(i), Version: version})
	if err == nil {
		o.mu.Lock()
		o.regs = append(o.regs, reg)
		o.mu.Unlock()
	}
	return err
}

func (o *ours) stop() {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, reg := range o.regs {
		_ = reg.Deregister(gone)
	}
}

func (o *ours) watch(ctx context.Context, service string, tell func(int, func(string) bool, bool)) {
	all, stale := map[string]string{}, 0
	for update, err := range o.r.Watch(ctx, service) {
		if err != nil {
			return
		}
		for _, c := range update.Changes {
			if c.Instance.Stale {
				stale++
			}
			if c.Op == registry.Removed {
				delete(all, c.Instance.ID)
			} else {
				all[c.Instance.ID] = c.Instance.Version
			}
		}
		tell(len(all), hasValue(all), len(all) > 0 && stale == len(all))
	}
}

func hasValue[K comparable](all map[K]string) func(string) bool {
	return func(version string) bool {
		for _, v := range all {
			if v == version {
				return true
			}
		}
		return false
	}
}

// theirs is etcd's naming/endpoints.
type theirs struct {
	t testing.TB
	c *clientv3.Client
}

func (e *theirs) put(ctx context.Context, service string, i int, lease clientv3.LeaseID, version string) error {
	m, err := endpoints.NewManager(e.c, service)
	if err != nil {
		return err
	}
	return m.AddEndpoint(ctx, service+"/"+fmt.Sprint(i), endpoints.Endpoint{Addr: address(i), Metadata: version},
		clientv3.WithLease(lease))
}

func (e *theirs) watch(ctx context.Context, service string, tell func(int, func(string) bool, bool)) {
	m, err := endpoints.NewManager(e.c, service)
	if err != nil {
		e.t.Error(err)
		return
	}
	updates, err := m.NewWatchChannel(ctx)
	if err != nil {
		e.t.Error(err)
		return
	}
	all := map[string]string{}
	for batch := range updates {
		for _, u := range batch {
			if u.Op == endpoints.Add {
				all[u.Key] = fmt.Sprint(u.Endpoint.Metadata)
			} else {
				delete(all, u.Key)
			}
		}
		tell(len(all), hasValue(all), false)
	}
}

// seen is what one watcher has come to.
type seen struct {
	mu      sync.Mutex
	count   int
	fewest  int // since the last call of reset
	changed chan struct{}

	protected atomic.Bool // all are stale
}

// reset begins to look for the fewest anew, from n on, and returns those so far.
func (s *seen) reset(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.fewest = n }()
	return s.fewest
}

func (s *seen) tell(count int, _ func(string) bool, stale bool) {
	s.protected.Store(stale)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count, s.fewest = count, min(s.fewest, count)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *seen) wait(t testing.TB, want int) {
	t.Helper()
	timeout := time.After(long)
	for {
		s.mu.Lock()
		count, changed := s.count, s.changed
		s.mu.Unlock()
		if count == want {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the watch shows %d, want %d", count, want)
		}
	}
}

// each calls fn for 0 to n-1, 128 at a time.
func each(t testing.TB, n int, fn func(ctx context.Context, i int) error) {
	t.Helper()
	group, ctx := errgroup.WithContext(bounded(t))
	group.SetLimit(128)
	for i := range n {
		group.Go(func() error { return fn(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func leases(t testing.TB, c *clientv3.Client, n int) []clientv3.LeaseID {
	t.Helper()
	all := make([]clientv3.LeaseID, n)
	each(t, len(all), func(ctx context.Context, i int) error {
		l, err := c.Grant(ctx, 60)
		if err == nil {
			all[i] = l.ID
		}
		return err
	})
	return all
}

// Many instances: registered, all restarted, all dead at once. A watcher of ours never sees less than Limits.MaxLoss
// allows, and in the end all of them, stale; next to it, etcd's package doing the same on the same server.
func TestManyInstances(t *testing.T) {
	if testing.Short() {
		t.Skip("registers thousands of instances four times")
	}
	compareInstances(t, 2000)
}

// BenchmarkTenThousandInstances prints what TestManyInstances does, of ten thousand.
func BenchmarkTenThousandInstances(b *testing.B) {
	for range b.N {
		compareInstances(b, 10000)
	}
}

func compareInstances(t testing.TB, n int) {
	for _, name := range []string{"registry", "naming/endpoints"} {
		f, c := fake(t)
		var d directory = &theirs{t, c}
		left, least := 0, 0
		if name == "registry" {
			o := &ours{t: t, r: registry.New(c, registry.Options{})}
			defer o.stop()
			d, left, least = o, n, n/2
		}
		s := &seen{changed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.watch(ctx, "many", s.tell)
		}()
		step := func(version string) time.Duration {
			ids := leases(t, c, n)
			began := time.Now()
			each(t, n, func(ctx context.Context, i int) error { return d.put(ctx, "many", i, ids[i], version) })
			s.wait(t, n)
			return time.Since(began).Round(time.Millisecond)
		}
		registered := step("1")
		s.reset(n)
		restarted := step("2")
		began := time.Now()
		f.Advance(time.Hour) // the leases of before have nothing any more, those of now have all
		eventually(t, func() string {
			if left == 0 || s.protected.Load() {
				return ""
			}
			return "nothing is stale"
		})
		s.wait(t, left)
		died := time.Since(began).Round(time.Millisecond)
		fewest := s.reset(n)
		t.Logf("%-16s %d instances: registered and seen in %v, restarted in %v, dead in %v; at least %d were shown "+
			"meanwhile",
			name, n, registered, restarted, died, fewest)
		if fewest < least {
			t.Errorf("a watch showed %d of %d instances", fewest, n)
		}
		cancel()
		<-done
	}
}

// How long it takes until a change is known to many watchers: of the registry, and of etcd's package on coord and on
// etcd.
func TestPropagation(t *testing.T) {
	if testing.Short() {
		t.Skip("opens hundreds of watches, and starts etcd")
	}
	comparePropagation(t, 200)
}

// BenchmarkPropagationToAThousandWatchers prints what TestPropagation does, to a thousand watchers.
func BenchmarkPropagationToAThousandWatchers(b *testing.B) {
	for range b.N {
		comparePropagation(b, 1000)
	}
}

func comparePropagation(t testing.TB, watchers int) {
	_, c := fake(t)
	o := &ours{t: t, r: registry.New(c, registry.Options{})}
	defer o.stop()
	propagate(t, "registry on coord", watchers, c, o)
	propagate(t, "naming/endpoints on coord", watchers, c, &theirs{t, c})
	etcd := dial(t, startEtcd(t))
	propagate(t, "naming/endpoints on etcd", watchers, etcd, &theirs{t, etcd})
}

func propagate(t testing.TB, name string, watchers int, c *clientv3.Client, d directory) {
	t.Helper()
	lease, err := c.Grant(bounded(t), 3600)
	if err != nil {
		t.Fatal(err)
	}
	for i := range watchedInstances {
		if err := d.put(bounded(t), name, i, lease.ID, "0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var mu sync.Mutex
	version, told := "0", make(chan struct{}, watchers)
	for range watchers {
		last := ""
		running.Go(func() {
			d.watch(ctx, name, func(_ int, has func(string) bool, _ bool) {
				mu.Lock()
				now := version
				mu.Unlock()
				if now != last && has(now) {
					last = now
					told <- struct{}{}
				}
			})
		})
	}
	all := func() {
		t.Helper()
		timeout := time.After(long)
		for i := range watchers {
			select {
			case <-told:
			case <-timeout:
				t.Fatalf("%s: only %d of %d watchers know", name, i, watchers)
			}
		}
	}
	all()
	var took []time.Duration
	for i := range changes {
		mu.Lock()
		version = fmt.Sprint(i + 1)
		next := version
		mu.Unlock()
		began := time.Now()
		if err := d.put(bounded(t), name, 0, lease.ID, next); err != nil {
			t.Fatal(err)
		}
		all()
		took = append(took, time.Since(began).Round(10*time.Microsecond))
	}
	slices.Sort(took)
	t.Logf("%-26s %d watchers, %d changes: all know after %v in the median, %v at most", name, watchers, changes,
		took[len(took)/2], took[len(took)-1])
}

// startEtcd starts etcd in this process and returns its endpoint.
func startEtcd(t testing.TB) string {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.LogOutputs = t.TempDir(), "error", []string{os.DevNull}
	local := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{local}, []url.URL{local}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{local}, []url.URL{local}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(long):
		t.Fatal("etcd is not ready")
	}
	return e.Clients[0].Addr().String()
}
