package recipes

import (
	"iter"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

// Rule says who of a queue holds. It is a pure function of the keys at one revision.
type Rule interface {
	// Record is the key that the rule reads beside the entries, "" if it reads none.
	Record(queue string) string
	// Inside yields the entries that hold, oldest first and each with the token of its grant, and among them the places that
	// are kept for holders that died, and foreign keys by which somebody may hold.
	Inside(State) iter.Seq[Entry]
	// Holds says whether the entry holds by this token, as Inside would. It reads as little as it can.
	Holds(r Reader, queue string, e Entry, token int64) bool
	// Ahead is the number of entries that are before e, which need not be there.
	Ahead(s State, e Entry) int
	// Door finds out who is inside, for who follows a queue: nil if that is not decided by the order of the entries.
	Door(record *mvccpb.KeyValue) Door
}

// Door lets the entries of a queue in, oldest first, until one is not admitted: nobody overtakes. Who is inside stays there,
// whoever comes and goes. A place that lingers is let in like any other, and takes up what its owner had.
type Door interface {
	// Admits says whether e can go in beside those that were added.
	Admits(e Entry) bool
	// Add has e inside, admitted or not: who is not admitted beside all before it is not inside.
	Add(e Entry)
	// Remove takes away what was added.
	Remove(e Entry)
}

// State is a queue at one revision.
type State interface {
	// Record is the rule's record, nil if there is none.
	Record() *mvccpb.KeyValue
	Entry(key string) (Entry, bool)
	// Len is the number of entries.
	Len() int
	// Oldest yields all entries, oldest first; Newest, newest first.
	Oldest() iter.Seq[Entry]
	Newest() iter.Seq[Entry]
}

// inOrder is a rule by which the entries that a door admits hold. Their tokens are their create revisions.
type inOrder struct {
	record string // the end of the record's key, "" if there is none
	door   func(record *mvccpb.KeyValue) Door
}

func (o inOrder) Record(queue string) string {
	if o.record == "" {
		return ""
	}
	return queue + o.record
}

func (o inOrder) Door(record *mvccpb.KeyValue) Door { return o.door(record) }

func (o inOrder) Inside(s State) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		door := o.door(s.Record())
		for e := range s.Oldest() {
			if !door.Admits(e) || !yield(e) {
				return
			}
			door.Add(e)
		}
	}
}

func (o inOrder) Holds(r Reader, queue string, e Entry, token int64) bool {
	if e.Lingers || e.Token != token {
		return false
	}
	return admitted(o.door(o.recordOf(r, queue)), e, func(fn func(Entry) bool) { eachEntry(r, queue, fn) })
}

// recordOf is the queue's record, nil if there is none.
func (o inOrder) recordOf(r Reader, queue string) *mvccpb.KeyValue {
	if o.record == "" {
		return nil
	}
	return get(r, o.Record(queue))
}

// admitted says whether e is admitted when all before it are inside; they come oldest first. Where it is not, that is found
// as soon as those who came leave no room.
func admitted(door Door, e Entry, each func(fn func(Entry) bool)) bool {
	ok := door.Admits(e)
	if ok {
		each(func(o Entry) bool {
			if o.Compare(e) >= 0 {
				return false
			}
			door.Add(o)
			ok = door.Admits(e)
			return ok
		})
	}
	return ok
}

func (inOrder) Ahead(s State, e Entry) int { return olderThan(s, e) }

// olderThan is the number of entries that came before e. It looks at who is behind: who asks has mostly just come.
func olderThan(s State, e Entry) int {
	ahead := s.Len()
	for o := range s.Newest() {
		if o.Compare(e) < 0 {
			break
		}
		ahead--
	}
	return ahead
}

// byRecord: the entry that the record names is inside; its token is the record's mod revision.
type byRecord struct{}

func (byRecord) Record(queue string) string { return LeaderKey(queue) }

func (byRecord) Door(*mvccpb.KeyValue) Door { return nil }

func (byRecord) Inside(s State) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if seat := seatFrom(s.Record(), s.Entry); seat.taken() {
			seat.entry.Token = seat.term
			yield(seat.entry)
		}
	}
}

func (byRecord) Holds(r Reader, queue string, e Entry, token int64) bool {
	s := seatOf(r, queue)
	return s.entry.Key == e.Key && s.term == token && !s.entry.Lingers
}

func (byRecord) Ahead(s State, e Entry) (ahead int) {
	leader := seatFrom(s.Record(), s.Entry).entry.Key
	for o := range s.Oldest() {
		if o.Key != e.Key && (o.Key == leader || !o.Lingers && o.precedes(e)) {
			ahead++
		}
	}
	return ahead
}

// Transferred is what the note of a queue's last transfer says; nil is the note of none.
type Transferred struct{ *recipesv1.Transfer }

// ParseTransfer reads the note that kv is.
func ParseTransfer(kv *mvccpb.KeyValue) Transferred {
	t := &recipesv1.Transfer{}
	if kv == nil || proto.Unmarshal(kv.Value, t) != nil {
		return Transferred{}
	}
	return Transferred{t}
}

// movedKey is what the note says of one key; nil is nothing.
type movedKey []*recipesv1.Moved

// byKey returns what the note says of each key.
func (t Transferred) byKey() map[string]movedKey {
	keys := make(map[string]movedKey, len(t.GetMoved()))
	for _, m := range t.GetMoved() {
		keys[m.Key] = append(keys[m.Key], m)
	}
	return keys
}

// former returns the tokens that the entry with this token had before it was moved.
func (k movedKey) former(token int64) []int64 {
	for _, m := range k {
		if m.Token == token {
			return m.Former
		}
	}
	return nil
}

// Moved returns the token that the entry has since it was moved, if it had the given one before.
func (t Transferred) Moved(key string, token int64) (now int64, ok bool) {
	for _, m := range t.GetMoved() {
		if m.Key == key && slices.Contains(m.Former, token) {
			return m.Token, true
		}
	}
	return 0, false
}
