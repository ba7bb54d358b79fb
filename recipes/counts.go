package recipes

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// The counts of a queue in which several hold are a record beside its entries (recipesv1.Tally, at the key "tally"), so
// that an acquire needs not read all who hold: the row of a busy queue is full of what was deleted there a moment ago,
// and to pass over it costs more than all the rest. They are written with each entry that is made, and by a reaction to
// the deletion of entries, whatever deleted them.

// They also say who of them holds: nobody overtakes and who is inside stays there, so these are the oldest, up to a
// token. Only who is let in behind them is ever looked for, once. So it costs the same to check a grant, to let go and
// to count who holds, however many hold and wait.

// counted is a rule by order whose record are counts.
type counted struct {
	inOrder
	limit layout.Part // the record that says how many may hold, "" if there is none
	// room is what is left beside those that hold.
	room func(t *recipesv1.Tally, limit *mvccpb.KeyValue) room
}

// room lets entries in, oldest first, until one is not admitted. A place that lingers is let in like any other, and
// takes up what its owner had.
type room interface {
	// admits says whether e can go in beside those that were added.
	admits(e Entry) bool
	add(e Entry)
}

var byCounts = inOrder{layout.Counts, func(record *mvccpb.KeyValue) int64 { return parseCounts(record).Last }}

func countsKey(queue string) []byte { return []byte(layout.RecordKey(queue, layout.Counts)) }

// limitKey is the key of what says how many may hold, "" if there is none.
func (c counted) limitKey(queue string) string {
	if c.limit == "" {
		return ""
	}
	return layout.RecordKey(queue, c.limit)
}

// parseCounts reads the counts of a queue. What is none says nothing of anybody: nobody is inside.
func parseCounts(kv *mvccpb.KeyValue) *recipesv1.Tally {
	t, ok := readCounts(kv)
	if !ok {
		return &recipesv1.Tally{}
	}
	return t
}

// readCounts reports false for what is no record of counts.
func readCounts(kv *mvccpb.KeyValue) (t *recipesv1.Tally, ok bool) {
	t = &recipesv1.Tally{}
	return t, kv == nil || proto.Unmarshal(kv.Value, t) == nil
}

// countsOf reads the counts of a queue for who is about to change them. Where what stands there is none, as only a
// fault can have left it, who is there is counted anew first: else whoever comes would be let in beside those who hold.
func countsOf(step statemachine.Step, queue string) (*recipesv1.Tally, error) {
	key := countsKey(queue)
	if t, ok := readCounts(step.Get(key)); ok {
		return t, nil
	}
	if err := (reactor{}).Deleted(step, queue, nil); err != nil {
		return nil, statemachine.NewQueueBroken(queue, err)
	}
	step.NextRevision() // it is likely to be written again
	return parseCounts(step.Get(key)), nil
}

// count adds n entries like e.
func count(t *recipesv1.Tally, e Entry, n int64) {
	t.Entries += n
	t.Permits += n * e.Permits
	if e.Write {
		t.Writers += n
	}
	t.Most = max(t.Most, e.Permits)
}

func putCounts(step statemachine.Step, queue string, t *recipesv1.Tally) error {
	_, err := step.Put(countsKey(queue), encode(t), 0)
	return err
}

// countInside adds n entries like e to those that hold.
func countInside(t *recipesv1.Tally, e Entry, n int64) {
	t.Inside += n
	t.InsidePermits += n * e.Permits
	if e.Write {
		t.InsideWriters += n
	}
}

// admits says whether the next entry holds at once.
func (c counted) admits(t *recipesv1.Tally, limit *mvccpb.KeyValue, e Entry) bool {
	return t.Inside == t.Entries && c.room(t, limit).admits(e)
}

// letIn lets those in for whom there is room.
func (c counted) letIn(step statemachine.Step, queue string, t *recipesv1.Tally, limit *mvccpb.KeyValue) {
	if t.Inside >= t.Entries {
		return
	}
	left := c.room(t, limit)
	step.ChildrenFrom([]byte(queue), t.Last+1, func(kv *mvccpb.KeyValue) bool {
		e, ok := ParseEntry(queue, kv)
		if !ok {
			return true // a record
		}
		if !left.admits(e) {
			return false
		}
		left.add(e)
		countInside(t, e, 1)
		t.Last = e.Token
		return t.Inside < t.Entries
	})
}

// left takes entries off the counts.
func (c counted) left(step statemachine.Step, queue string, were []*mvccpb.KeyValue) error {
	var limit *mvccpb.KeyValue
	key := c.limitKey(queue)
	if key != "" {
		limit = step.Get([]byte(key))
		if i := deletedRecord(step, key, were); i >= 0 {
			limit = were[i]
		}
	}
	entries, err := countLeft(step, queue, were, func(t *recipesv1.Tally) { c.letIn(step, queue, t, limit) })
	if err != nil || entries == 0 || key == "" {
		return err
	}
	return keepRecord(step, key, were)
}

// deletedRecord is the index of a record among what was deleted; -1 if it was not, or is there.
func deletedRecord(step statemachine.Step, record string, were []*mvccpb.KeyValue) int {
	i := slices.IndexFunc(were, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == record })
	if i >= 0 && step.Get([]byte(record)) != nil {
		return -1
	}
	return i
}

// keepRecord puts a record again that was deleted by hand from a queue with entries: who holds by it shall not cease
// to, and who waits shall not do so for ever.
func keepRecord(step statemachine.Step, record string, were []*mvccpb.KeyValue) error {
	i := deletedRecord(step, record, were)
	if i < 0 {
		return nil
	}
	return further(step, func() error {
		_, err := step.Put([]byte(record), were[i].Value, 0)
		return err
	})
}

// countLeft is left, and returns how many entries there are still. letIn lets those in who may be now.
func countLeft(
	step statemachine.Step, queue string, were []*mvccpb.KeyValue, letIn func(*recipesv1.Tally),
) (entries int64, err error) {
	t, ok := readCounts(step.Get(countsKey(queue)))
	gone, byHand := false, !ok || step.Broken(queue)
	for _, kv := range were {
		e, ok := ParseEntry(queue, kv)
		if ok && step.Get(kv.Key) == nil {
			count(t, e, -1)
			if e.Token <= t.Last {
				countInside(t, e, -1)
			}
			gone = true
		}
		// What is no count, the count itself, or what stood where an entry was that is counted still.
		_, _, isEntry := layout.ParseEntryKey(queue, string(kv.Key))
		byHand = byHand || isEntry && !ok || bytes.Equal(kv.Key, countsKey(queue))
	}
	if byHand {
		t, gone = &recipesv1.Tally{}, true
		eachEntry(step, queue, func(e Entry) bool {
			count(t, e, 1)
			return true
		})
	}
	if gone {
		letIn(t)
	}
	switch {
	case !gone:
	case t.Entries <= 0:
		_, err = deleteKey(step, countsKey(queue))
	default:
		err = further(step, func() error { return putCounts(step, queue, t) })
	}
	return max(t.Entries, 0), err
}
