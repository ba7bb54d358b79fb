// Package lease is the table of leases of a keyspace, in log time.
//
// Time is part of the log: the table's clock moves only when a tick is applied. A lease that was granted or renewed is
// pending and cannot expire; the first tick whose proposer had seen that log index gives it the deadline clock + TTL. So
// a deadline always lies at least a TTL behind the moment the grant or renewal was applied somewhere, whatever stale
// leaders, pauses and delays do, and time passes only while a quorum serves.
//
// The table is a cache of rows that its caller stores in the batch it applies:
//
//	leases    04 id:8             → uvarint ttl ms | uvarint deadline ms | uvarint pending index | uvarint created index
//	renewals  06 index:8 ordinal:4 → uvarint id …        (one row a batch of renewals, until a tick settles them)
//
// The pending index in a lease's row is that of its grant; a later one is found in the renewals.
package lease

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ID identifies a lease; not 0.
type ID = int64

// ErrCorrupt is wrapped by errors about rows that this package did not write.
var ErrCorrupt = errors.New("corrupt lease row")

// Lease is one lease. Times are in milliseconds.
type Lease struct {
	ID  ID
	TTL int64
	// Deadline in log time; 0 before the first tick has set it.
	Deadline int64
	// Pending is the log index of the latest grant or renewal that no tick has settled, 0 if there is none.
	Pending uint64
	// Created is the log index of the grant: with the ID it names this lease and no later one of the same ID.
	Created uint64
}

// Facts sum the table up.
type Facts struct {
	Count      int
	MinTTL     int64 // 0 without leases
	Pending    int
	PendingMax uint64
	Overdue    bool
	NextDue    int64 // 0 if no lease has a deadline
}

// Table holds the leases of one keyspace. One goroutine changes it; any may read it.
type Table struct {
	mu     sync.RWMutex
	leases map[ID]*Lease
	clock  int64
	tick   uint64 // number of the last tick
	// due orders deadlines; an entry counts only while it is its lease's current deadline.
	due dueHeap
	// pending holds grants and renewals in the order of their log index; one counts only while it is its lease's latest.
	pending []pendingRef
	ttls    map[int64]int // number of leases by TTL
	minTTL  int64         // the smallest of them, 0 without leases
	waiting int           // leases that are pending
}

type pendingRef struct {
	id    ID
	index uint64
}

// NewTable returns an empty table at log time 0.
func NewTable() *Table {
	return &Table{leases: make(map[ID]*Lease), ttls: make(map[int64]int)}
}

// Get returns a copy of the lease.
func (t *Table) Get(id ID) (Lease, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	l := t.leases[id]
	if l == nil {
		return Lease{}, false
	}
	return *l, true
}

// All returns copies of all leases by the time they would expire without renewal, ties by ID. A pending one counts from
// now: the next tick settles it.
func (t *Table) All() []Lease {
	t.mu.RLock()
	all := make([]Lease, 0, len(t.leases))
	for _, l := range t.leases {
		all = append(all, *l)
	}
	clock := t.clock
	t.mu.RUnlock()
	slices.SortFunc(all, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(a.expiry(clock), b.expiry(clock)), cmp.Compare(a.ID, b.ID))
	})
	return all
}

func (l Lease) expiry(clock int64) int64 {
	if l.Pending > 0 {
		return clock + l.TTL
	}
	return l.Deadline
}

// Clock is log time, and the number of the tick that made it.
func (t *Table) Clock() (ms int64, tick uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.clock, t.tick
}

// Facts sums the table up.
func (t *Table) Facts() Facts {
	t.mu.Lock() // it drops stale entries
	defer t.mu.Unlock()
	f := Facts{Count: len(t.leases), Pending: t.waiting, MinTTL: t.minTTL}
	f.PendingMax = t.lastPending()
	if e, ok := t.peek(); ok {
		f.NextDue = e.deadline
		if e.deadline <= t.clock {
			f.Overdue = true
		}
	}
	return f
}

// lastPending is the highest index of a pending lease, dropping references behind it to leases that are gone.
func (t *Table) lastPending() uint64 {
	for n := len(t.pending); n > 0; n-- {
		ref := t.pending[n-1]
		if l := t.leases[ref.id]; l != nil && l.Pending == ref.index {
			return ref.index
		}
		t.pending = t.pending[:n-1]
	}
	return 0
}

// Alive reports whether the lease exists and is not overdue: one that is due but not yet deleted is dead.
func (t *Table) Alive(id ID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.alive(t.leases[id])
}

func (t *Table) alive(l *Lease) bool {
	return l != nil && (l.Pending > 0 || l.Deadline > t.clock)
}

// Grant adds a lease and returns it, for its row. It reports false if the ID exists.
func (t *Table) Grant(id ID, ttl int64, index uint64) (Lease, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leases[id] != nil {
		return Lease{}, false
	}
	l := &Lease{ID: id, TTL: ttl, Pending: index, Created: index}
	t.add(l)
	t.waiting++
	t.pending = append(t.pending, pendingRef{id, index})
	return *l, true
}

func (t *Table) add(l *Lease) {
	t.leases[l.ID] = l
	t.ttls[l.TTL]++
	if t.minTTL == 0 || l.TTL < t.minTTL {
		t.minTTL = l.TTL
	}
}

// Renew makes the lease pending again and returns its TTL, or 0 where it does not exist or is overdue.
func (t *Table) Renew(id ID, index uint64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leases[id]
	if !t.alive(l) {
		return 0
	}
	t.setPending(l, index)
	return l.TTL
}

func (t *Table) setPending(l *Lease, index uint64) {
	if l.Pending == 0 {
		t.waiting++
	}
	if l.Pending != index {
		t.pending = append(t.pending, pendingRef{l.ID, index})
	}
	l.Pending = index
}

// Remove deletes the lease and reports whether it existed.
func (t *Table) Remove(id ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leases[id]
	if l == nil {
		return false
	}
	delete(t.leases, id)
	if t.ttls[l.TTL]--; t.ttls[l.TTL] == 0 {
		delete(t.ttls, l.TTL)
		t.lostTTL(l.TTL)
	}
	if l.Pending > 0 {
		t.waiting--
	}
	return true
}

// lostTTL keeps minTTL when the last lease of a TTL is gone.
func (t *Table) lostTTL(ttl int64) {
	if ttl != t.minTTL {
		return
	}
	t.minTTL = 0
	for ttl := range t.ttls {
		if t.minTTL == 0 || ttl < t.minTTL {
			t.minTTL = ttl
		}
	}
}

// Tick lets delta pass, if number is the next one, and settles what the proposer had seen: every lease whose latest grant
// or renewal has a log index <= seen gets deadline = clock + TTL. It returns those leases, for their rows, in the order
// they were granted or renewed. Ticks are told apart by number alone, never by clock values: a delta of zero would make
// two of them look alike.
func (t *Table) Tick(number uint64, delta int64, seen uint64) (settled []Lease, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if number != t.tick+1 || delta < 0 {
		return nil, false
	}
	t.tick = number
	t.clock += delta
	n := 0
	for n < len(t.pending) && t.pending[n].index <= seen {
		ref := t.pending[n]
		n++
		l := t.leases[ref.id]
		if l == nil || l.Pending != ref.index {
			continue // gone, or renewed since
		}
		l.Pending = 0
		l.Deadline = t.clock + l.TTL
		t.waiting--
		heap.Push(&t.due, dueEntry{l.Deadline, l.ID})
		settled = append(settled, *l)
	}
	t.pending = t.pending[n:]
	if len(t.pending) == 0 {
		t.pending = nil // let go of the array
	}
	if len(t.due) > 2*len(t.leases)+spareDue {
		t.sortDue() // a lease of a long TTL that is renewed often leaves many entries far from the top
	}
	return settled, true
}

// spareDue is how many entries the heap may have beside two for each lease.
const spareDue = 1000

// sortDue makes the heap anew, of current deadlines only.
func (t *Table) sortDue() {
	t.due = make(dueHeap, 0, len(t.leases))
	for _, l := range t.leases {
		if l.Pending == 0 {
			t.due = append(t.due, dueEntry{l.Deadline, l.ID})
		}
	}
	heap.Init(&t.due)
}

// Due returns up to limit leases that are overdue, earliest deadline first, ties by ID. They stay in the table. A lease
// that was settled twice at one deadline is in the heap twice and counts once: how many a tick deletes must not depend on
// whether the table was loaded from its rows since.
func (t *Table) Due(limit int) []ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []ID
	var taken []dueEntry
	for len(ids) < limit {
		e, ok := t.peek()
		if !ok || e.deadline > t.clock {
			break
		}
		heap.Pop(&t.due)
		if n := len(taken); n > 0 && taken[n-1] == e {
			continue
		}
		ids = append(ids, e.id)
		taken = append(taken, e)
	}
	for _, e := range taken {
		heap.Push(&t.due, e)
	}
	return ids
}

// peek returns the earliest current deadline, dropping entries of leases that are gone, pending or settled anew.
func (t *Table) peek() (dueEntry, bool) {
	for len(t.due) > 0 {
		e := t.due[0]
		if l := t.leases[e.id]; l != nil && l.Pending == 0 && l.Deadline == e.deadline {
			return e, true
		}
		heap.Pop(&t.due)
	}
	return dueEntry{}, false
}

type dueEntry struct {
	deadline int64
	id       ID
}

type dueHeap []dueEntry

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	return h[i].deadline < h[j].deadline || h[i].deadline == h[j].deadline && h[i].id < h[j].id
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(dueEntry)) }
func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// EncodeRow returns the value of a lease's row.
func EncodeRow(l Lease) []byte {
	var dst []byte
	for _, v := range [...]uint64{uint64(l.TTL), uint64(l.Deadline), l.Pending, l.Created} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// EncodeRenewals returns the value of a renewals row.
func EncodeRenewals(ids []ID) []byte {
	var dst []byte
	for _, id := range ids {
		dst = binary.AppendUvarint(dst, uint64(id))
	}
	return dst
}

func uvarints(data []byte) ([]uint64, error) {
	var out []uint64
	for len(data) > 0 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			return nil, fmt.Errorf("%w: cut short", ErrCorrupt)
		}
		out, data = append(out, v), data[n:]
	}
	return out, nil
}

// Loader builds a table from its rows. Lease rows come first, then renewals in key order, then Done.
type Loader struct{ t *Table }

// NewLoader starts a table whose clock stands at clock since the tick of the given number.
func NewLoader(clock int64, tick uint64) *Loader {
	t := NewTable()
	t.clock, t.tick = clock, tick
	return &Loader{t}
}

// Lease adds the row of lease id.
func (l *Loader) Lease(id ID, value []byte) error {
	v, err := uvarints(value)
	if err != nil || len(v) != 4 {
		return fmt.Errorf("%w: lease %d", ErrCorrupt, id)
	}
	le := &Lease{ID: id, TTL: int64(v[0]), Deadline: int64(v[1]), Pending: v[2], Created: v[3]}
	l.t.add(le)
	if le.Pending > 0 {
		l.t.waiting++
		l.t.pending = append(l.t.pending, pendingRef{id, le.Pending})
	}
	return nil
}

// Renewals adds the row of the renewals at a log index. Leases that were deleted or granted anew since are passed over.
func (l *Loader) Renewals(index uint64, value []byte) error {
	ids, err := uvarints(value)
	if err != nil {
		return fmt.Errorf("renewals at index %d: %w", index, err)
	}
	for _, id := range ids {
		if le := l.t.leases[ID(id)]; le != nil && le.Created <= index && le.Pending < index {
			l.t.setPending(le, index)
		}
	}
	return nil
}

// Done returns the table.
func (l *Loader) Done() *Table {
	t := l.t
	slices.SortStableFunc(t.pending, func(a, b pendingRef) int { return cmp.Compare(a.index, b.index) })
	t.sortDue()
	return t
}
