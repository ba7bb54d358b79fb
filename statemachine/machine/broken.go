package machine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// maxBrokenText bounds what is kept of an error.
const maxBrokenText = 512

// broken are the broken queues, by name. The slice is replaced, never changed in place.
type broken []statemachine.BrokenQueue

func (q broken) find(queue string) (at int, found bool) {
	return slices.BinarySearchFunc(q, queue, func(one statemachine.BrokenQueue, queue string) int {
		return cmp.Compare(one.Queue, queue)
	})
}

func (q broken) has(queue string) bool {
	if len(q) == 0 {
		return false
	}
	_, found := q.find(queue)
	return found
}

func brokenKey(queue string) []byte { return append([]byte{mvcc.SpaceBroken}, queue...) }

// breakQueue notes that a reaction failed. The first failure is the one to know of.
func (b *batch) breakQueue(queue string, err error) {
	at, found := b.m.broken.find(queue)
	if found {
		return
	}
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ") // as newRefusal does
	one := statemachine.BrokenQueue{
		Queue: queue, Index: b.index, Revision: b.kv.Revision(), Err: text[:min(len(text), maxBrokenText)],
	}
	value := binary.AppendUvarint(binary.AppendUvarint(nil, one.Index), uint64(one.Revision))
	b.kv.Rows().Set(brokenKey(queue), append(value, one.Err...))
	b.m.broken = slices.Insert(slices.Clone(b.m.broken), at, one)
}

func (b *batch) mendQueue(queue string) {
	if at, found := b.m.broken.find(queue); found {
		b.kv.Rows().Delete(brokenKey(queue))
		b.m.broken = slices.Delete(slices.Clone(b.m.broken), at, at+1)
	}
}

// load adds a row. Rows come in order.
func (q *broken) load(key, value []byte) error {
	index, n := binary.Uvarint(value)
	if n <= 0 {
		return fmt.Errorf("%w: broken queue %q", mvcc.ErrCorrupt, key[1:])
	}
	revision, k := binary.Uvarint(value[n:])
	if k <= 0 {
		return fmt.Errorf("%w: broken queue %q", mvcc.ErrCorrupt, key[1:])
	}
	*q = append(*q, statemachine.BrokenQueue{
		Queue: string(key[1:]), Index: index, Revision: statemachine.Revision(revision), Err: string(value[n+k:]),
	})
	return nil
}

// BrokenQueues are the queues that a reaction failed for, by name. Shared: do not change them.
func (v *View) BrokenQueues() []statemachine.BrokenQueue { return v.broken }

// QueueBroken reports whether a queue is broken in the latest published state.
func (m *Machine) QueueBroken(queue string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.state != nil && m.mu.state.broken.has(queue)
}

// deletions are what was deleted of one queue.
type deletions struct {
	queue string
	were  []*mvccpb.KeyValue
}

// react lets the reactor answer, queue by queue, to the keys with its prefix that were deleted since it was asked last.
// What it cannot do refuses the step, unless that frees something: then it is undone for that queue alone, which is
// broken. So it is in a tick that the operator refused, without asking the reactor: would the tick do nothing, the next
// one would end at the same lease.
func (b *batch) react() error {
	r := b.m.opts.Reactor
	if r == nil {
		return nil
	}
	gone := b.deleted(r)
	if len(gone) == 0 {
		b.reacted = len(b.applied.Events)
		return nil
	}
	s := &step{batch: b, reaction: true, written: b.written()}
	for _, d := range gone {
		err := b.attempt(func() error {
			if b.refuses() {
				return statemachine.ErrRefusedByOperator
			}
			if b.at.lease != 0 {
				b.at.reaction = d.queue
			}
			return r.Deleted(s, d.queue, d.were)
		})
		b.at.reaction = ""
		switch {
		case err == nil:
			b.mendQueue(d.queue)
			continue
		case !b.frees:
			return statemachine.NewQueueBroken(d.queue, err)
		}
		b.breakQueue(d.queue, err)
		s.written = b.written()
	}
	b.reacted = len(b.applied.Events) // not what the reactions add
	return nil
}

// deleted gathers by queue, in the order of the first deletion of each, the keys that the reactor is to hear of, each
// once.
func (b *batch) deleted(r statemachine.Reactor) (gone []deletions) {
	var told keySet
	var at map[string]int // where a queue is in gone; nil as long as there is but one
	for _, e := range b.applied.Events[b.reacted:] {
		// A sweep has no key with the prefix, and no PrevKv.
		if e.Type != mvccpb.Event_DELETE || e.PrevKv == nil || !bytes.HasPrefix(e.Kv.Key, r.Prefix()) ||
			!told.add(e.Kv.Key) {
			continue
		}
		queue := r.QueueOf(e.Kv.Key)
		if len(gone) == 1 && gone[0].queue != queue && at == nil {
			at = map[string]int{gone[0].queue: 0}
		}
		i, ok := at[queue] // 0 for the one
		if !ok && (at != nil || len(gone) == 0) {
			i, gone = len(gone), append(gone, deletions{queue: queue})
			if at != nil {
				at[queue] = i
			}
		}
		gone[i].were = append(gone[i].were, e.PrevKv)
	}
	return gone
}

// written are the keys written at the current revision.
func (b *batch) written() (keys keySet) {
	if b.kv.Changed() == 0 {
		return keys
	}
	for _, e := range slices.Backward(b.applied.Events) {
		switch {
		case e.Kv.ModRevision != b.kv.Revision():
			return keys
		case e.Sweep != nil:
			keys.sweeps = append(keys.sweeps, e.Sweep)
		default:
			keys.add(e.Kv.Key)
		}
	}
	return keys
}
