package recipes

import (
	"iter"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
)

// Snapshot is a queue as it was read at one revision. It implements State. Not safe for concurrent use.
type Snapshot struct {
	Queue    string
	Sorted   []Entry     // all entries, oldest first
	Transfer Transferred // the last one
	record   *mvccpb.KeyValue
	limit    *mvccpb.KeyValue // of a semaphore
	// Made when needed.
	index  map[string]int   // in Sorted
	grants map[string]Entry // who is inside
}

// Read reads a queue.
func Read(r Reader, queue string) *Snapshot {
	s := &Snapshot{Queue: queue, Sorted: Queue(r, queue), Transfer: ParseTransfer(get(r, layout.TransferKey(queue)))}
	rule := RuleOf(queue)
	if key := rule.Record(queue); key != "" {
		s.record = get(r, key)
	}
	if c, ok := rule.(counted); ok && c.limit != "" {
		s.limit = get(r, c.limitKey(queue))
	}
	return s
}

func get(r Reader, key string) *mvccpb.KeyValue { return r.Get([]byte(key)) }

// Record implements State.
func (s *Snapshot) Record() *mvccpb.KeyValue { return s.record }

// Entry implements State.
func (s *Snapshot) Entry(key string) (Entry, bool) {
	if s.index == nil {
		s.index = make(map[string]int, len(s.Sorted))
		for i, e := range s.Sorted {
			s.index[e.Key] = i
		}
	}
	i, ok := s.index[key]
	if !ok {
		return Entry{}, false
	}
	return s.Sorted[i], true
}

// Len implements State.
func (s *Snapshot) Len() int { return len(s.Sorted) }

// Oldest implements State.
func (s *Snapshot) Oldest() iter.Seq[Entry] { return slices.Values(s.Sorted) }

// Newest implements State.
func (s *Snapshot) Newest() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, e := range slices.Backward(s.Sorted) {
			if !yield(e) {
				return
			}
		}
	}
}

// Inside are those that hold, oldest first and each with the token of its grant, and among them the places that are
// kept for holders that died.
func (s *Snapshot) Inside() iter.Seq[Entry] { return RuleOf(s.Queue).Inside(s) }

// Holders are those that hold, oldest first, each with the token of its grant; foreign keys, by which somebody may
// hold, too.
func (s *Snapshot) Holders() (holders []Entry) {
	for e := range s.Inside() {
		if !e.Lingers {
			holders = append(holders, e)
		}
	}
	return holders
}

// Holder is the oldest who holds, with the token of the grant; ok is false if nobody does.
func (s *Snapshot) Holder() (e Entry, ok bool) {
	for e := range s.Inside() {
		if !e.Lingers {
			return e, true
		}
	}
	return Entry{}, false
}

func (s *Snapshot) isInside(key string) bool {
	if s.grants == nil {
		s.grants = map[string]Entry{}
		for e := range s.Inside() {
			s.grants[e.Key] = e
		}
	}
	_, ok := s.grants[key]
	return ok
}

// Granted is the entry of a key with the token of its grant; ok is false if it does not hold, or a foreign key does.
func (s *Snapshot) Granted(key string) (e Entry, ok bool) {
	s.isInside(key)
	e, ok = s.grants[key]
	return e, ok && !e.Lingers && !e.Foreign
}

// Waiting returns who waits, in the order in which they are granted. Lingering places are not among them.
func (s *Snapshot) Waiting() []Entry {
	var waiting []Entry
	for _, e := range s.Sorted {
		if !s.isInside(e.Key) && !e.Lingers {
			waiting = append(waiting, e)
		}
	}
	if ByPriority(s.Queue) {
		slices.SortFunc(waiting, func(a, b Entry) int {
			if a.precedes(b) {
				return -1
			}
			return 1
		})
	}
	return waiting
}

// Lingering returns the oldest place that is kept for a holder that died; ok is false if none is.
func (s *Snapshot) Lingering() (e Entry, ok bool) {
	for e := range s.Inside() {
		if e.Lingers {
			e, _ := s.Entry(e.Key)
			return e, true
		}
	}
	return Entry{}, false
}

// Find says what has become of an entry that somebody knows by a token it has or had before it was moved.
func (s *Snapshot) Find(key string, token int64) *coordv1.AcquiredEntry {
	a := &coordv1.AcquiredEntry{Name: layout.NameOf(s.Queue), Key: key}
	if now, ok := s.Transfer.Moved(key, token); ok {
		token = now
	}
	e, ok := s.Entry(key)
	if !ok || e.Lingers || e.Foreign {
		return a
	}
	grant, held := s.Granted(key)
	switch {
	case held && (token == grant.Token || token == e.Token):
		a.Token, a.State = grant.Token, coordv1.AcquiredEntry_HOLDS
	case token == e.Token:
		a.Token, a.State = token, coordv1.AcquiredEntry_WAITS
		if holder, ok := s.Holder(); ok {
			a.Holder = holder.Proto()
		}
		a.Position = int64(RuleOf(s.Queue).Ahead(s, e))
	}
	return a
}
