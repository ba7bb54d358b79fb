package watch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/coord-dev/coord/statemachine"
)

// TestSlowClientCostsItself: a client that does not read holds a bounded number of bytes, others get everything at
// once, and it gets everything when it reads again.
func TestSlowClientCostsItself(t *testing.T) {
	f := newFixture(t, Options{StreamBytes: 8 << 10, RecentRevisions: 50}, ServerOptions{})
	slow, fast := f.dial(t), f.dial(t)
	slow.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 1})
	slow.create(t, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("b"), WatchId: 2})
	fast.create(t, &pb.WatchCreateRequest{Key: []byte("a")})
	const n = 2000
	for i := range int64(n) {
		f.put("a")
		expect(t, fast, fmt.Sprintf("0 @%d PUT a@%d", i+2, i+2))
	}
	f.hub.settle()
	if s := f.hub.Stats(); s.Slow != 2 || s.Pending > 100 {
		t.Errorf("stats %+v", s)
	}
	if f.scans+f.keyScans > 2 {
		t.Errorf("%d scans for a client that does not read", f.scans+f.keyScans)
	}
	next := map[int64]int64{1: 2, 2: 2}
	for next[1] < n+2 || next[2] < n+2 {
		r := slow.next(t)
		for _, e := range r.Events {
			if e.Kv.ModRevision != next[r.WatchId] {
				t.Fatalf("watcher %d got revision %d, want %d", r.WatchId, e.Kv.ModRevision, next[r.WatchId])
			}
			next[r.WatchId]++
		}
	}
	await(t, "nothing is pending, nor anybody slow: the last response counts until its Send has returned", func() bool {
		s := f.hub.Stats()
		return s.Slow == 0 && s.Pending == 0
	})
}

// TestUnreadRequestsAreBounded: a client that sends requests and reads no answers is not read from any more.
func TestUnreadRequestsAreBounded(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	c := f.dial(t)
	sent := 0
	for full := false; !full; {
		pause := patience
		if sent >= maxRequests {
			pause = 300 * time.Millisecond
		}
		select {
		case c.requests <- createRequest(&pb.WatchCreateRequest{Key: []byte("a")}):
			sent++
		case <-time.After(pause):
			full = true
		}
		if sent > 10*maxRequests {
			t.Fatal("unbounded")
		}
	}
	if sent < maxRequests {
		t.Errorf("only %d requests accepted", sent)
	}
	for i := range sent {
		expect(t, c, fmt.Sprintf("%d @1 created", i))
	}
}

// TestOverrunHub: when events come faster than the hub hands them out, they come from the store.
func TestOverrunHub(t *testing.T) {
	f := newFixture(t, Options{QueueBytes: 10 << 10}, ServerOptions{})
	c := f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a")})
	hold, gaps := make(chan struct{}), make(chan Delivery, 1000)
	_, cancel, err := f.hub.Subscribe([]byte("a"), nil, func(d Delivery) { gaps <- d })
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	f.hub.box.post(func() { <-hold })
	for range 200 {
		f.put("a")
	}
	s := f.hub.Stats()
	if s.Overflows == 0 || s.QueueBytes > 10<<10 {
		t.Errorf("stats %+v", s)
	}
	close(hold)
	for next := int64(2); next < 202; {
		for _, e := range c.next(t).Events {
			if e.Kv.ModRevision != next {
				t.Fatalf("got revision %d, want %d", e.Kv.ModRevision, next)
			}
			next++
		}
	}
	f.hub.settle()
	last, gap := int64(1), false
	for len(gaps) > 0 {
		d := <-gaps
		if d.Revision != last+1 && !d.Gap {
			t.Errorf("subscriber got %d after %d without a gap", d.Revision, last)
		}
		last, gap = d.Revision, gap || d.Gap
	}
	if !gap || last != 201 {
		t.Errorf("subscriber ended at %d, gap %v", last, gap)
	}
}

// TestApplyNeverWaits: Applied returns though the hub goroutine is stuck.
func TestApplyNeverWaits(t *testing.T) {
	f := newFixture(t, Options{QueueBytes: 1}, ServerOptions{})
	hold := make(chan struct{})
	f.hub.box.post(func() { <-hold })
	defer close(hold)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			f.put("a")
		}
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Applied blocked")
	}
	if n := len(f.hub.box.tasks); n > 3 {
		t.Errorf("%d tasks queued for 1000 batches without room", n)
	}
}

// TestSnapshotMakesWatchersCatchUp: after a snapshot each watcher reads on from its own next revision, or is told that
// this is compacted (W5, W9).
func TestSnapshotMakesWatchersCatchUp(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	c := f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 1})
	c.create(t, &pb.WatchCreateRequest{Key: []byte("b"), WatchId: 2, StartRevision: 6})
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 3, StartRevision: 100})
	f.put("a")
	expect(t, c, "1 @2 PUT a@2")
	for _, k := range []string{"a", "a", "b", "b"} { // revisions 3 to 6
		f.apply([]op{{[]byte(k), []byte("v")}})
	}
	f.hub.Recovered(f.compact(3), nil)
	got := []string{line(c.next(t)), line(c.next(t))}
	slices.Sort(got)
	if want := []string{"1 @6 PUT a@3 PUT a@4", "2 @6 PUT b@6"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for range 10 { // revisions 7 to 16
		f.apply([]op{{[]byte("a"), []byte("v")}})
	}
	f.hub.Recovered(f.compact(12), nil)
	got = []string{line(c.next(t)), line(c.next(t))}
	slices.Sort(got)
	if want := []string{"1 @0 canceled compacted 12", "2 @0 canceled compacted 12"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	c.quiet(t, f.hub) // the watcher of revision 100 still waits
	if s := f.hub.Stats(); s.Watchers != 1 || s.Slow != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestSharedScan: watchers that are behind together cost one scan, and a single key far behind does not cost a scan of
// all.
func TestSharedScan(t *testing.T) {
	f := newFixture(t, Options{ScanRevisions: 100}, ServerOptions{})
	for i := range 50 {
		f.put(string(keyName(i)))
	}
	c := f.dial(t)
	f.history.setViewError(errors.New("hold")) // until all are behind
	for i := range 50 {
		c.create(t, &pb.WatchCreateRequest{Key: keyName(i), StartRevision: 2})
	}
	f.history.setViewError(nil)
	for range 50 {
		c.next(t)
	}
	f.hub.settle()
	if f.scans != 1 || f.keyScans != 0 {
		t.Errorf("%d scans, %d key scans for 50 watchers", f.scans, f.keyScans)
	}
	for range 1000 {
		f.put("z")
	}
	c.create(t, &pb.WatchCreateRequest{Key: keyName(0), StartRevision: 2, WatchId: 99})
	expect(t, c, "99 @1051 PUT a/0@2")
	f.hub.settle()
	if f.scans != 1 || f.keyScans != 1 {
		t.Errorf("%d scans, %d key scans for a single key far behind", f.scans, f.keyScans)
	}
}

func TestSubscribe(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	f.put("a")
	deliveries := make(chan Delivery, 10)
	revision, cancel, err := f.hub.Subscribe([]byte("a"), []byte("c"), func(d Delivery) { deliveries <- d })
	if err != nil || revision != 2 {
		t.Fatalf("revision %d, error %v", revision, err)
	}
	f.hub.Applied(f.apply([]op{{[]byte("b"), []byte("1")}, {[]byte("c"), []byte("1")}, {[]byte("a"), []byte("1")}},
		[]op{{[]byte("c"), nil}}))
	d := <-deliveries
	if d.Revision != 3 || len(d.Events) != 2 || string(d.Events[0].Kv.Key) != "b" ||
		string(d.Events[1].Kv.Key) != "a" || d.Gap {
		t.Errorf("got %+v", d)
	}
	f.hub.Recovered(f.apply([]op{{[]byte("x"), []byte("1")}}), nil)
	if d := <-deliveries; d.Revision != 5 || !d.Gap || d.Events != nil {
		t.Errorf("after a snapshot: %+v", d)
	}
	cancel()
	cancel()
	f.put("a")
	f.hub.settle()
	if len(deliveries) != 0 {
		t.Errorf("delivered after cancel: %+v", <-deliveries)
	}
	if s := f.hub.Stats(); s.Subscriptions != 0 {
		t.Errorf("stats %+v", s)
	}
	if _, _, err := f.hub.Subscribe([]byte("b"), []byte("a"), nil); !errors.Is(err, ErrEmptyRange) {
		t.Errorf("empty range: %v", err)
	}
}

// TestSubscribeBoundary: everything after the returned revision is delivered, nothing before, while commits go on.
func TestSubscribeBoundary(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				f.put("a")
				time.Sleep(time.Microsecond) // a hub that is overrun would rightly tell of a gap
			}
		}
	}()
	for range 50 {
		var first atomic.Int64
		got := make(chan struct{}, 1)
		revision, cancel, err := f.hub.Subscribe([]byte("a"), nil, func(d Delivery) {
			if first.CompareAndSwap(0, d.Revision) {
				got <- struct{}{}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		<-got
		cancel()
		if first.Load() != revision+1 {
			t.Errorf("first delivery is %d after revision %d", first.Load(), revision)
		}
	}
	close(stop)
	<-stopped
}

// TestIndex compares the index with a list.
func TestIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	x := newIndex()
	var list []*watcher
	for range 5000 {
		if len(list) > 0 && r.IntN(2) == 0 {
			i := r.IntN(len(list))
			x.remove(list[i])
			list = slices.Delete(list, i, i+1)
		} else {
			key, end := keyName(r.IntN(40)), []byte(nil)
			switch r.IntN(4) {
			case 0:
				end = []byte{0}
			case 1:
				end = keyName(r.IntN(40))
			}
			w, err := newWatcher(key, end)
			if err != nil {
				continue
			}
			x.add(w)
			list = append(list, w)
		}
		key := keyName(r.IntN(40))
		want := map[*watcher]bool{}
		for _, w := range list {
			rec := record{key: []byte(w.key), end: []byte(w.end)}
			if !w.single && w.end == "" {
				rec.end = []byte{0}
			}
			if rec.wants(statemachine.Event{Kv: kvOf(key)}) {
				want[w] = true
			}
		}
		x.match(key, func(w *watcher) {
			if !want[w] {
				t.Fatalf("key %q: unexpected or repeated watcher of %q %q", key, w.key, w.end)
			}
			delete(want, w)
		})
		if len(want) > 0 {
			t.Fatalf("key %q: %d watchers missing", key, len(want))
		}
		if x.size != len(list) {
			t.Fatalf("size %d, want %d", x.size, len(list))
		}
	}
}

func TestRecent(t *testing.T) {
	r := recent{maxBytes: 1 << 20, maxCommits: 5}
	r.reset(10)
	for rev := int64(10); rev < 30; rev++ {
		kv := kvOf([]byte("a"))
		kv.ModRevision = rev
		r.add(split([]statemachine.Event{{Kv: kv}}, 0)[0])
	}
	if r.covers(24) || !r.covers(25) {
		t.Errorf("covers from %d", r.first)
	}
	if got := r.from(26, 2); len(got) != 2 || got[0].revision != 26 {
		t.Errorf("got %v", got)
	}
	if got := r.from(30, 2); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	big := kvOf(make([]byte, 1<<20))
	big.ModRevision = 30
	r.add(split([]statemachine.Event{{Kv: big}}, 0)[0])
	if r.covers(30) || !r.covers(31) || r.bytes != 0 {
		t.Errorf("a commit that is too large: %+v", r)
	}
}

// TestViewAheadOfHub: history read from a view that is newer than the hub ends at the hub's revision; the rest comes as
// commits, once (W2, W6).
func TestViewAheadOfHub(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	f.put("a", "a")                                      // 2, 3
	late := f.apply([]op{{[]byte("a"), []byte("late")}}) // 4 is in the store, and the hub has not been told
	c := f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2})
	expect(t, c, "0 @3 PUT a@2 PUT a@3")
	c.ask(progressRequest())
	expect(t, c, "-1 @3")
	f.hub.Applied(late)
	expect(t, c, "0 @4 PUT a@4")
	c.quiet(t, f.hub)
}

// TestHubStartsFromStore: the first request learns the revision from the store, and commits that the store already had
// are not repeated.
func TestHubStartsFromStore(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	known := f.apply([]op{{[]byte("a"), []byte("1")}}, []op{{[]byte("a"), []byte("2")}})
	f.history.compact(3)
	f.history.setViewError(statemachine.ErrClosed)
	c := f.dial(t)
	c.ask(createRequest(&pb.WatchCreateRequest{Key: []byte("a")}))
	if err := c.wait(); !errors.Is(err, rpctypes.ErrGRPCStopped) {
		t.Errorf("while the store is closed: %v", err)
	}
	f.history.setViewError(nil)
	c = f.dial(t)
	c.ask(createRequest(&pb.WatchCreateRequest{Key: []byte("a")}))
	expect(t, c, "0 @3 created")
	c.ask(createRequest(&pb.WatchCreateRequest{Key: []byte("a"), StartRevision: 2}))
	expect(t, c, "1 @3 created", "1 @0 canceled compacted 3")
	f.hub.Applied(known)
	c.quiet(t, f.hub)
	f.put("a")
	expect(t, c, "0 @4 PUT a@4")
}

// TestMerge: what waits for a slow client is sent in fewer responses, with nothing lost, moved or shared wrongly.
func TestMerge(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	c, other := f.dial(t), f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c"), WatchId: 1})
	c.create(t, &pb.WatchCreateRequest{Key: []byte("b"), WatchId: 2})
	other.create(t, &pb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("c")})
	for range 4 {
		for range 100 {
			f.put("a")
		}
		f.hub.Applied(f.apply([]op{{[]byte("a"), []byte("x")}, {[]byte("b"), []byte("x")}}))
	}
	f.hub.settle()
	c.ask(progressRequest())
	responses, logs := 0, map[int64]*record{
		1: {key: []byte("a"), end: []byte("c"), starts: []int64{2}, final: 405},
		2: {key: []byte("b"), starts: []int64{2}, final: 405},
	}
	for _, r := range logs {
		r.responses = []*pb.WatchResponse{{Header: &pb.ResponseHeader{Revision: 1}, Created: true}}
	}
	for {
		r := c.next(t)
		if r.WatchId == noID {
			break
		}
		responses++
		logs[r.WatchId].responses = append(logs[r.WatchId].responses, r)
		if last := r.Events[len(r.Events)-1].Kv.ModRevision; r.Header.Revision != last {
			t.Errorf("header revision %d for events up to %d", r.Header.Revision, last)
		}
	}
	for id, r := range logs {
		if err := check(f.history, r); err != nil {
			t.Errorf("watcher %d: %v", id, err)
		}
	}
	if responses > 100 {
		t.Errorf("%d responses for a client with a backlog of 408", responses)
	}
	for got := 0; got < 408; {
		got += len(other.next(t).Events)
	}
}

// TestPanicEndsStreamsOnly: what makes the hub panic ends the streams, whose clients come back, and tells subscribers
// of a gap; the hub goes on, and its counts are right.
func TestPanicEndsStreamsOnly(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	c := f.dial(t)
	c.create(t, &pb.WatchCreateRequest{Key: []byte("a")})
	deliveries := make(chan Delivery, 10)
	_, cancel, err := f.hub.Subscribe([]byte("a"), nil, func(d Delivery) { deliveries <- d })
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	f.hub.box.post(func() { panic("a request") })
	if err := c.wait(); !errors.Is(err, rpctypes.ErrGRPCStopped) {
		t.Errorf("the stream ended with %v", err)
	}
	if d := <-deliveries; !d.Gap {
		t.Errorf("the subscriber got %v", d)
	}
	f.hub.settle()
	if s := f.hub.Stats(); s.Watchers != 0 || s.Streams != 0 || s.Slow != 0 {
		t.Errorf("stats %+v", s)
	}
	again := f.dial(t)
	again.create(t, &pb.WatchCreateRequest{Key: []byte("a")})
	f.put("a")
	expect(t, again, "0 @2 PUT a@2")
	if d := <-deliveries; d.Gap || d.Revision != 2 {
		t.Errorf("the subscriber got %v", d)
	}
}
