package recipes

import (
	"iter"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
)

// Rule says who of a queue holds. It is a pure function of the keys at one revision.
type Rule interface {
	// Record is the key that the rule reads beside the entries, "" if it reads none.
	Record(queue string) string
	// Inside yields the entries that hold, oldest first and each with the token of its grant, and among them the places
	// that are kept for holders that died, and foreign keys by which somebody may hold.
	Inside(State) iter.Seq[Entry]
	// Holds says whether the entry holds by this token, as Inside would. It reads as little as it can.
	Holds(r Reader, queue string, e Entry, token int64) bool
	// Ahead is the number of entries that are before e, which need not be there.
	Ahead(s State, e Entry) int
	// Last is the token up to which entries are inside, 0 if none are. ok is false where the record does not say it so.
	Last(record *mvccpb.KeyValue) (token int64, ok bool)
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

// inOrder is a rule by which the oldest entries hold, up to the token that the record names, a lingering place like any
// other: nobody overtakes, and who is inside stays there. Their tokens are their create revisions. Only what writes the
// record lets somebody in. So all agree, the checks of a grant, who waits and who looks on: where the record could not
// be written the queue is broken, who held before holds, and nobody else does until it is written.
type inOrder struct {
	record layout.Part
	last   func(record *mvccpb.KeyValue) int64
}

func (o inOrder) Record(queue string) string { return layout.RecordKey(queue, o.record) }

func (o inOrder) Last(record *mvccpb.KeyValue) (int64, bool) { return o.last(record), true }

func (o inOrder) Inside(s State) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		last := o.last(s.Record())
		for e := range s.Oldest() {
			if e.Token > last || !yield(e) {
				return
			}
		}
	}
}

// Holds looks at no other entry.
func (o inOrder) Holds(r Reader, queue string, e Entry, token int64) bool {
	return !e.Lingers && e.Token == token && token <= o.last(get(r, o.Record(queue)))
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

func (byRecord) Record(queue string) string { return layout.RecordKey(queue, layout.Leader) }

func (byRecord) Last(*mvccpb.KeyValue) (int64, bool) { return 0, false }

func (byRecord) Inside(s State) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if l := leaderFrom(s.Record(), s.Entry); l.elected() {
			l.entry.Token = l.term
			yield(l.entry)
		}
	}
}

func (byRecord) Holds(r Reader, queue string, e Entry, token int64) bool {
	s := leaderOf(r, queue)
	return s.entry.Key == e.Key && s.term == token && !s.entry.Lingers
}

func (byRecord) Ahead(s State, e Entry) (ahead int) {
	leader := leaderFrom(s.Record(), s.Entry).entry.Key
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

// previous returns the tokens that the entry with this token had before it was moved.
func (k movedKey) previous(token int64) []int64 {
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
