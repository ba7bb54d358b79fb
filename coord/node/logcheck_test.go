package node

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
)

// writeLog makes a log of n synced records in a store like that of the raft log, and returns its path.
func writeLog(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "logdb-0")
	db, err := pebble.Open(dir, &pebble.Options{FS: vfs.Default})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := db.Set([]byte{byte(i)}, bytes.Repeat([]byte{byte(i)}, 80*(i%50)), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %v: %v", logs, err)
	}
	written, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "logdb-0", filepath.Base(logs[0]))
	write(t, copied, written)
	return copied
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamageInTheMiddleOfTheLogIsFound(t *testing.T) {
	path := writeLog(t, 100)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(whole, "\x00"))
	for at := 10; at < end/2; at += 997 {
		b := bytes.Clone(whole)
		b[at] ^= 1
		write(t, path, b)
		if err := checkLogs(filepath.Dir(path)); !errors.Is(err, ErrLogDamaged) && !inPadding(whole, at) {
			t.Errorf("byte %d of %d flipped: %v", at, end, err)
		}
	}
}

// inPadding reports whether a byte is between the last chunk of a block and the block's end.
func inPadding(b []byte, at int) bool {
	end := at - at%logBlock + logBlock
	return len(bytes.Trim(b[at:end], "\x00")) == 0 && end-at < logHeader
}

func TestLogThatWasCutShortIsIntact(t *testing.T) {
	path := writeLog(t, 100)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(whole, "\x00"))
	for cut := 0; cut <= end; cut += 991 {
		write(t, path, whole[:cut])
		if err := checkLogs(filepath.Dir(path)); err != nil {
			t.Errorf("%d of %d bytes written: %v", cut, end, err)
		}
		zeros := append(bytes.Clone(whole[:cut]), make([]byte, len(whole)-cut)...)
		write(t, path, zeros)
		if err := checkLogs(filepath.Dir(path)); err != nil {
			t.Errorf("%d of %d bytes written, zeros behind: %v", cut, end, err)
		}
	}
}
