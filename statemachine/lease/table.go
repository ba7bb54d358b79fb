// Package lease is the table of leases of a keyspace, in log time.
//
// Time is part of the log: the table's clock moves only when a tick is applied. A lease that was granted or renewed is
// pending and cannot expire; the first tick whose proposer had seen that log index gives it the deadline clock + TTL.
// So a deadline always lies at least a TTL behind the moment the grant or renewal was applied somewhere, whatever stale
// leaders, pauses and delays do, and time passes only while a quorum serves.
//
// # Streams
//
// Leases can be attached to a stream, which is renewed for all of them at once: the stream becomes pending, and the
// tick that has seen it gives the stream the instant R = clock. The deadline of an attached lease is the later of its
// own and R + TTL, and it cannot expire while its own renewal or that of its stream is pending. A renewal revives
// nobody: leases that are overdue then leave the stream first, with the deadline they had. To renew a stream and to
// settle it costs the same however many leases it has; only when R + the smallest TTL has passed are its leases looked
// at.
//
// # Lingering leases
//
// The place of a lease that expired can be kept for a while on a lease of its own. Such leases are told from those of
// clients by their ids alone, which statemachine.Lingers knows: Grant gives none of them, so whoever reads a key and
// the id that it is on, at whatever revision, knows what it is. Nobody renews them or attaches to them: Alive is false
// for them.
//
// # Rows
//
// The table is a cache of rows that its caller stores in the batch it applies:
//
//	leases    04 id:8             → uvarint ttl ms | uvarint deadline ms | uvarint pending index |
//	                                uvarint created index | uvarint stream | owner
//	renewals  06 index:8 ordinal:4 → uvarint id …        (one row a batch of renewals, until a tick settles them)
//	streams   0c stream:8         → uvarint R ms | uvarint pending index  (while it has leases, once it was renewed)
//
// The deadline in a lease's row is its own. The pending index there is that of its grant or of the last attachment; a
// later one is found in the renewals.
package lease

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/undo"
)

// ID identifies a lease; not 0.
type ID = statemachine.LeaseID

// ErrCorrupt is wrapped by errors about rows that this package did not write.
var ErrCorrupt = errors.New("corrupt lease row")

// Bounds in milliseconds, so that no deadline overflows: of a lease's TTL, etcd's, and of log time.
const (
	MaxTTL   = 9_000_000_000_000
	MaxClock = 1 << 62
)

// Lease is one lease. Times are in milliseconds.
type Lease struct {
	ID  ID
	TTL int64
	// Deadline in log time; meaningless while Pending.
	Deadline int64
	// Pending is the log index of the latest grant or renewal that no tick has settled, 0 if there is none.
	Pending uint64
	// Created is the log index of the grant: with the ID it names this lease and no later one of the same ID.
	Created uint64
	// Stream is what the lease is attached to, 0 if to none.
	Stream uint64
	// Owner is the user for whom it was granted; empty: nobody in particular.
	Owner string
}

// Stream is what is known of a stream that leases are attached to.
type Stream struct {
	ID uint64
	// Renewed is R, in log time; 0 before the first renewal is settled.
	Renewed int64
	// Pending is the log index of the latest renewal that no tick has settled, 0 if there is none.
	Pending uint64
}

// Settled is what a tick gave a new deadline, for their rows.
type Settled struct {
	Leases  []Lease
	Streams []Stream
}

// Facts sum the table up.
type Facts struct {
	Count      int
	MinTTL     int64  // 0 without leases
	Pending    int    // leases and streams whose grant or renewal no tick has settled
	PendingMax uint64 // the highest log index of these
	Overdue    bool
}

// Table holds the leases of one keyspace. One goroutine changes it; any may read it.
type Table struct {
	mu      sync.RWMutex
	leases  map[ID]*entry
	streams map[uint64]*stream
	clock   int64
	tick    uint64 // number of the last tick
	// due orders deadlines, see dueEntry.
	due dueHeap
	// pending holds grants and renewals in the order of their log index; one counts only while it is the latest.
	pending []pendingRef
	ttls    ttls
	waiting int       // leases and streams that are pending
	undo    *undo.Log // where changes note how to take them back; nil: nowhere
}

// entry is a lease in the table. Its deadline and pending index are its own.
type entry struct {
	Lease
	stream *stream // nil: none
}

// now is the lease with what its stream gives it.
func (e *entry) now() Lease {
	l := e.Lease
	if s := e.stream; s != nil {
		l.Deadline = max(l.Deadline, s.Renewed+l.TTL)
		l.Pending = max(l.Pending, s.Pending)
	}
	return l
}

// stream is a stream in the table. It has a lease at least.
type stream struct {
	Stream
	leases map[ID]*entry
	minTTL int64 // no TTL of its leases is smaller
	bound  int64 // no deadline of its leases is earlier, now or when their own renewals are settled
	// listed says that the heap has an entry for each of its leases that is not pending itself; else for the bound
	// only.
	listed bool
}

type pendingRef struct {
	id     ID
	stream uint64 // not 0: a stream's renewal
	index  uint64
}

// NewTable returns an empty table at log time 0. What Grant, Renew, Attach, RenewStream and Remove change while a step
// of log is open is taken back when that is rolled back; log may be nil. Log time is not: Tick is called outside of
// steps.
func NewTable(log *undo.Log) *Table {
	return &Table{
		leases: make(map[ID]*entry), streams: make(map[uint64]*stream), ttls: ttls{byTTL: make(map[int64]*ttlCount)},
		undo: log,
	}
}

// Get returns a copy of the lease, with the deadline and the pending index that its stream gives it.
func (t *Table) Get(id ID) (Lease, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.leases[id]
	if e == nil {
		return Lease{}, false
	}
	return e.now(), true
}

// Stream returns a copy of the stream; ok is false where no lease is attached to it.
func (t *Table) Stream(id uint64) (s Stream, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if s := t.streams[id]; s != nil {
		return s.Stream, true
	}
	return Stream{}, false
}

// All is Get for all leases, by the time they would expire without renewal, ties by ID. A pending one counts from now:
// the next tick settles it.
func (t *Table) All() []Lease {
	t.mu.RLock()
	all := make([]Lease, 0, len(t.leases))
	for _, e := range t.leases {
		all = append(all, e.now())
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
	_, overdue := t.peek()
	return Facts{
		Count: len(t.leases), MinTTL: t.ttls.min(), Pending: t.waiting, PendingMax: t.lastPending(), Overdue: overdue,
	}
}

// lastPending is the highest index of what is pending, dropping references behind it that do not count any more.
func (t *Table) lastPending() uint64 {
	for n := len(t.pending); n > 0; n-- {
		if ref := t.pending[n-1]; t.current(ref) {
			return ref.index
		}
		t.pending = t.pending[:n-1]
	}
	return 0
}

// current reports whether ref is the latest grant or renewal of its lease or stream, and not settled.
func (t *Table) current(ref pendingRef) bool {
	if ref.stream != 0 {
		s := t.streams[ref.stream]
		return s != nil && s.Pending == ref.index
	}
	e := t.leases[ref.id]
	return e != nil && e.Pending == ref.index
}

// Alive reports whether the lease exists, is not overdue and does not linger: one that is due but not yet deleted is
// dead, and one that lingers is nobody's.
func (t *Table) Alive(id ID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.alive(t.leases[id])
}

func (t *Table) alive(e *entry) bool { return e != nil && !t.overdue(e) && !statemachine.Lingers(e.ID) }

func (t *Table) overdue(e *entry) bool {
	l := e.now()
	return l.Pending == 0 && l.Deadline <= t.clock
}

// Grant adds a lease and returns it, for its row. It reports false if the ID exists, or is that of a lingering lease.
func (t *Table) Grant(id ID, ttl int64, index uint64, owner string) (Lease, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leases[id] != nil || statemachine.Lingers(id) {
		return Lease{}, false
	}
	return t.grant(id, ttl, index, owner), true
}

// GrantLingering adds a lingering lease and returns it, for its row. Its id follows from the seed; where it is taken,
// by a lease that lingers, too, it is the next one that follows and is not. Of two seeds each has ids of its own to go
// through, so who finds many seeds with the same first id makes no grant much slower; who finds many seeds that are the
// same would.
func (t *Table) GrantLingering(seed uint64, ttl int64, index uint64, owner string) Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := uint64(0); ; n++ {
		if id := lingeringID(seed, n); t.leases[id] == nil {
			return t.grant(id, ttl, index, owner)
		}
	}
}

// lingeringID is the n-th id that follows from a seed: a step of splitmix64.
func lingeringID(seed, n uint64) ID {
	x := seed + n*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return statemachine.FirstLingering + ID(x%uint64(statemachine.LingeringIDs))
}

func (t *Table) grant(id ID, ttl int64, index uint64, owner string) Lease {
	t.remember(id)
	e := &entry{Lease: Lease{ID: id, TTL: ttl, Created: index, Owner: owner}}
	t.add(e)
	t.setPending(e, index)
	return e.Lease
}

func (t *Table) add(e *entry) {
	t.leases[e.ID] = e
	t.ttls.add(e.TTL)
}

// Renew makes the lease pending again and returns its TTL, or 0 where it does not exist or is overdue.
func (t *Table) Renew(id ID, index uint64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.leases[id]
	if !t.alive(e) {
		return 0
	}
	t.remember(id)
	t.setPending(e, index)
	return e.TTL
}

func (t *Table) setPending(e *entry, index uint64) {
	if e.Pending == 0 {
		t.waiting++
	}
	if e.Pending != index {
		t.pending = append(t.pending, pendingRef{id: e.ID, index: index})
	}
	e.Pending = index
}

// Attach attaches the lease to a stream, renews it, and returns it as its row is to be stored: not what Get returns. It
// reports false where the lease does not exist or is overdue. The stream that it leaves may be gone then, see Stream.
func (t *Table) Attach(id ID, stream, index uint64) (Lease, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.leases[id]
	if !t.alive(e) {
		return Lease{}, false
	}
	t.remember(id, stream)
	if e.Stream != stream {
		t.leave(e)
		t.join(e, stream)
	}
	t.setPending(e, index)
	return e.Lease, true
}

func (t *Table) join(e *entry, id uint64) {
	s := t.streams[id]
	if s == nil {
		s = &stream{Stream: Stream{ID: id}, leases: make(map[ID]*entry), minTTL: e.TTL, bound: e.TTL, listed: true}
		t.streams[id] = s
	}
	s.leases[e.ID] = e
	s.minTTL = min(s.minTTL, e.TTL)
	if bound := s.Renewed + e.TTL; bound < s.bound {
		s.bound = bound
		t.pushBound(s)
	}
	e.Lease.Stream, e.stream = id, s
}

// leave detaches a lease. A stream without leases is forgotten.
func (t *Table) leave(e *entry) {
	s := e.stream
	if s == nil {
		return
	}
	e.Lease.Stream, e.stream = 0, nil
	delete(s.leases, e.ID)
	if len(s.leases) > 0 {
		return
	}
	delete(t.streams, s.ID)
	if s.Pending > 0 {
		t.waiting--
	}
}

// RenewStream makes the stream pending. It reports false where no lease is attached to it that could be renewed. Leases
// that are overdue leave it: they are returned for their rows, by ID, and the stream may be gone then.
func (t *Table) RenewStream(id, index uint64) (left []Lease, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.streams[id]
	if s == nil {
		return nil, false
	}
	t.rememberStream(id)
	if s.Pending == 0 && s.bound <= t.clock {
		if left = t.dismissOverdue(s); len(s.leases) == 0 {
			return left, false
		}
	}
	if s.Pending == 0 {
		t.waiting++
	}
	if s.Pending != index {
		t.pending = append(t.pending, pendingRef{stream: id, index: index})
	}
	s.Pending = index
	return left, true
}

// dismissOverdue lets the leases of a stream that are overdue leave it, with the deadline that they have there.
func (t *Table) dismissOverdue(s *stream) (left []Lease) {
	s.minTTL = 0
	for _, e := range s.leases {
		if t.overdue(e) {
			t.remember(e.ID)
			e.Deadline = e.now().Deadline
			t.leave(e)
			heap.Push(&t.due, dueEntry{deadline: e.Deadline, id: e.ID})
			left = append(left, e.Lease)
		} else if s.minTTL == 0 || e.TTL < s.minTTL {
			s.minTTL = e.TTL
		}
	}
	slices.SortFunc(left, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	return left
}

// Remove deletes the lease and reports whether it existed. Its stream may be gone then, see Stream.
func (t *Table) Remove(id ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.leases[id]
	if e == nil {
		return false
	}
	t.remember(id)
	t.leave(e)
	delete(t.leases, id)
	t.ttls.drop(e.TTL)
	if e.Pending > 0 {
		t.waiting--
	}
	return true
}

// Postpone has a lease that is overdue live ms longer from now on, unless it is renewed, and returns it for its row.
// Like Tick it is called outside of steps. It reports false where the lease does not exist.
func (t *Table) Postpone(id ID, ms int64) (Lease, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.leases[id]
	if e == nil {
		return Lease{}, false
	}
	e.Deadline = t.clock + ms // later than what its stream gives it, as that is over
	heap.Push(&t.due, dueEntry{deadline: e.Deadline, id: id})
	return e.Lease, true
}

// Tick lets delta pass, if number is the next one, and settles what the proposer had seen: every lease whose latest
// grant or renewal has a log index <= seen gets deadline = clock + TTL, and every such stream R = clock. It returns
// those, in the order they were granted or renewed. Ticks are told apart by number alone, never by clock values: a
// delta of zero would make two of them look alike.
func (t *Table) Tick(number uint64, delta int64, seen uint64) (settled Settled, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if number != t.tick+1 || delta < 0 || delta > MaxClock-t.clock {
		return Settled{}, false
	}
	t.tick = number
	t.clock += delta
	n := 0
	for n < len(t.pending) && t.pending[n].index <= seen {
		ref := t.pending[n]
		n++
		switch {
		case !t.current(ref): // gone, or renewed since
		case ref.stream != 0:
			settled.Streams = append(settled.Streams, t.settleStream(t.streams[ref.stream]))
		default:
			settled.Leases = append(settled.Leases, t.settle(t.leases[ref.id]))
		}
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

func (t *Table) settle(e *entry) Lease {
	t.waiting--
	e.Pending, e.Deadline = 0, t.clock+e.TTL // not before what its stream gives it: R <= clock
	heap.Push(&t.due, dueEntry{deadline: e.Deadline, id: e.ID})
	return e.Lease
}

func (t *Table) settleStream(s *stream) Stream {
	t.waiting--
	s.Pending, s.Renewed = 0, t.clock
	s.bound, s.listed = t.clock+s.minTTL, false
	t.pushBound(s)
	return s.Stream
}

// pushBound has the heap remind of a stream whose leases are not in it one by one.
func (t *Table) pushBound(s *stream) {
	if !s.listed {
		heap.Push(&t.due, dueEntry{deadline: s.bound, stream: s.ID})
	}
}

// spareDue is how many entries the heap may have beside two for each lease.
const spareDue = 1000

// sortDue makes the heap anew, of current deadlines only.
func (t *Table) sortDue() {
	t.due = make(dueHeap, 0, len(t.leases))
	for _, e := range t.leases {
		if l := e.now(); l.Pending == 0 {
			t.due = append(t.due, dueEntry{deadline: l.Deadline, id: l.ID})
		}
	}
	for _, s := range t.streams {
		s.listed = true
	}
	heap.Init(&t.due)
}

// Due returns up to limit leases that are overdue, earliest deadline first, ties by ID. They stay in the table. A lease
// that was settled twice at one deadline is in the heap twice and counts once: how many a tick deletes must not depend
// on whether the table was loaded from its rows since.
func (t *Table) Due(limit int) []ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []ID
	var taken []dueEntry
	for len(ids) < limit {
		e, ok := t.peek()
		if !ok {
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

// peek returns the lease that is overdue for the longest time, if any is. It drops entries that do not count any more,
// and lists the leases of streams whose bound has passed.
func (t *Table) peek() (dueEntry, bool) {
	for len(t.due) > 0 {
		e := t.due[0]
		current := t.counts(e)
		if current && e.deadline > t.clock {
			break
		}
		if current && e.stream == 0 {
			return e, true
		}
		heap.Pop(&t.due)
		if current {
			t.list(t.streams[e.stream])
		}
	}
	return dueEntry{}, false
}

// counts reports whether an entry of the heap says what is so.
func (t *Table) counts(d dueEntry) bool {
	if d.stream != 0 {
		s := t.streams[d.stream]
		return s != nil && s.Pending == 0 && !s.listed && s.bound == d.deadline
	}
	e := t.leases[d.id]
	if e == nil {
		return false
	}
	l := e.now()
	return l.Pending == 0 && l.Deadline == d.deadline
}

// list adds entries for the leases of a stream.
func (t *Table) list(s *stream) {
	s.listed = true
	for _, e := range s.leases {
		if l := e.now(); l.Pending == 0 { // what is pending itself gets its entry when that is settled
			heap.Push(&t.due, dueEntry{deadline: l.Deadline, id: l.ID})
		}
	}
}

// dueEntry is a lease and its deadline, or a stream and its bound. It counts only while that is what the lease or
// stream has. Every lease that is not pending has an entry, or its stream has, which is not later.
type dueEntry struct {
	deadline int64
	id       ID
	stream   uint64 // not 0: of a stream
}

type dueHeap []dueEntry

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	switch {
	case a.deadline != b.deadline:
		return a.deadline < b.deadline
	case (a.stream != 0) != (b.stream != 0):
		return a.stream != 0 // its leases of the same deadline must get in line by their ids
	}
	return a.id < b.id
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
	return append(appendUvarints(uint64(l.TTL), uint64(l.Deadline), l.Pending, l.Created, l.Stream), l.Owner...)
}

// EncodeStream returns the value of a stream's row.
func EncodeStream(s Stream) []byte { return appendUvarints(uint64(s.Renewed), s.Pending) }

func appendUvarints(values ...uint64) []byte {
	var dst []byte
	for _, v := range values {
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

// Loader builds a table from its rows. Lease rows come first, then streams and renewals, each in key order, then Done.
type Loader struct{ t *Table }

// NewLoader starts a table whose clock stands at clock since the tick of the given number. See NewTable for log.
func NewLoader(clock int64, tick uint64, log *undo.Log) *Loader {
	t := NewTable(log)
	t.clock, t.tick = clock, tick
	return &Loader{t}
}

// Lease adds the row of lease id.
func (l *Loader) Lease(id ID, value []byte) error {
	var v [5]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(value); n <= 0 {
			return fmt.Errorf("%w: lease %d", ErrCorrupt, id)
		}
		value = value[n:]
	}
	e := &entry{Lease: Lease{ID: id, TTL: int64(v[0]), Deadline: int64(v[1]), Created: v[3], Owner: string(value)}}
	l.t.add(e)
	if v[4] != 0 {
		l.t.join(e, v[4])
	}
	if v[2] > 0 {
		l.t.setPending(e, v[2])
	}
	return nil
}

// Stream adds the row of a stream, which has leases.
func (l *Loader) Stream(id uint64, value []byte) error {
	v, err := uvarints(value)
	s := l.t.streams[id]
	if err != nil || len(v) != 2 || s == nil {
		return fmt.Errorf("%w: stream %d", ErrCorrupt, id)
	}
	s.Renewed, s.Pending = int64(v[0]), v[1]
	s.bound = s.Renewed + s.minTTL
	if s.Pending > 0 {
		l.t.waiting++
		l.t.pending = append(l.t.pending, pendingRef{stream: id, index: s.Pending})
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
		if e := l.t.leases[ID(id)]; e != nil && e.Created <= index && e.Pending < index {
			l.t.setPending(e, index)
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
