package exampletest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/coord/coordtest"
)

// long is how long a test waits for what must happen.
const long = 60 * time.Second

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	t.Cleanup(cancel)
	return ctx
}

func dial(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// quick are options for tests in which much fails, but nothing that is asked stays silent. impatient are for those in
// which something does: each attempt that the machine is too slow for fails, and is made again.
var (
	quick     = registry.Options{Retry: time.Millisecond, ReadTimeout: long}
	impatient = registry.Options{Retry: time.Millisecond, ReadTimeout: 300 * time.Millisecond}
)

// fake starts a server whose time stands still, with a client of it.
func fake(t testing.TB) (*coordtest.Fake, *clientv3.Client) {
	t.Helper()
	f := coordtest.NewFake(t)
	return f, dial(t, f.Endpoint())
}

// sessions are etcd's, made of c.
func sessions(c *clientv3.Client) registry.Sessions {
	var mu sync.Mutex
	var last *concurrency.Session
	return registry.SessionsOf(func(context.Context) (*concurrency.Session, error) {
		mu.Lock()
		defer mu.Unlock()
		if last != nil {
			select {
			case <-last.Done():
			default:
				return last, nil
			}
		}
		s, err := concurrency.NewSession(c, concurrency.WithTTL(10))
		if err == nil {
			last = s
		}
		return s, err
	})
}

// own is a session of which a test says when it is lost.
type own struct {
	lease clientv3.LeaseID
	done  chan struct{}
}

func (o *own) Lease() clientv3.LeaseID { return o.lease }
func (o *own) Done() <-chan struct{}   { return o.done }

func newOwn(t testing.TB, c *clientv3.Client, ttl time.Duration) *own {
	t.Helper()
	lease, err := c.Grant(bounded(t), int64(ttl.Seconds()))
	if err != nil {
		t.Fatal(err)
	}
	return &own{lease.ID, make(chan struct{})}
}

// always is one session.
func always(s registry.Session) registry.Sessions {
	return func(context.Context) (registry.Session, error) { return s, nil }
}

func register(t testing.TB, r *registry.Registry, s registry.Sessions, in registry.Instance,
	opts ...registry.RegisterOption) *registry.Registration {
	t.Helper()
	reg, err := r.Register(bounded(t), s, in, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_ = reg.Deregister(ctx) // or what keeps it would go on
	})
	return reg
}

// observer watches and keeps what it saw last.
type observer struct {
	t       testing.TB
	mu      sync.Mutex
	text    string   // of the instances
	texts   []string // of each update
	changes []string
	err     error
	updates int
	news    chan struct{}
}

func observe(t testing.TB, r *registry.Registry, service string, opts ...registry.WatchOption) *observer {
	t.Helper()
	o := &observer{t: t, news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for update, err := range r.Watch(ctx, service, opts...) {
			if err != nil {
				return
			}
			o.take(update)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return o
}

func (o *observer) take(u *registry.Update) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text, o.err = text(u.Instances()), u.Err
	o.texts = append(o.texts, o.text)
	o.updates++
	for _, c := range u.Changes {
		o.changes = append(o.changes, c.Op.String()+" "+c.Instance.ID)
	}
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// text is instances in short: id, state, and what is special.
func text(all []*registry.Instance) string {
	var out []string
	for _, in := range all {
		s := in.ID + " " + in.State.String()
		if in.Stale {
			s += " stale"
		}
		if in.Foreign {
			s += " foreign"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// wait waits until the instances are these, with an error or without.
func (o *observer) wait(want string, failing bool) {
	o.t.Helper()
	timeout := time.After(long)
	for {
		o.mu.Lock()
		got, err := o.text, o.err
		reached := got == want && (err != nil) == failing && o.updates > 0
		o.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-o.news:
		case <-timeout:
			o.t.Fatalf("the watch shows %q (%v), want %q", got, err, want)
		}
	}
}

// waitSeen waits until the instances have been these at some time, if they are not any more.
func (o *observer) waitSeen(want string) {
	o.t.Helper()
	eventually(o.t, func() string {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !slices.Contains(o.texts, want) {
			return fmt.Sprintf("the watch has shown %q, never %q", o.texts, want)
		}
		return ""
	})
}

// faults is a client whose watches and reads fail.
type faults struct {
	*clientv3.Client
	readsFail atomic.Bool // all of them
	flaky     atomic.Bool // some of them

	mu       sync.Mutex
	streams  map[*faultyWatch]bool
	injected int
}

type faultyWatch struct {
	out    chan clientv3.WatchResponse
	broken chan clientv3.WatchResponse // with what it breaks; closed: it is just closed
}

func newFaults(c *clientv3.Client) *faults {
	return &faults{Client: c, streams: map[*faultyWatch]bool{}}
}

// Watch implements registry.Client.
func (f *faults) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	ctx, cancel := context.WithCancel(ctx)
	w := &faultyWatch{make(chan clientv3.WatchResponse), make(chan clientv3.WatchResponse, 1)}
	f.mu.Lock()
	f.streams[w] = true
	f.mu.Unlock()
	if f.flaky.Load() && rand.IntN(4) == 0 { // the revision to start from is gone when the watch opens
		if r, err := f.Put(ctx, "elsewhere", ""); err == nil {
			_, _ = f.Compact(ctx, r.Header.Revision)
		}
	}
	in := f.Client.Watch(ctx, key, opts...)
	go func() {
		defer close(w.out)
		defer cancel()
		defer f.forget(w)
		for {
			select {
			case resp, ok := <-in:
				if !ok {
					return
				}
				select {
				case w.out <- resp:
				case <-ctx.Done():
					return
				}
			case resp, ok := <-w.broken:
				if ok {
					select {
					case w.out <- resp:
					case <-ctx.Done():
					}
				}
				return
			}
		}
	}()
	return w.out
}

func (f *faults) forget(w *faultyWatch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, w)
}

// breakAll breaks all watches there are, each in some way, and returns how many.
func (f *faults) breakAll() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	broken := 0
	for w := range f.streams {
		delete(f.streams, w)
		broken++
		switch rand.IntN(3) {
		case 0:
			close(w.broken)
		case 1:
			w.broken <- clientv3.WatchResponse{Canceled: true, CompactRevision: 7}
		case 2:
			w.broken <- clientv3.WatchResponse{Canceled: true}
		}
	}
	f.injected += broken
	return broken
}

// Txn implements registry.Client.
func (f *faults) Txn(ctx context.Context) clientv3.Txn {
	if f.readsFail.Load() || f.flaky.Load() && rand.IntN(5) == 0 {
		f.mu.Lock()
		f.injected++
		f.mu.Unlock()
		return failingTxn{}
	}
	return f.Client.Txn(ctx)
}

type failingTxn struct{}

func (failingTxn) If(...clientv3.Cmp) clientv3.Txn  { return failingTxn{} }
func (failingTxn) Then(...clientv3.Op) clientv3.Txn { return failingTxn{} }
func (failingTxn) Else(...clientv3.Op) clientv3.Txn { return failingTxn{} }
func (failingTxn) Commit() (*clientv3.TxnResponse, error) {
	return nil, status.Error(codes.Unavailable, "injected")
}

func address(i int) string { return fmt.Sprintf("10.%d.%d.%d:80", i>>16&255, i>>8&255, i&255) }

func contains(list []string, all []string) bool {
	return !slices.ContainsFunc(all, func(s string) bool { return !slices.Contains(list, s) })
}
