package config

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// maxStatusError is how much of an error a report tells, in bytes.
const maxStatusError = 4096

// requestTimeout bounds one request to the store.
const requestTimeout = 5 * time.Second

// follower sees the versions of a bundle, whatever type they become.
//
// One goroutine reads and watches in turns; only it accepts versions after the start. A second one confirms that the
// last version seen is still the one stored, and has the first one read again if it is not. A third one writes reports.
type follower struct {
	store  Store
	bundle string
	key    string
	opts   *options
	judge  judge
	report *reporter // nil: nobody asked for it

	behind  chan struct{} // capacity 1: the watch has missed something
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	seen      place // of the last version judged, good or not
	applied   place // of the one that was accepted
	refusal   error // why they differ
	copyErr   error // why the copy on disk is old
	confirmed time.Time
}

// judge decodes and validates a version. If it is good, swap makes it the value, and announce tells of that afterwards.
type judge func(Version) (swap, announce func(), err error)

// place is where in the store's history a version stands.
type place struct {
	cluster  uint64
	revision int64 // the store had nothing newer of the bundle up to here
	mod      int64 // mod revision of the key, 0: it is not there
	number   int64
}

func newFollower(store Store, bundle string, o *options, judge judge) *follower {
	f := &follower{
		store: store, bundle: bundle, key: currentKey(bundle), opts: o, judge: judge, behind: make(chan struct{}, 1),
	}
	if o.client != "" {
		f.report = newReporter(bundle, o)
	}
	return f
}

// begin takes the first version, from the store or from the copy on disk. An error means that there is none.
func (f *follower) begin(ctx context.Context) error {
	reach, cancel := context.WithTimeout(ctx, f.opts.patience)
	defer cancel()
	_, err := f.read(reach)
	for p := (pause{}); err != nil && p.sleep(reach); {
		_, err = f.read(reach)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f.mu.Lock()
	applied, why := f.applied, f.refusal
	f.mu.Unlock()
	if err != nil {
		why = fmt.Errorf("the cluster cannot be reached: %w", err)
	}
	if applied.number != 0 || f.opts.copyPath == "" {
		return why
	}
	if err := f.takeCopy(); err != nil && !errors.Is(err, errNoCopy) {
		return errors.Join(why, err)
	} else if err == nil {
		return nil
	}
	return why
}

// takeCopy accepts the version on disk. What was seen of the store stays seen.
func (f *follower) takeCopy() error {
	c, err := readCopy(f.opts.copyPath, f.bundle)
	if err != nil {
		return err
	}
	swap, _, err := f.judge(c.version.Version)
	if err != nil {
		return fmt.Errorf("the copy in %s: %w", f.opts.copyPath, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	swap()
	f.applied = c.place()
	if f.seen.revision == 0 {
		f.seen = f.applied
	}
	return nil
}

func (f *follower) start(ctx context.Context) {
	ctx, f.cancel = context.WithCancel(ctx)
	if f.report != nil {
		f.tell()
		f.running.Go(func() { f.report.run(ctx) })
	}
	f.running.Go(func() { f.run(ctx) })
	f.running.Go(func() { f.confirm(ctx) })
}

// Close stops following; the value stays as it is. It returns when the goroutines have ended, OnChange included.
func (f *follower) Close() {
	f.cancel()
	f.running.Wait()
}

// Stale reports that the cluster has not confirmed the value for twice Refresh, or not at all yet.
func (f *follower) Stale() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.confirmed.IsZero() || time.Since(f.confirmed) > 2*f.opts.refresh
}

// Err is why the value is not what was published last (ErrRefused, or ErrUnknownBundle if it was deleted), or why the
// copy on disk could not be written when it was last tried; nil if all is well. The first of these changes together
// with the value: who has seen a version by Load, Current or Version does not find the refusal of an earlier one here
// any more. The copy is written after that, and after OnChange.
func (f *follower) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.refusal, f.copyErr)
}

// run reads and watches in turns.
func (f *follower) run(ctx context.Context) {
	for p := (pause{}); ; {
		began := time.Now()
		if revision, err := f.read(ctx); err == nil {
			f.watch(ctx, revision+1)
		}
		if time.Since(began) > maxPause {
			p = pause{}
		}
		if !p.sleep(ctx) {
			return
		}
	}
}

// read takes what is current, and returns the revision that it was current at.
func (f *follower) read(ctx context.Context) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := f.store.Get(ctx, f.key)
	if err != nil {
		return 0, err
	}
	at := place{cluster: resp.Header.GetClusterId(), revision: resp.Header.GetRevision()}
	if len(resp.Kvs) == 0 {
		f.see(at, nil, ErrUnknownBundle)
		return at.revision, nil
	}
	at.mod = resp.Kvs[0].ModRevision
	version, err := decodeStored(resp.Kvs[0])
	f.see(at, version, err)
	return at.revision, nil
}

// watch takes what comes from a revision on, until the watch ends, has an error, or turns out to be behind.
func (f *follower) watch(ctx context.Context, from int64) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	responses := f.store.Watch(ctx, f.key, clientv3.WithRev(from))
	for {
		select {
		case resp, ok := <-responses:
			if !ok || resp.Err() != nil {
				return
			}
			f.take(resp)
		case <-f.behind:
			return
		}
	}
}

// take takes the last event of a response.
func (f *follower) take(resp clientv3.WatchResponse) {
	if len(resp.Events) == 0 {
		return
	}
	event := resp.Events[len(resp.Events)-1]
	at := place{cluster: resp.Header.GetClusterId(), revision: event.Kv.ModRevision}
	if event.Type == clientv3.EventTypeDelete {
		f.see(at, nil, ErrUnknownBundle)
		return
	}
	at.mod = event.Kv.ModRevision
	version, err := decodeStored(event.Kv)
	f.see(at, version, err)
}

// see judges a version that is newer than all that were seen; err is why there is none.
func (f *follower) see(at place, version *stored, err error) {
	if version != nil {
		at.number = version.Number
	}
	if f.passOver(at) {
		return
	}
	var swap, announce func()
	if err == nil {
		swap, announce, err = f.judge(version.Version)
	}
	f.settle(at, swap, err)
	if err == nil {
		announce()
		f.saveCopy(at, version)
	}
	f.tell()
}

// passOver reports whether at says nothing new: it is from a store that is behind, or confirms what was judged already.
func (f *follower) passOver(at place) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !at.sameHistory(f.seen):
		return false
	case at.revision < f.seen.revision:
		return true
	case at.mod != f.seen.mod || f.seen.revision == 0:
		return false
	}
	f.seen, f.confirmed = at, time.Now()
	return true
}

// settle makes a version that was found good the value, and says what became of one that was judged. Nobody sees the
// one without the other.
func (f *follower) settle(at place, swap func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen, f.confirmed, f.refusal = at, time.Now(), err
	if err == nil {
		swap()
		f.applied = at
	}
}

// saveCopy keeps the version that is the value on disk.
func (f *follower) saveCopy(at place, version *stored) {
	if f.opts.copyPath == "" {
		return
	}
	err := writeCopy(f.opts.copyPath, &diskCopy{bundle: f.bundle, cluster: at.cluster, version: version})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.copyErr = err
}

// sameHistory is false for places in stores of different clusters. A response need not say of which one it is.
func (p place) sameHistory(q place) bool {
	return p.cluster == q.cluster || p.cluster == 0 || q.cluster == 0
}

// confirm compares the last version seen with the one stored, every Refresh: whatever a watch does, this finds it out.
func (f *follower) confirm(ctx context.Context) {
	for {
		between := f.opts.refresh/4*3 + rand.N(f.opts.refresh/2+1)
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return
		}
		if at, err := f.look(ctx); err == nil && !f.confirms(at) {
			select {
			case f.behind <- struct{}{}:
			default:
			}
		}
	}
}

// look reads where the current version stands, without its documents.
func (f *follower) look(ctx context.Context) (place, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := f.store.Get(ctx, f.key, clientv3.WithKeysOnly())
	if err != nil {
		return place{}, err
	}
	at := place{cluster: resp.Header.GetClusterId(), revision: resp.Header.GetRevision()}
	if len(resp.Kvs) > 0 {
		at.mod = resp.Kvs[0].ModRevision
	}
	return at, nil
}

// confirms reports whether at says nothing new.
func (f *follower) confirms(at place) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !at.sameHistory(f.seen) {
		return false
	}
	if at.revision >= f.seen.revision && at.mod == f.seen.mod {
		f.confirmed = time.Now()
	}
	return at.revision < f.seen.revision || at.mod == f.seen.mod
}

// tell has what was seen and applied reported.
func (f *follower) tell() {
	if f.report == nil {
		return
	}
	f.mu.Lock()
	s := &coordv1.ConfigStatus{
		Client: f.opts.client, Seen: f.seen.number, SeenRevision: f.seen.mod,
		Applied: f.applied.number, AppliedRevision: f.applied.mod, TimeUnixMs: time.Now().UnixMilli(),
	}
	if f.refusal != nil {
		text := f.refusal.Error()
		s.Error = strings.ToValidUTF8(text[:min(len(text), maxStatusError)], "?")
	}
	f.mu.Unlock()
	f.report.set(s)
}
