package statemachine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/coord-dev/coord/statemachine"
)

// backupRows returns all rows of a machine, read from a backup of it.
func backupRows(t testing.TB, m *statemachine.Machine) map[string]string {
	t.Helper()
	var stream bytes.Buffer
	if err := m.WriteBackup(context.Background(), &stream); err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	rest := stream.Bytes()[len("coordsn1"):]
	for first := true; ; first = false {
		n := binary.BigEndian.Uint32(rest)
		if n == 0 {
			return rows
		}
		block := rest[8 : 8+n]
		rest = rest[8+n:]
		for !first && len(block) > 0 { // the first one is the header
			var fields [2]string
			for i := range fields {
				length, size := binary.Uvarint(block)
				fields[i], block = string(block[size:size+int(length)]), block[size+int(length):]
			}
			rows[fields[0]] = fields[1]
		}
	}
}

// rowsDiffer describes the rows that are not the same in both, "" if all are.
func rowsDiffer(a, b map[string]string) string {
	out := ""
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if v, ok := b[k]; !ok || v != a[k] {
			out += fmt.Sprintf("\n%x: %x, %x", k, a[k], v)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[k]; !ok {
			out += fmt.Sprintf("\n%x: none, %x", k, b[k])
		}
	}
	return out
}
