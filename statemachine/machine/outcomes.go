package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// outcomes are what the requests of a session came to, from the first one that is not acknowledged. They are a cache of
// rows, one for each command with requests that brought something new:
//
//	0e lease:8 index:8 ordinal:4 → uvarint acknowledged | uvarint unkept - acknowledged, if greater |
//	                               (uvarint sequence | uvarint len | coordv1.Outcome) …
//
// The newest row says how far the session has acknowledged, and what is unkept, and stays; others are deleted with the
// last of their outcomes. What is in a row but acknowledged counts for nothing: a table that is loaded decides like the
// one that wrote the rows.
type outcomes struct {
	acknowledged uint64
	// unkept is the greatest sequence of a request that freed something and whose outcome was not kept. What came to a
	// request up to it, if it has no outcome, is not known any more, and it does not run: so nothing runs twice, at the
	// cost of one number.
	unkept     uint64
	bySequence map[uint64]outcome // all > acknowledged
	bytes      int
	cost       int         // bytes, with OutcomeOverhead for each
	all        *held       // of the table that the session is in; nil: it is in none
	newest     *outcomeRow // nil: none
}

type outcome struct {
	data []byte // a coordv1.Outcome
	row  *outcomeRow
}

// outcomeRow is a row; live counts its outcomes that are not acknowledged.
type outcomeRow struct {
	index   uint64
	ordinal uint32
	live    int
}

// full reports whether new requests are to be refused. For what frees a quarter more is kept.
func (o *outcomes) full(frees bool) bool {
	most, bytes := statemachine.MaxOutcomes, statemachine.MaxOutcomeBytes
	if frees {
		most, bytes = most+most/4, bytes+bytes/4
	}
	return len(o.bySequence) >= most || o.bytes >= bytes
}

// add keeps an outcome that a row holds.
func (o *outcomes) add(sequence uint64, data []byte, row *outcomeRow) {
	if o.bySequence == nil {
		o.bySequence = make(map[uint64]outcome)
	}
	o.bySequence[sequence] = outcome{data, row}
	o.bytes += len(data)
	o.charge(outcomeSize(data) + statemachine.OutcomeOverhead)
	row.live++
}

// remove takes back add.
func (o *outcomes) remove(sequence uint64) {
	one := o.bySequence[sequence]
	delete(o.bySequence, sequence)
	o.bytes -= len(one.data)
	o.charge(-outcomeSize(one.data) - statemachine.OutcomeOverhead)
	one.row.live--
}

// acknowledge forgets the outcomes with a sequence <= to, and returns the rows that have none any more. The newest may
// be one of them: who moves the watermark writes a newer row.
func (o *outcomes) acknowledge(to uint64) (empty []*outcomeRow) {
	from := o.acknowledged
	o.acknowledged = max(from, to)
	forget := func(sequence uint64, one outcome) {
		delete(o.bySequence, sequence)
		o.bytes -= len(one.data)
		o.charge(-outcomeSize(one.data) - statemachine.OutcomeOverhead)
		if one.row.live--; one.row.live == 0 {
			empty = append(empty, one.row)
		}
	}
	if to > from && to-from <= uint64(len(o.bySequence)) {
		for n := uint64(1); n <= to-from; n++ { // not up to to, which may be the last number there is
			if one, ok := o.bySequence[from+n]; ok {
				forget(from+n, one)
			}
		}
		return empty
	}
	for sequence, one := range o.bySequence {
		if sequence <= to {
			forget(sequence, one)
		}
	}
	return empty
}

// rows returns all rows there are, in no order.
func (o *outcomes) rows() map[*outcomeRow]bool {
	rows := make(map[*outcomeRow]bool)
	if o.newest != nil {
		rows[o.newest] = true
	}
	for _, one := range o.bySequence {
		rows[one.row] = true
	}
	return rows
}

// load adds a row, newer than those before.
func (o *outcomes) load(row *outcomeRow, value []byte) error {
	o.newest = row
	acknowledged, unkept, list, err := parseOutcomeRow(value)
	if err != nil {
		return err
	}
	o.acknowledged, o.unkept = acknowledged, unkept
	for _, one := range list {
		o.add(one.sequence, bytes.Clone(one.data), row)
	}
	return nil
}

// storedOutcome is an outcome in a row.
type storedOutcome struct {
	sequence uint64
	data     []byte
}

func appendStoredOutcome(row []byte, sequence uint64, data []byte) []byte {
	row = binary.AppendUvarint(row, sequence)
	row = binary.AppendUvarint(row, uint64(len(data)))
	return append(row, data...)
}

// appendWatermarks begins the value of a row.
func (o *outcomes) appendWatermarks(row []byte) []byte {
	row = binary.AppendUvarint(row, o.acknowledged)
	return binary.AppendUvarint(row, max(o.unkept, o.acknowledged)-o.acknowledged)
}

// parseOutcomeRow parses the value of a row. The outcomes alias it.
func parseOutcomeRow(value []byte) (acknowledged, unkept uint64, list []storedOutcome, err error) {
	broken := fmt.Errorf("%w: row of outcomes", mvcc.ErrCorrupt)
	acknowledged, n := binary.Uvarint(value)
	if n <= 0 {
		return 0, 0, nil, broken
	}
	beyond, k := binary.Uvarint(value[n:])
	if k <= 0 || beyond > math.MaxUint64-acknowledged {
		return 0, 0, nil, broken
	}
	for rest := value[n+k:]; len(rest) > 0; {
		sequence, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, 0, nil, broken
		}
		size, k := binary.Uvarint(rest[n:])
		if k <= 0 || size > uint64(len(rest)-n-k) {
			return 0, 0, nil, broken
		}
		list = append(list, storedOutcome{sequence, rest[n+k : n+k+int(size)]})
		rest = rest[n+k+int(size):]
	}
	return acknowledged, acknowledged + beyond, list, nil
}
