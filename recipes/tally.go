package recipes

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/statemachine"
)

// A tally is kept beside the entries of a queue in which several hold, so that an acquire needs not read all who hold: the row of
// a busy queue is full of what was deleted there a moment ago, and to pass over it costs more than all the rest. It is written
// with each entry that is made, and by a reaction to the deletion of entries, whatever deleted them.

// counted is a rule by order whose queues have tallies.
type counted struct {
	inOrder
	// fit says whether all entries that were counted hold.
	fit func(t *recipesv1.Tally, record *mvccpb.KeyValue) bool
}

func tallyKey(queue string) []byte { return []byte(queue + "/tally") } // not hex, so no entry's

func parseTally(kv *mvccpb.KeyValue) *recipesv1.Tally {
	t := &recipesv1.Tally{}
	if kv == nil || proto.Unmarshal(kv.Value, t) != nil {
		return &recipesv1.Tally{}
	}
	return t
}

// count adds n entries like e.
func count(t *recipesv1.Tally, e Entry, n int64) {
	t.Entries += n
	t.Permits += n * e.Permits
	if e.Write {
		t.Writers += n
	}
}

func putTally(step statemachine.Step, queue string, t *recipesv1.Tally) error {
	_, err := step.Put(tallyKey(queue), encode(t), 0)
	return err
}

// Holds looks at other entries only where some have to wait.
func (c counted) Holds(r Reader, queue string, e Entry, token int64) bool {
	if e.Lingers || e.Token != token {
		return false
	}
	t := parseTally(get(r, string(tallyKey(queue))))
	if t.Entries > 0 && c.fit(t, c.recordOf(r, queue)) {
		return true
	}
	return c.inOrder.Holds(r, queue, e, token)
}

// left takes entries off the tally.
func (c counted) left(step statemachine.Step, queue string, were []*mvccpb.KeyValue) error {
	entries, err := countLeft(step, queue, were)
	if err != nil || entries == 0 {
		return err
	}
	return keepRecord(step, c.Record(queue), were)
}

// keepRecord puts a record again that was deleted by hand from a queue with entries: who holds by it shall not cease to, and who
// waits shall not do so for ever.
func keepRecord(step statemachine.Step, record string, were []*mvccpb.KeyValue) error {
	i := slices.IndexFunc(were, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == record })
	if i < 0 || step.Get([]byte(record)) != nil {
		return nil
	}
	return further(step, func() error {
		_, err := step.Put([]byte(record), were[i].Value, 0)
		return err
	})
}

// countLeft is left, and returns how many entries there are still.
func countLeft(step statemachine.Step, queue string, were []*mvccpb.KeyValue) (entries int64, err error) {
	t, gone, byHand := parseTally(step.Get(tallyKey(queue))), false, step.Broken(queue)
	for _, kv := range were {
		e, ok := ParseEntry(queue, kv)
		if ok && step.Get(kv.Key) == nil {
			count(t, e, -1)
			gone = true
		}
		// The count itself, or what stood where an entry was that is counted still.
		_, _, place := ParseKey(queue, string(kv.Key))
		byHand = byHand || place && !ok || bytes.Equal(kv.Key, tallyKey(queue))
	}
	if byHand {
		t, gone = &recipesv1.Tally{}, true
		eachEntry(step, queue, func(e Entry) bool {
			count(t, e, 1)
			return true
		})
	}
	switch {
	case !gone:
	case t.Entries <= 0:
		_, err = deleteKey(step, tallyKey(queue))
	default:
		err = further(step, func() error { return putTally(step, queue, t) })
	}
	return max(t.Entries, 0), err
}
