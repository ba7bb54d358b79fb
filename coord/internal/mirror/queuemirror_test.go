package mirror

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/recipestest"
	"github.com/coord-dev/coord/statemachine"
)

// TestSlowObserver: one that is too far behind gets the last state, flagged, and then everything again; one that keeps
// up is not concerned.
func TestSlowObserver(t *testing.T) {
	m := newQueueMirror("job", func(*queueMirror) {})
	m.load(&recipes.Snapshot{Queue: "job"}, 1)
	watch := func() *Observer {
		o := &Observer{mirror: m, wake: make(chan struct{}, 1)}
		m.watch(o)
		return o
	}
	slow, quick := watch(), watch()
	rev := statemachine.Revision(1)
	lead := func() string {
		rev++
		value := fmt.Sprint("value ", rev)
		kv := &mvccpb.KeyValue{
			Key: []byte("job/7"), Value: []byte(value), Lease: 7, CreateRevision: 2, ModRevision: rev,
		}
		m.deliver(Delivery{Revision: rev, Events: []statemachine.Event{{Type: mvccpb.Event_PUT, Kv: kv}}})
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
	if err != nil || len(got) == 0 || len(got) > maxObserved || !got[0].Gap ||
		string(got[len(got)-1].Leader.Value) != last {
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

// TestMirrorAgainstScan: a mirror that is fed by changes equals the queue that a scan finds, at each revision.
func TestMirrorAgainstScan(t *testing.T) {
	m := newQueueMirror("job", func(*queueMirror) {})
	m.load(&recipes.Snapshot{Queue: "job", Sorted: []recipes.Entry{
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
		{put(12, 5, 0, "job/1"), "[job/1 job/2 job/3]"}, // put again without its lease: it counts
		{put(13, 5, 1, "job/1"), "[job/1 job/2 job/3]"},
		{put(14, 7, 2, "job/2"), "[job/1 job/2 job/3]"},                           // taken over
		{put(15, 5, statemachine.FirstLingering, "job/1"), "[job/1 job/2 job/3]"}, // lingers
	} {
		m.deliver(c.d)
		if got := fmt.Sprint(keysOf(m)); got != c.want || len(m.entries) != m.Len() {
			t.Errorf("at revision %d: %s, want %s", c.d.Revision, got, c.want)
		}
	}
	if h := m.holder(); h.Key != "" {
		t.Errorf("%+v holds while the first place lingers", h)
	}
}

// TestGapWhileLoading: one that the view is newer than is of no concern; for a newer one all is read again, and what
// was delivered after it is not lost.
func TestGapWhileLoading(t *testing.T) {
	reads := 0
	m := newQueueMirror("job", func(*queueMirror) { reads++ })
	m.deliver(Delivery{Revision: 5, Gap: true})
	m.load(&recipes.Snapshot{Queue: "job"}, 6)
	if reads > 0 || m.loading {
		t.Errorf("read again for a gap before the view: %d", reads)
	}
	m.deliver(Delivery{Revision: 7, Gap: true})
	m.deliver(Delivery{Revision: 9, Gap: true})
	m.deliver(Delivery{
		Revision: 10, Events: []statemachine.Event{{
			Kv: &mvccpb.KeyValue{Key: []byte("job/1"), Lease: 1, CreateRevision: 10, ModRevision: 10},
		}},
	})
	m.load(&recipes.Snapshot{Queue: "job"}, 8)
	if reads != 2 || !m.loading {
		t.Errorf("read %d times", reads)
	}
	m.load(&recipes.Snapshot{Queue: "job"}, 9)
	if got := keysOf(m); reads != 2 || m.loading || !slices.Equal(got, []string{"job/1"}) {
		t.Errorf("read %d times, %q", reads, got)
	}
}

func keysOf(s recipes.State) (keys []string) {
	for e := range s.Oldest() {
		keys = append(keys, e.Key)
	}
	return keys
}

// TestRandomMirrorsAgainstScan: the same for random requests, expiries and deletes, for all rules.
func TestRandomMirrorsAgainstScan(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 5))
		s := recipestest.New()
		mirrors := map[string]*queueMirror{}
		for _, kind := range layout.QueueKinds() {
			queue := layout.QueueOf(kind, "a")
			m := newQueueMirror(queue, func(*queueMirror) {})
			m.load(recipes.Read(s, queue), s.Rev)
			mirrors[queue] = m
		}
		s.Committed = func(rev statemachine.Revision, events []statemachine.Event) {
			for _, m := range mirrors {
				m.deliver(Delivery{Revision: rev, Events: events})
			}
		}
		for step := range 100 {
			disturb(rng, s)
			for queue, m := range mirrors {
				want := recipes.Read(s, queue)
				if got, want := described(m), described(want); got != want {
					t.Fatalf("seed %d, step %d: mirror of %q:\n%s\nscanned:\n%s", seed, step, queue, got, want)
				}
				holder, _ := want.Holder()
				if fmt.Sprint(m.holder()) != fmt.Sprint(holder) {
					t.Fatalf("seed %d, step %d: mirror of %q: %+v holds, scanned %+v", seed, step, queue, m.holder(),
						holder)
				}
				for e := range want.Oldest() {
					if got, want := m.rule.Ahead(m, e), m.rule.Ahead(want, e); got != want {
						t.Fatalf("seed %d: %d ahead of %+v, scanned %d", seed, got, e, want)
					}
				}
			}
		}
	}
}

// described is who is there and by which grants they hold.
func described(s recipes.State) string {
	var b strings.Builder
	for e := range s.Oldest() {
		var grant int64
		switch s := s.(type) {
		case *queueMirror:
			grant = s.holders.grantOf(s, e.Key)
		case *recipes.Snapshot:
			if e, ok := s.Granted(e.Key); ok {
				grant = e.Token
			}
		}
		fmt.Fprintf(&b, "%s by %d;", e.Key, grant)
	}
	return b.String()
}

// disturb does something to the queues of "a".
func disturb(rng *rand.Rand, s *recipestest.Store) {
	id := 1 + rng.Int64N(6)
	s.Leases[id], s.Sessions[id] = true, true
	switch rng.IntN(5) {
	case 0:
		s.Expire(id)
	case 1:
		for lease := range s.Leases {
			if statemachine.Lingers(lease) {
				s.Expire(lease)
			}
		}
	case 2:
		kinds := layout.QueueKinds()
		queue := layout.QueueOf(kinds[rng.IntN(len(kinds))], "a")
		if entries := recipes.Queue(s, queue); len(entries) > 0 {
			s.Delete(entries[rng.IntN(len(entries))].Key)
		}
	default:
		kind, req := randomRequest(rng, id, s)
		body, _ := proto.Marshal(req)
		_, _ = s.RequestBytes(id, uint64(s.Rev), kind, body)
	}
}

// randomRequest is one of a session.
func randomRequest(rng *rand.Rand, id int64, s *recipestest.Store) (coordv1.Kind, proto.Message) {
	linger := 1000 * rng.Int64N(2)
	switch rng.IntN(8) {
	case 0:
		priority := rng.Int64N(2) * (1 + rng.Int64N(3))
		key := layout.EntryKey(layout.ElectionQueue("a", priority), id, "")
		return coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "a", Priority: priority, To: key}
	case 1:
		return coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "a", Write: rng.IntN(2) == 0, LingerMs: linger}
	case 2:
		writer := &coordv1.Guard{
			Name: "a", Key: layout.EntryKey(layout.QueueOf(coordv1.QueueKind_QUEUE_RWLOCK, "a"), id, ""),
		}
		writer.Token = s.Get([]byte(writer.Key)).GetCreateRevision()
		return coordv1.Kind_KIND_RW_DOWNGRADE, &coordv1.RWDowngrade{Entry: writer}
	case 3, 4:
		return coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, &coordv1.SemaphoreAcquire{
			Name: "a", Permits: 1 + rng.Int64N(3), Limit: 4, LingerMs: linger,
		}
	case 5:
		return coordv1.Kind_KIND_SEMAPHORE_RESIZE, &coordv1.SemaphoreResize{
			Name: "a", Limit: 1 + rng.Int64N(6), Drain: rng.IntN(2) == 0,
		}
	case 6:
		return coordv1.Kind_KIND_BARRIER_ENTER, &coordv1.BarrierEnter{Name: "a", Parties: 3}
	}
	return coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{
		Name: "a", Priority: rng.Int64N(2) * (1 + rng.Int64N(3)), LingerMs: linger,
	}
}

// TestManyHoldersCostNothing: what becomes of one of many holders is judged for it alone.
func TestManyHoldersCostNothing(t *testing.T) {
	s := recipestest.New()
	queue := layout.QueueOf(coordv1.QueueKind_QUEUE_SEMAPHORE, "a")
	acquire := func(id int64) {
		s.Leases[id], s.Sessions[id] = true, true
		req := &coordv1.SemaphoreAcquire{Name: "a", Permits: 1, Limit: 300}
		if err := s.Request(id, uint64(id), coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, req, &coordv1.Acquired{}); err != nil {
			t.Fatal(err)
		}
	}
	for id := range int64(400) {
		acquire(id + 1)
	}
	m := newQueueMirror(queue, func(*queueMirror) {})
	m.load(recipes.Read(s, queue), s.Rev)
	anew := 0
	m.holders = counting{m.holders.(*upToToken), &anew}
	s.Committed = func(rev statemachine.Revision, events []statemachine.Event) {
		m.deliver(Delivery{Revision: rev, Events: events})
	}
	for id := range int64(50) {
		s.Revoke(id + 1)
		acquire(id + 2001)
		if anew > 0 {
			t.Fatal("a release and an acquire had all who hold looked at")
		}
	}
	if got := m.holders.grantOf(m, layout.EntryKey(queue, 350, "")); got == 0 ||
		m.holders.grantOf(m, layout.EntryKey(queue, 351, "")) != 0 {
		t.Error("not the next 50 hold")
	}
}

// counting counts how often all who hold are looked at.
type counting struct {
	*upToToken
	anew *int
}

func (c counting) settle(m *queueMirror) []string {
	if c.stale {
		*c.anew++
	}
	return c.upToToken.settle(m)
}
