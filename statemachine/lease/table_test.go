package lease

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// twin is the table as a map and loops, with the rows that a caller would have stored.
type twin struct {
	leases   map[ID]Lease
	clock    int64
	tick     uint64
	rows     map[ID][]byte
	renewals map[string][]byte // by index and ordinal
}

func (w *twin) due(l Lease) bool { return l.Pending == 0 && l.Deadline <= w.clock }

func (w *twin) all() []Lease {
	return slices.SortedFunc(maps.Values(w.leases), func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
}

func (w *twin) facts() Facts {
	f := Facts{Count: len(w.leases)}
	for _, l := range w.leases {
		if f.MinTTL == 0 || l.TTL < f.MinTTL {
			f.MinTTL = l.TTL
		}
		if l.Pending > 0 {
			f.Pending++
			f.PendingMax = max(f.PendingMax, l.Pending)
		}
		f.Overdue = f.Overdue || w.due(l)
	}
	return f
}

func (w *twin) firstDue(limit int) []ID {
	due := slices.DeleteFunc(w.all(), func(l Lease) bool { return !w.due(l) })
	slices.SortStableFunc(due, func(a, b Lease) int { return cmp.Compare(a.Deadline, b.Deadline) })
	var ids []ID
	for _, l := range due[:min(limit, len(due))] {
		ids = append(ids, l.ID)
	}
	return ids
}

// load builds a table from the rows alone.
func (w *twin) load(t *rapid.T) *Table {
	loader := NewLoader(w.clock, w.tick)
	for id, row := range w.rows { // in any order
		if err := loader.Lease(id, row); err != nil {
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

// TestTableAgainstTwin applies random operations to a table and to its twin. After each, the table, and one that is loaded
// from the rows as they are stored by then, must say what the twin says.
func TestTableAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := NewTable()
		w := &twin{leases: map[ID]Lease{}, rows: map[ID][]byte{}, renewals: map[string][]byte{}}
		index := uint64(0)
		id := rapid.SampledFrom([]ID{1, 2, 3, -1})
		ordinal := byte(0)
		for range rapid.IntRange(20, 80).Draw(t, "operations") {
			if rapid.IntRange(0, 2).Draw(t, "a new entry") > 0 || index == 0 {
				index, ordinal = index+1, 0
			}
			switch rapid.SampledFrom([]string{"grant", "renew", "renew", "revoke", "tick", "tick", "reload"}).Draw(t, "operation") {
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
	l, ok := table.Grant(id, ttl, index)
	if _, had := w.leases[id]; ok == had {
		t.Fatalf("grant %d: %v, existed: %v", id, ok, had)
	}
	if ok {
		w.leases[id] = Lease{ID: id, TTL: ttl, Pending: index, Created: index}
		w.rows[id] = EncodeRow(l)
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
	if len(settled.Leases) != n {
		t.Fatalf("tick %d settled %v, want %d leases", number, settled, n)
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
		got, ok := table.Get(id)
		if ok != had || got != want || table.Alive(id) != (had && !w.due(want)) {
			t.Fatalf("%s: lease %d is %v %v, alive %v; want %v %v", what, id, got, ok, table.Alive(id), want, had)
		}
	}
	if got := table.Due(limit); !slices.Equal(got, w.firstDue(limit)) {
		t.Fatalf("%s: due are %v, want %v", what, got, w.firstDue(limit))
	}
	if got := table.Facts(); got != w.facts() {
		t.Fatalf("%s: %+v, want %+v", what, got, w.facts())
	}
	ms, tick := table.Clock()
	if ms != w.clock || tick != w.tick {
		t.Fatalf("%s: clock %d after tick %d, want %d, %d", what, ms, tick, w.clock, w.tick)
	}
}

func FuzzLoader(f *testing.F) {
	f.Add(EncodeRow(Lease{ID: 1, TTL: 5, Pending: 3, Created: 3}), EncodeRenewals([]ID{1, -1}))
	f.Fuzz(func(t *testing.T, row, renewals []byte) {
		loader := NewLoader(0, 0)
		if loader.Lease(1, row) == nil && loader.Renewals(9, renewals) == nil {
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
	table := NewTable()
	for id := ID(1); id <= 3; id++ {
		table.Grant(id, 10, 1)
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
