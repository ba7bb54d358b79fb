package machine

import (
	"encoding/binary"
	"fmt"
	"slices"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// executed remembers which entries ran, so that a member may propose the same entry again until it knows the result and
// it still runs once. For each member it keeps the start whose entries it takes, the number up to which the proposer
// waits no more, and the executed numbers above. A copy of an entry that arrives after its proposer gave it up is
// refused: it could not be told from one that ran. So is one of another start than the member's current one: of two
// starts with the same boot, of which one runs from a copy of the other's data directory, the one that is first in the
// log counts, and a higher boot ends a lower one for good.
//
// Row: uvarint boot | uvarint start | uvarint settled | uvarint number … (ascending)
type executed map[uint64]*origin

type origin struct {
	boot, start, settled uint64
	done                 []uint64 // ascending, all > settled
}

// admission is what becomes of an entry.
type admission int

const (
	admitted  admission = iota // it is to run now
	duplicate                  // it ran before, or its proposer has given it up
	displaced                  // another start of its proposer counts
)

// admit says whether the entry is to run now, and if so notes that it did.
func (x executed) admit(e *raftv1.Entry) admission {
	o := x[e.Member]
	switch {
	case o == nil:
		o = &origin{boot: e.Boot, start: e.Start}
		x[e.Member] = o
	case e.Boot < o.boot, e.Boot == o.boot && e.Start != o.start:
		return displaced
	case e.Boot > o.boot:
		*o = origin{boot: e.Boot, start: e.Start}
	}
	at, ran := slices.BinarySearch(o.done, e.Number)
	if ran || e.Number <= o.settled {
		return duplicate
	}
	o.done = slices.Insert(o.done, at, e.Number)
	o.settle(e.Settled)
	return admitted
}

func (o *origin) settle(settled uint64) {
	if settled <= o.settled {
		return
	}
	o.settled = settled
	n := 0
	for n < len(o.done) && o.done[n] <= settled {
		n++
	}
	o.done = slices.Delete(o.done, 0, n)
}

// row is the stored form of a member's origin.
func (x executed) row(member uint64) []byte {
	o := x[member]
	dst := binary.AppendUvarint(make([]byte, 0, 48), o.boot)
	dst = binary.AppendUvarint(dst, o.start)
	dst = binary.AppendUvarint(dst, o.settled)
	for _, n := range o.done {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
}

// load adds a stored row.
func (x executed) load(member uint64, value []byte) error {
	var numbers []uint64
	for len(value) > 0 {
		v, n := binary.Uvarint(value)
		if n <= 0 {
			return fmt.Errorf("%w: executed entries of member %x", mvcc.ErrCorrupt, member)
		}
		numbers, value = append(numbers, v), value[n:]
	}
	if len(numbers) < 3 {
		return fmt.Errorf("%w: executed entries of member %x", mvcc.ErrCorrupt, member)
	}
	x[member] = &origin{boot: numbers[0], start: numbers[1], settled: numbers[2], done: numbers[3:]}
	return nil
}

// snapshotOf tells, as it stands now, which entries of a member's start ran: exact for those whose proposer still
// waits.
func (x executed) snapshotOf(member, boot, start uint64) func(number uint64) bool {
	o := x[member]
	if o == nil || o.boot != boot || o.start != start {
		return func(uint64) bool { return false }
	}
	done := slices.Clone(o.done)
	return func(number uint64) bool {
		_, ok := slices.BinarySearch(done, number)
		return ok
	}
}
