package line

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/internal/memstore"
	"github.com/coord-dev/coord/statemachine"
)

// TestSlowObserver: one that is too far behind gets the last state, flagged, and then everything again; one that keeps up
// is not concerned.
func TestSlowObserver(t *testing.T) {
	l := newLine("job", func(*line) {})
	l.load(&recipes.Snapshot{Queue: "job"}, 1)
	watch := func() *Observer {
		o := &Observer{line: l, wake: make(chan struct{}, 1)}
		l.watch(o)
		return o
	}
	slow, quick := watch(), watch()
	rev := statemachine.Revision(1)
	lead := func() string {
		rev++
		value := fmt.Sprint("value ", rev)
		kv := &mvccpb.KeyValue{Key: []byte("job/7"), Value: []byte(value), Lease: 7, CreateRevision: 2, ModRevision: rev}
		l.deliver(Delivery{Revision: rev, Events: []statemachine.Event{{Type: mvccpb.Event_PUT, Kv: kv}}})
		return value
	}
	if first, err := quick.Take(); err != nil || len(first) != 1 || first[0].Leader != nil {
		t.Fatalf("at the start: %v, %v", first, err)
	}
	var last string
	for range maxObserved + 10 {
		last = lead()
		if got, err := quick.Take(); err != nil || len(got) != 1 || got[0].Gap || string(got[0].Leader.Value) != last {
			t.Fatalf("quick observer: %v, %v, want %q", got, err, last)
		}
	}
	got, err := slow.Take()
	if err != nil || len(got) == 0 || len(got) > maxObserved || !got[0].Gap || string(got[len(got)-1].Leader.Value) != last {
		t.Fatalf("slow observer: %d events, %v", len(got), err)
	}
	for i, ev := range got[1:] {
		if ev.Gap || ev.Revision != got[0].Revision+int64(i)+1 {
			t.Errorf("after the gap, event %d: %v", i, ev)
		}
	}
	last = lead()
	if got, err := slow.Take(); err != nil || len(got) != 1 || got[0].Gap || string(got[0].Leader.Value) != last {
		t.Errorf("slow observer later: %v, %v", got, err)
	}
}

// TestLineAgainstScan: a line that is fed by changes equals the queue that a scan finds, at each revision.
func TestLineAgainstScan(t *testing.T) {
	l := newLine("job", func(*line) {})
	l.load(&recipes.Snapshot{Queue: "job", Sorted: []recipes.Entry{
		{Key: "job/1", Token: 5, Claim: 5, Lease: 1}, {Key: "job/2", Token: 7, Claim: 7, Lease: 2}}}, 9)
	put := func(rev, created, lease int64, key string) Delivery {
		return Delivery{Revision: rev, Events: []statemachine.Event{{Type: mvccpb.Event_PUT, Kv: &mvccpb.KeyValue{
			Key: []byte(key), Lease: lease, CreateRevision: created, ModRevision: rev}}}}
	}
	for _, c := range []struct {
		d    Delivery
		want string
	}{
		{put(8, 8, 3, "job/3"), "[job/1 job/2]"}, // older than what was read
		{put(10, 10, 3, "job/3"), "[job/1 job/2 job/3]"},
		{put(11, 11, 4, "job/x/4"), "[job/1 job/2 job/3]"},
		{put(12, 5, 0, "job/1"), "[job/2 job/3]"}, // detached from its lease
		{put(13, 5, 1, "job/1"), "[job/1 job/2 job/3]"},
		{put(14, 7, 2, "job/2"), "[job/1 job/2 job/3]"},  // taken over
		{put(15, 5, -9, "job/1"), "[job/1 job/2 job/3]"}, // lingers
	} {
		l.deliver(c.d)
		if got := fmt.Sprint(keysOf(l)); got != c.want || len(l.entries) != l.Len() {
			t.Errorf("at revision %d: %s, want %s", c.d.Revision, got, c.want)
		}
	}
	if h := l.holder(); h.Key != "" {
		t.Errorf("%+v holds while the first place lingers", h)
	}
}

// TestGapWhileLoading: one that the view is newer than is of no concern; for a newer one all is read again, and what was
// delivered after it is not lost.
func TestGapWhileLoading(t *testing.T) {
	reads := 0
	l := newLine("job", func(*line) { reads++ })
	l.deliver(Delivery{Revision: 5, Gap: true})
	l.load(&recipes.Snapshot{Queue: "job"}, 6)
	if reads > 0 || l.loading {
		t.Errorf("read again for a gap before the view: %d", reads)
	}
	l.deliver(Delivery{Revision: 7, Gap: true})
	l.deliver(Delivery{Revision: 9, Gap: true})
	l.deliver(Delivery{Revision: 10, Events: []statemachine.Event{{Kv: &mvccpb.KeyValue{Key: []byte("job/1"), Lease: 1, CreateRevision: 10, ModRevision: 10}}}})
	l.load(&recipes.Snapshot{Queue: "job"}, 8)
	if reads != 2 || !l.loading {
		t.Errorf("read %d times", reads)
	}
	l.load(&recipes.Snapshot{Queue: "job"}, 9)
	if got := keysOf(l); reads != 2 || l.loading || !slices.Equal(got, []string{"job/1"}) {
		t.Errorf("read %d times, %q", reads, got)
	}
}

func keysOf(s recipes.State) (keys []string) {
	for e := range s.Oldest() {
		keys = append(keys, e.Key)
	}
	return keys
}

// TestRandomLinesAgainstScan: the same for random requests, expiries and deletes, for both rules.
func TestRandomLinesAgainstScan(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 5))
		s := memstore.New()
		lines := map[string]*line{}
		for _, queue := range []string{"a", recipes.QueueOf("a", true)} {
			l := newLine(queue, func(*line) {})
			l.load(recipes.Read(s, queue), s.Rev)
			lines[queue] = l
		}
		s.Committed = func(rev statemachine.Revision, events []statemachine.Event) {
			for _, l := range lines {
				l.deliver(Delivery{Revision: rev, Events: events})
			}
		}
		for step := range 100 {
			disturb(rng, s)
			for queue, l := range lines {
				want := recipes.Read(s, queue)
				holder, _ := want.Holder()
				if !slices.Equal(keysOf(l), keysOf(want)) || fmt.Sprint(l.holder()) != fmt.Sprint(holder) {
					t.Fatalf("seed %d, step %d: line of %q: %q, %+v holds; scanned %q, %+v", seed, step, queue, keysOf(l), l.holder(), keysOf(want), holder)
				}
				for e := range want.Oldest() {
					if got, want := l.rule.Ahead(l, e), l.rule.Ahead(want, e); got != want {
						t.Fatalf("seed %d: %d ahead of %+v, scanned %d", seed, got, e, want)
					}
				}
			}
		}
	}
}

// disturb does something to the elections of "a".
func disturb(rng *rand.Rand, s *memstore.Store) {
	id := 1 + rng.Int64N(6)
	s.Leases[id], s.Sessions[id] = true, true
	priority := rng.Int64N(2) * (1 + rng.Int64N(3))
	key := recipes.Key(recipes.QueueOf("a", priority != 0), id, "")
	switch rng.IntN(8) {
	default:
		req := &coordv1.Campaign{Name: "a", Priority: priority, LingerMs: 1000 * rng.Int64N(2)}
		_ = s.Request(id, uint64(s.Rev), coordv1.Kind_KIND_CAMPAIGN, req, &coordv1.Acquired{})
	case 0:
		s.Delete(key)
	case 1:
		s.Expire(id)
	case 2:
		for lease := range s.Leases {
			if lease < 0 {
				s.Expire(lease)
			}
		}
	case 3:
		_ = s.Request(id, uint64(s.Rev), coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", Priority: priority, To: key}, &coordv1.Transferred{})
	}
}
