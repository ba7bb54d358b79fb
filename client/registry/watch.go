package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/proto/instances"
	"github.com/coord-dev/coord/proto/layout"
)

// ListOption chooses which instances a list gives. Each is a WatchOption, too.
type ListOption interface {
	WatchOption
	forList()
}

// WatchOption configures a watch.
type WatchOption interface{ apply(*watcher) }

// option implements both interfaces; what its constructors return says which of them it is for.
type option func(*watcher)

func (o option) apply(w *watcher) { o(w) }
func (option) forList()           {}

func filter(keeps func(*Instance) bool) ListOption {
	return option(func(w *watcher) { w.filters = append(w.filters, keeps) })
}

// Tag leaves instances that have the tag. Given several times, they must have all.
func Tag(tag string) ListOption { return filter(func(in *Instance) bool { return in.HasTag(tag) }) }

// Zone leaves instances of the zone.
func Zone(zone string) ListOption { return filter(func(in *Instance) bool { return in.Zone == zone }) }

// Passing leaves instances whose state is passing, those that are kept Stale included.
func Passing() ListOption { return filter(func(in *Instance) bool { return in.State == StatePassing }) }

// Endpoints adds what stands in the layout of etcd's naming/endpoints, marked Foreign; an instance that is mirrored
// appears twice, then. The two layouts are read at one revision, and watched one beside the other.
func Endpoints() ListOption { return option(func(w *watcher) { w.foreign = true }) }

// Refresh makes a watch read everything again, and open its watches anew, when something can be received from c; not
// more often than every 20 times Options.Retry.
func Refresh(c <-chan struct{}) WatchOption { return option(func(w *watcher) { w.refresh = c }) }

// Op says what happened to an instance.
type Op int

// What can happen to an instance, as seen through the options of a watch.
const (
	Added Op = iota + 1
	Changed
	Removed
)

var opNames = [...]string{"unspecified", "added", "changed", "removed"}

// String is the name of what happened.
func (o Op) String() string { return opNames[max(0, min(int(o), len(opNames)-1))] }

// MarshalText makes an Op its name in JSON.
func (o Op) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Change is what happened to one instance. Of one that was removed it is the last that was known.
type Change struct {
	Op       Op
	Instance *Instance
}

// Update is the next state that a watch has come to. It is valid until the next one is asked for.
type Update struct {
	// Revision is that of the store, 0 as long as nothing could be read.
	Revision int64
	// Changes lead from the state of the last update to this one, sorted by service and id. In the first update they
	// are all there is.
	Changes []Change
	// Err is why the state may be out of date: the cluster cannot be asked since. It is nil again when it could.
	Err error

	w *watcher
}

// Instances is everything there is, sorted by service and id; of two that have both in common, the foreign one comes
// last. The slice is the caller's.
func (u *Update) Instances() []*Instance { return u.w.instances() }

// Watch follows the instances of a service, or of all if service is empty. The first update has what is there; each
// later one has at least one change, or another Err. Changes that gather while the caller is busy come as one update.
//
// Nothing but the end of ctx ends a watch: its cause is the last thing that is given. The other error is ErrBadName.
func (r *Registry) Watch(ctx context.Context, service string, opts ...WatchOption) iter.Seq2[*Update, error] {
	return func(yield func(*Update, error) bool) {
		w, err := newWatcher(r, service, opts)
		if err != nil {
			yield(nil, err)
			return
		}
		w.yield = yield
		if w.run(ctx); !w.stopped {
			yield(nil, context.Cause(ctx))
		}
	}
}

// watcher is one watch. It belongs to the goroutine of who iterates.
type watcher struct {
	r       *Registry
	service string
	filters []func(*Instance) bool
	foreign bool
	refresh <-chan struct{}

	yield   func(*Update, error) bool
	stopped bool // by yield

	set      *instances.Set
	revision int64
	shown    map[instances.Name]*Instance // what the caller knows
	told     bool                         // it has had an update
	err      error                        // why the set may be out of date
	toldErr  error                        // what the caller knows of that
	lastRead time.Time
}

func newWatcher[O WatchOption](r *Registry, service string, opts []O) (*watcher, error) {
	w := &watcher{r: r, service: service, shown: map[instances.Name]*Instance{}}
	for _, opt := range opts {
		opt.apply(w)
	}
	foreign := ""
	if w.foreign {
		foreign = service
	}
	w.set = instances.NewSet(r.opts.Limits, foreign)
	if service == "" && !w.foreign {
		return w, nil
	}
	return w, layout.CheckService(service)
}

// prefix is what the keys of the watch begin with, but for those in etcd's layout.
func (w *watcher) prefix() string {
	if w.service == "" {
		return layout.Service.Dir()
	}
	return layout.Service.Prefix(w.service)
}

// run follows until ctx ends or the caller stops.
func (w *watcher) run(ctx context.Context) {
	failures := 0
	for {
		began := time.Now()
		err := w.follow(ctx)
		if ctx.Err() != nil || w.stopped {
			return
		}
		if err == nil || time.Since(began) > 40*w.r.opts.Retry {
			failures = 0
		}
		if err != nil {
			pause(ctx, w.r.opts.Retry, failures)
			failures++
		}
	}
}

// pause waits after one more failure, for a random time of which the longest doubles with each.
func pause(ctx context.Context, first time.Duration, failures int) {
	wait := min(first<<min(failures, 10), 40*first)
	wait = wait/2 + rand.N(wait/2+1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

var (
	errClosed   = errors.New("the watch was closed")
	errOneCopy  = errors.New("read from one member alone")
	errNoAnswer = errors.New("no answer from the cluster")
	errStopped  = errors.New("the caller stopped") // nobody sees it
)

// follow reads everything and then follows the events, until something fails, or it is time to read again: nil.
func (w *watcher) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	if err := w.readOrKeep(ctx); err != nil {
		return err
	}
	from := clientv3.WithRev(w.revision + 1)
	events := w.r.client.Watch(ctx, w.prefix(), clientv3.WithPrefix(), from)
	var foreign clientv3.WatchChan
	if w.foreign {
		foreign = w.r.client.Watch(ctx, layout.EndpointPrefix(w.service), clientv3.WithPrefix(), from)
	}
	again := w.lastRead.Add(w.r.opts.Reread + rand.N(w.r.opts.Reread/2+1))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wake := again
		if at, ok := w.set.Deadline(); ok && at.Before(wake) {
			wake = at
		}
		timer.Reset(time.Until(wake))
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case resp, ok := <-events:
			err = w.take(events, resp, ok)
		case resp, ok := <-foreign:
			err = w.take(foreign, resp, ok)
		case <-w.refresh:
			again = w.lastRead.Add(20 * w.r.opts.Retry)
		case now := <-timer.C:
			w.set.Review(now)
		}
		if err != nil || !w.tell() || !time.Now().Before(again) {
			return err
		}
	}
}

// maxGathered bounds the responses that go into one update.
const maxGathered = 1000

// take takes a response of a watch, and those that are there already.
func (w *watcher) take(more clientv3.WatchChan, resp clientv3.WatchResponse, ok bool) error {
	for range maxGathered {
		switch err := resp.Err(); {
		case !ok:
			return errClosed
		case err != nil:
			return err
		}
		if n := len(resp.Events); n > 0 { // the header may be ahead of the events
			w.set.Apply(time.Now(), events(resp.Events))
			w.revision = max(w.revision, resp.Events[n-1].Kv.ModRevision)
		}
		select {
		case resp, ok = <-more:
		default:
			return nil
		}
	}
	return nil
}

func events(of []*clientv3.Event) []*mvccpb.Event {
	raw := make([]*mvccpb.Event, len(of))
	for i, ev := range of {
		raw[i] = (*mvccpb.Event)(ev)
	}
	return raw
}

// readOrKeep reads everything. If that fails, what is known is kept, and what one member knows is better than nothing.
func (w *watcher) readOrKeep(ctx context.Context) error {
	err := w.read(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if w.err = err; err == nil {
		if !w.tell() {
			return errStopped
		}
		return nil
	}
	if w.revision == 0 && w.read(ctx, clientv3.WithSerializable()) == nil {
		w.err = fmt.Errorf("%w: %w", errOneCopy, err)
	}
	w.tell()
	return err
}

// read replaces the set by what is there.
func (w *watcher) read(ctx context.Context, opts ...clientv3.OpOption) error {
	ctx, cancel := context.WithTimeoutCause(ctx, w.r.opts.ReadTimeout, errNoAnswer)
	defer cancel()
	opts = append(opts, clientv3.WithPrefix())
	ops := []clientv3.Op{clientv3.OpGet(w.prefix(), opts...)}
	if w.foreign {
		ops = append(ops, clientv3.OpGet(layout.EndpointPrefix(w.service), opts...))
	}
	resp, err := w.r.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", cause, err)
		}
		return err
	}
	var kvs []*mvccpb.KeyValue
	for _, r := range resp.Responses {
		kvs = append(kvs, r.GetResponseRange().Kvs...)
	}
	now := time.Now()
	w.set.Replace(now, kvs)
	w.revision, w.lastRead = resp.Header.Revision, now
	return nil
}

// tell gives the caller what is new, if anything is; false if it stopped.
func (w *watcher) tell() bool {
	changes := w.diff()
	if w.stopped || w.told && len(changes) == 0 && (w.err == nil) == (w.toldErr == nil) {
		return !w.stopped
	}
	w.told, w.toldErr = true, w.err
	w.stopped = !w.yield(&Update{Revision: w.revision, Changes: changes, Err: w.err, w: w}, nil)
	return !w.stopped
}

// diff is what changed in what the caller shall see, and notes it as seen.
func (w *watcher) diff() []Change {
	var changes []Change
	for _, name := range w.set.Touched() {
		before, now := w.shown[name], w.set.Get(name)
		if now != nil && !w.matches(now) {
			now = nil
		}
		switch {
		case now == nil && before == nil:
			continue
		case now == nil:
			delete(w.shown, name)
			changes = append(changes, Change{Removed, before})
			continue
		case before == nil:
			changes = append(changes, Change{Added, now})
		case !before.Same(now):
			changes = append(changes, Change{Changed, now})
		}
		w.shown[name] = now
	}
	return changes
}

func (w *watcher) matches(in *Instance) bool {
	return !slices.ContainsFunc(w.filters, func(f func(*Instance) bool) bool { return !f(in) })
}

func (w *watcher) instances() []*Instance {
	all := make([]*Instance, 0, len(w.shown))
	for _, name := range slices.SortedFunc(maps.Keys(w.shown), instances.Name.Compare) {
		all = append(all, w.shown[name])
	}
	return all
}
