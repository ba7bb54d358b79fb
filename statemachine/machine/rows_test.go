package machine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/coord-dev/coord/statemachine/machine"
	"github.com/coord-dev/coord/statemachine/model"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// backupRows returns all rows of a machine, read from a backup of it.
func backupRows(t testing.TB, m *machine.Machine) map[string]string {
	t.Helper()
	var stream bytes.Buffer
	if err := m.WriteBackup(context.Background(), &stream); err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for key, value := range model.RowsOf(stream.Bytes()) {
		rows[string(key)] = string(value)
	}
	return rows
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

// childRows are those of the index of children that are stored.
func childRows(rows map[string]string) map[string]string {
	index := make(map[string]string)
	for k, v := range rows {
		if k[0] == mvcc.SpaceChildren && len(k) > 1 {
			index[k] = v
		}
	}
	return index
}

// indexOf makes the rows of the index of children that must be stored anew, from the live rows.
func indexOf(rows map[string]string) map[string]string {
	index := make(map[string]string)
	since := uint64(1)
	if v := rows[string(mvcc.SpaceChildren)]; v != "" {
		since = binary.BigEndian.Uint64([]byte(v))
	}
	for k, record := range rows {
		i := strings.LastIndexByte(k, '/')
		if k[0] != mvcc.SpaceLive || i < 0 {
			continue
		}
		create, _ := binary.Uvarint([]byte(record))
		if create > since {
			continue
		}
		parent := strings.ReplaceAll(k[1:i], "\x00", "\x00\xff") + "\x00\x01"
		index[string(mvcc.SpaceChildren)+parent+string(binary.BigEndian.AppendUint64(nil, create))+k[i+1:]] = ""
	}
	return index
}

// stateRows are all rows but those whose place differs between replicas.
func stateRows(rows map[string]string) map[string]string {
	rows = maps.Clone(rows)
	maps.DeleteFunc(rows, func(k, _ string) bool { return k[0] == mvcc.SpaceChildren })
	return rows
}
