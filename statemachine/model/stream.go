package model

import (
	"encoding/binary"
	"iter"
)

// RowsOf yields the keys and values of all rows of a snapshot stream, which is whole: it is for tests that want to see
// what a machine has stored.
func RowsOf(stream []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		rest := stream[len("coordsn1"):]
		for first := true; ; first = false {
			n := binary.BigEndian.Uint32(rest)
			if n == 0 {
				return
			}
			block := rest[8 : 8+n]
			rest = rest[8+n:]
			for !first && len(block) > 0 { // the first one is the header
				var row [2][]byte
				for i := range row {
					length, size := binary.Uvarint(block)
					row[i], block = block[size:size+int(length)], block[size+int(length):]
				}
				if !yield(row[0], row[1]) {
					return
				}
			}
		}
	}
}
