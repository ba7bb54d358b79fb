package lease

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/coord-dev/coord/statemachine"
)

// twin is the table as maps and loops, with the rows that a caller would have stored.
type twin struct {
	leases   map[ID]Lease // with their own deadlines
	streams  map[uint64]Stream
	clock    int64
	tick     uint64
	rows     map[ID][]byte
	srows    map[uint64][]byte
	renewals map[string][]byte // by index and ordinal
}

func newTwin() *twin {
	return &twin{
		leases: map[ID]Lease{}, streams: map[uint64]Stream{}, rows: map[ID][]byte{}, srows: map[uint64][]byte{},
		renewals: map[string][]byte{},
	}
}

// now is the lease with what its stream gives it.
func (w *twin) now(l Lease) Lease {
	if s, ok := w.streams[l.Stream]; ok {
		l.Deadline, l.Pending = max(l.Deadline, s.Renewed+l.TTL), max(l.Pending, s.Pending)
	}
	return l
}

func (w *twin) due(l Lease) bool { return w.now(l).Pending == 0 && w.now(l).Deadline <= w.clock }

// all are the leases as they are to readers, by id.
func (w *twin) all() []Lease {
	var all []Lease
	for _, l := range w.leases {
		all = append(all, w.now(l))
	}
	slices.SortFunc(all, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (w *twin) facts() Facts {
	f := Facts{Count: len(w.leases)}
	pending := func(index uint64) {
		if index > 0 {
			f.Pending++
			f.PendingMax = max(f.PendingMax, index)
		}
	}
	for _, l := range w.leases {
		if f.MinTTL == 0 || l.TTL < f.MinTTL {
			f.MinTTL = l.TTL
		}
		pending(l.Pending)
		f.Overdue = f.Overdue || w.due(l)
	}
	for _, s := range w.streams {
		pending(s.Pending)
	}
	return f
}

// forgetEmpty drops streams that no lease is attached to.
func (w *twin) forgetEmpty() {
	for id := range w.streams {
		attached := false
		for _, l := range w.leases {
			attached = attached || l.Stream == id
		}
		if !attached {
			delete(w.streams, id)
			delete(w.srows, id)
		}
	}
}

func (w *twin) firstDue(limit int) []ID {
	due := slices.DeleteFunc(w.all(), func(l Lease) bool { return l.Pending > 0 || l.Deadline > w.clock })
	slices.SortStableFunc(due, func(a, b Lease) int { return cmp.Compare(a.Deadline, b.Deadline) })
	var ids []ID
	for _, l := range due[:min(limit, len(due))] {
		ids = append(ids, l.ID)
	}
	return ids
}

// load builds a table from the rows alone.
func (w *twin) load(t *rapid.T) *Table {
	loader := NewLoader(w.clock, w.tick, nil)
	for id, row := range w.rows { // in any order
		if err := loader.Lease(id, row); err != nil {
			t.Fatal(err)
		}
	}
	for id, row := range w.srows {
		if err := loader.Stream(id, row); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(w.renewals)) {
		if err := loader.Renewals(binary.BigEndian.Uint64([]byte(k)), w.renewals[k]); err != nil {
			t.Fatal(err)
		}
	}
	return loader.Done()
}

var operations = []string{"grant", "renew", "renew", "attach", "attach", "stream", "stream", "revoke", "tick", "tick",
	"tick", "reload"}

// TestTableAgainstTwin applies random operations to a table and to its twin. After each, the table, and one that is
// loaded from the rows as they are stored by then, must say what the twin says.
func TestTableAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := NewTable(nil)
		w := newTwin()
		index := uint64(0)
		id := rapid.SampledFrom([]ID{1, 2, 3, 4, -1})
		stream := rapid.Uint64Range(1, 2)
		ordinal := byte(0)
		for range rapid.IntRange(20, 80).Draw(t, "operations") {
			if rapid.IntRange(0, 2).Draw(t, "a new entry") > 0 || index == 0 {
				index, ordinal = index+1, 0
			}
			switch rapid.SampledFrom(operations).Draw(t, "operation") {
			case "grant":
				w.grant(t, table, id.Draw(t, "id"), rapid.Int64Range(1, 6).Draw(t, "ttl"), index)
			case "renew":
				ids := rapid.SliceOfN(id, 1, 4).Draw(t, "ids")
				key := binary.BigEndian.AppendUint64(nil, index)
				w.renew(t, table, ids, index, string(append(key, ordinal)))
				ordinal++
			case "revoke":
				one := id.Draw(t, "id")
				_, had := w.leases[one]
				if table.Remove(one) != had {
					t.Fatalf("revoke %d: existed is %v", one, !had)
				}
				delete(w.leases, one)
				delete(w.rows, one)
				w.forgetEmpty()
			case "attach":
				w.attach(t, table, id.Draw(t, "id"), stream.Draw(t, "stream"), index)
			case "stream":
				w.renewStream(t, table, stream.Draw(t, "stream"), index)
			case "tick":
				number := w.tick + uint64(rapid.SampledFrom([]int{1, 1, 1, 1, 0, 2}).Draw(t, "step"))
				delta := rapid.SampledFrom([]int64{0, 0, 1, 2, 5, -1}).Draw(t, "delta")
				w.letPass(t, table, number, delta, index-min(index, rapid.Uint64Range(0, 5).Draw(t, "behind")))
			case "reload":
				table = w.load(t)
			}
			limit := rapid.IntRange(1, 6).Draw(t, "limit")
			w.compare(t, "table", table, limit)
			w.compare(t, "loaded table", w.load(t), limit)
		}
	})
}

func (w *twin) grant(t *rapid.T, table *Table, id ID, ttl int64, index uint64) {
	owner := "somebody"[index%3:]
	l, ok := table.Grant(id, ttl, index, owner)
	if _, had := w.leases[id]; ok == had {
		t.Fatalf("grant %d: %v, existed: %v", id, ok, had)
	}
	if ok {
		w.leases[id] = Lease{ID: id, TTL: ttl, Pending: index, Created: index, Owner: owner}
		w.rows[id] = EncodeRow(l)
	}
}

func (w *twin) attach(t *rapid.T, table *Table, id ID, stream, index uint64) {
	l, had := w.leases[id]
	alive := had && !w.due(l)
	got, ok := table.Attach(id, stream, index)
	if ok != alive {
		t.Fatalf("attach %d: %v", id, ok)
	}
	if !alive {
		return
	}
	l.Stream, l.Pending = stream, index
	if got != l {
		t.Fatalf("attached %+v, want %+v", got, l)
	}
	w.leases[id] = l
	w.rows[id] = EncodeRow(got)
	if _, ok := w.streams[stream]; !ok {
		w.streams[stream] = Stream{ID: stream}
	}
	w.forgetEmpty()
}

func (w *twin) renewStream(t *rapid.T, table *Table, stream, index uint64) {
	var left []Lease
	for _, l := range w.all() {
		if l.Stream == stream && w.due(w.leases[l.ID]) {
			l.Stream = 0
			left = append(left, l)
		}
	}
	got, ok := table.RenewStream(stream, index)
	if !slices.Equal(got, left) {
		t.Fatalf("renewing stream %d left %+v, want %+v", stream, got, left)
	}
	for _, l := range left {
		w.leases[l.ID] = l
		w.rows[l.ID] = EncodeRow(l)
	}
	w.forgetEmpty()
	s, exists := w.streams[stream]
	if ok != exists {
		t.Fatalf("renewing stream %d: %v", stream, ok)
	}
	if exists {
		s.Pending = index
		w.streams[stream] = s
		w.srows[stream] = EncodeStream(s)
	}
}

func (w *twin) renew(t *rapid.T, table *Table, ids []ID, index uint64, key string) {
	var renewed []ID
	for _, id := range ids {
		want := int64(0)
		if l, ok := w.leases[id]; ok && !w.due(l) {
			want, l.Pending = l.TTL, index
			w.leases[id] = l
			renewed = append(renewed, id)
		}
		if got := table.Renew(id, index); got != want {
			t.Fatalf("renew %d: ttl %d, want %d", id, got, want)
		}
	}
	if len(renewed) > 0 {
		w.renewals[key] = EncodeRenewals(renewed)
	}
}

func (w *twin) letPass(t *rapid.T, table *Table, number uint64, delta int64, seen uint64) {
	settled, ok := table.Tick(number, delta, seen)
	if want := number == w.tick+1 && delta >= 0; ok != want {
		t.Fatalf("tick %d after %d by %d: applied is %v", number, w.tick, delta, ok)
	}
	if !ok {
		return
	}
	w.tick, w.clock = number, w.clock+delta
	n := 0
	for id, l := range w.leases {
		if l.Pending > 0 && l.Pending <= seen {
			l.Pending, l.Deadline = 0, w.clock+l.TTL
			w.leases[id] = l
			n++
		}
	}
	streams := 0
	for id, s := range w.streams {
		if s.Pending > 0 && s.Pending <= seen {
			w.streams[id] = Stream{ID: id, Renewed: w.clock}
			streams++
		}
	}
	if len(settled.Leases) != n || len(settled.Streams) != streams {
		t.Fatalf("tick %d settled %+v, want %d leases and %d streams", number, settled, n, streams)
	}
	for _, s := range settled.Streams {
		w.srows[s.ID] = EncodeStream(s)
	}
	for _, l := range settled.Leases {
		w.rows[l.ID] = EncodeRow(l)
	}
	maps.DeleteFunc(w.renewals, func(k string, _ []byte) bool { return binary.BigEndian.Uint64([]byte(k)) <= seen })
}

func (w *twin) compare(t *rapid.T, what string, table *Table, limit int) {
	all := table.All()
	expiry := func(l Lease) int64 {
		if l.Pending > 0 {
			return w.clock + l.TTL
		}
		return l.Deadline
	}
	if !slices.IsSortedFunc(all, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(expiry(a), expiry(b)), cmp.Compare(a.ID, b.ID))
	}) {
		t.Fatalf("%s lists %v", what, all)
	}
	slices.SortFunc(all, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	if !slices.Equal(all, w.all()) {
		t.Fatalf("%s holds %v, want %v", what, all, w.all())
	}
	for id := ID(-3); id < 7; id++ {
		want, had := w.leases[id]
		alive := had && !w.due(want)
		want = w.now(want)
		got, ok := table.Get(id)
		if ok != had || got != want || table.Alive(id) != alive {
			t.Fatalf("%s: lease %d is %v %v, alive %v; want %v %v", what, id, got, ok, table.Alive(id), want, had)
		}
	}
	if got := table.Due(limit); !slices.Equal(got, w.firstDue(limit)) {
		t.Fatalf("%s: due are %v, want %v", what, got, w.firstDue(limit))
	}
	if got := table.Facts(); got != w.facts() {
		t.Fatalf("%s: %+v, want %+v", what, got, w.facts())
	}
	for id := range uint64(4) {
		want, had := w.streams[id]
		if got, ok := table.Stream(id); got != want || ok != had {
			t.Fatalf("%s: stream %d is %+v %v, want %+v %v", what, id, got, ok, want, had)
		}
	}
	ms, tick := table.Clock()
	if ms != w.clock || tick != w.tick {
		t.Fatalf("%s: clock %d after tick %d, want %d, %d", what, ms, tick, w.clock, w.tick)
	}
}

func FuzzLoader(f *testing.F) {
	f.Add(EncodeRow(Lease{ID: 1, TTL: 5, Pending: 3, Created: 3, Stream: 7}),
		EncodeStream(Stream{Renewed: 3, Pending: 1}),
		EncodeRenewals([]ID{1, -1}))
	f.Fuzz(func(t *testing.T, row, stream, renewals []byte) {
		loader := NewLoader(0, 0, nil)
		if loader.Lease(1, row) == nil && loader.Stream(7, stream) == nil && loader.Renewals(9, renewals) == nil {
			table := loader.Done()
			table.Due(1)
			if f := table.Facts(); f.Count != 1 {
				t.Fatalf("%+v", f)
			}
		}
	})
}

// A renewal that a tick settles without time between gives the deadline that the lease had.
func TestSettledTwiceIsDueOnce(t *testing.T) {
	table := NewTable(nil)
	for id := ID(1); id <= 3; id++ {
		table.Grant(id, 10, 1, "")
	}
	table.Tick(1, 0, 1)
	table.Renew(1, 2)
	table.Tick(2, 0, 2)
	table.Tick(3, 10, 2)
	if got := table.Due(2); !slices.Equal(got, []ID{1, 2}) {
		t.Errorf("due are %v", got)
	}
	if got := table.Due(9); !slices.Equal(got, []ID{1, 2, 3}) {
		t.Errorf("all due are %v", got)
	}
}

// The ids of lingering leases are given by GrantLingering alone, each once, whatever its seed.
func TestLingeringIDs(t *testing.T) {
	table := NewTable(nil)
	for _, id := range []ID{math.MinInt64, math.MinInt64 + 1, -1, 1, 1 << 31, math.MaxInt64,
		statemachine.FirstLingering - 1, statemachine.FirstLingering + statemachine.LingeringIDs} {
		if _, ok := table.Grant(id, 10, 1, ""); !ok || statemachine.Lingers(id) || !table.Alive(id) {
			t.Errorf("lease %d: granted %t, lingers %t", id, ok, statemachine.Lingers(id))
		}
	}
	seen := map[ID]bool{}
	for _, seed := range []uint64{0, 0, uint64(statemachine.LingeringIDs) - 1, uint64(statemachine.LingeringIDs) - 1,
		uint64(statemachine.LingeringIDs), math.MaxUint64, math.MaxUint64} {
		l := table.GrantLingering(seed, 10, 1, "")
		if !statemachine.Lingers(l.ID) || seen[l.ID] {
			t.Errorf("seed %x gave %d, which lingers: %t, again: %t", seed, l.ID, statemachine.Lingers(l.ID),
				seen[l.ID])
		}
		seen[l.ID] = true
		if _, attached := table.Attach(l.ID, 7, 2); attached || table.Renew(l.ID, 2) != 0 || table.Alive(l.ID) {
			t.Errorf("lease %d is somebody's", l.ID)
		}
		if _, ok := table.Grant(l.ID, 10, 2, ""); ok {
			t.Errorf("lease %d was granted again", l.ID)
		}
	}
}

// Whoever finds seeds whose ids begin alike does not make each grant look at the leases of all before.
func TestLingeringSeedsThatBeginAlike(t *testing.T) {
	table, began := NewTable(nil), time.Now()
	for i := range uint64(50_000) {
		table.GrantLingering(i<<40, 10, 1, "")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("50,000 grants took %v", took)
	}
}
