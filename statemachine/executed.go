package statemachine

import (
	"encoding/binary"
	"fmt"
	"slices"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// executed remembers which entries ran, so that a member may propose the same entry again until it knows the result and
// it still runs once. For each member it keeps the boot whose entries it takes, the number up to which the proposer
// waits no more, and the executed numbers above. A copy of an entry that arrives after its proposer gave it up, or from
// an earlier boot, is refused: it could not be told from one that ran.
//
// Row: uvarint boot | uvarint settled | uvarint number … (ascending)
type executed map[uint64]*origin

type origin struct {
	boot, settled uint64
	done          []uint64 // ascending, all > settled
}

// admit reports whether the entry is to run now, and if so notes that it did.
func (x executed) admit(e *raftv1.Entry) bool {
	o := x[e.Member]
	switch {
	case o == nil:
		o = &origin{boot: e.Boot}
		x[e.Member] = o
	case e.Boot < o.boot:
		return false
	case e.Boot > o.boot:
		*o = origin{boot: e.Boot}
	}
	at, ran := slices.BinarySearch(o.done, e.Number)
	if ran || e.Number <= o.settled {
		return false
	}
	o.done = slices.Insert(o.done, at, e.Number)
	o.settle(e.Settled)
	return true
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
	dst := binary.AppendUvarint(nil, o.boot)
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
	if len(numbers) < 2 {
		return fmt.Errorf("%w: executed entries of member %x", mvcc.ErrCorrupt, member)
	}
	x[member] = &origin{boot: numbers[0], settled: numbers[1], done: numbers[2:]}
	return nil
}

// snapshotOf tells, as it stands now, which entries of a member's boot ran: exact for those whose proposer still waits.
func (x executed) snapshotOf(member, boot uint64) func(number uint64) bool {
	o := x[member]
	if o == nil || o.boot != boot {
		return func(uint64) bool { return false }
	}
	done := slices.Clone(o.done)
	return func(number uint64) bool {
		_, ok := slices.BinarySearch(done, number)
		return ok
	}
}
