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
	// Holders yields the entries that hold, each with the token of its grant.
	Holders(State) iter.Seq[Entry]
	// Ahead is the number of entries that are before e, which need not be there.
	Ahead(s State, e Entry) int
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

// RuleOf is the rule of a queue.
func RuleOf(queue string) Rule {
	if ByPriority(queue) {
		return byRecord{}
	}
	return byAge{}
}

// byAge: the oldest entry holds, unless it lingers; its token is its create revision.
type byAge struct{}

func (byAge) Record(string) string { return "" }

func (byAge) Holders(s State) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for e := range s.Oldest() {
			if !e.Lingers {
				yield(e)
			}
			return
		}
	}
}

// Ahead looks at who is behind: who asks has mostly just come.
func (byAge) Ahead(s State, e Entry) int {
	ahead := s.Len()
	for o := range s.Newest() {
		if o.Compare(e) < 0 {
			break
		}
		ahead--
	}
	return ahead
}

// byRecord: the entry that the record names holds, unless it lingers; its token is the record's mod revision.
type byRecord struct{}

func (byRecord) Record(queue string) string { return LeaderKey(queue) }

func (byRecord) Holders(s State) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		if seat := seatFrom(s.Record(), s.Entry); seat.taken() && !seat.entry.Lingers {
			seat.entry.Token = seat.term
			yield(seat.entry)
		}
	}
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

// former returns the tokens that the entry with this token had before it was moved.
func (t Transferred) former(key string, token int64) []int64 {
	for _, m := range t.GetMoved() {
		if m.Key == key && m.Token == token {
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
