package machine

import (
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/statemachine/mvcc"
)

// A flush that starts after a commit returned covers it, though others flush at any moment.
func TestFlushCoversWhatWasCommittedBeforeIt(t *testing.T) {
	s, err := openStore(storeOptions{fs: vfs.NewMem(), dir: "db", log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	var stopping atomic.Bool
	background := make(chan struct{})
	go func() {
		defer close(background)
		for !stopping.Load() {
			if err := s.flush(); err != nil {
				t.Error(err)
			}
		}
	}()
	rows := mvcc.NewOverlay(mvcc.Rows{Reader: s.current})
	for n := range uint64(1000) {
		rows.Set(metaApplied, binary.BigEndian.AppendUint64(nil, n))
		if err := s.commit(rows, func(*pebble.Batch) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := s.flush(); err != nil {
			t.Fatal(err)
		}
		if got := durable(t, s.current, metaApplied); got != n {
			t.Fatalf("after a flush the durable index is %d, committed was %d", got, n)
		}
	}
	stopping.Store(true)
	<-background
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

func durable(t *testing.T, db *database, key []byte) uint64 {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: key, OnlyReadGuaranteedDurable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	if !it.First() {
		t.Fatal("nothing is durable")
	}
	return binary.BigEndian.Uint64(it.Value())
}
