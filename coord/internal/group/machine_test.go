package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
)

// logMachine is the state machine of the tests: it keeps every entry it was
// given, by position, in Pebble without a WAL of its own, so that only Sync makes
// anything durable.
type logMachine struct {
	dir string
	fs  vfs.FS
	// onApply is called for each entry.
	onApply func(index uint64, cmd []byte)
	// beforeRecover, when set, is called before a snapshot is loaded, with a channel
	// closed when the replica stops.
	beforeRecover func(stop <-chan struct{}) error
	// beforeClose, when set, is called before the machine closes.
	beforeClose func()

	mu    sync.RWMutex
	db    *pebble.DB
	count uint64
	index uint64
	// closed is true once Close has returned.
	closed bool
	// lie is added to the index that Open reports.
	lie int
}

var (
	keyIndex = []byte("i")
	keyCount = []byte("c")
)

func entryKey(i uint64) []byte { return binary.BigEndian.AppendUint64([]byte("e"), i) }

func (m *logMachine) open() error {
	db, err := pebble.Open(m.dir, &pebble.Options{FS: m.fs, DisableWAL: true, MemTableSize: 4 << 20, Logger: quiet{}})
	if err != nil {
		return err
	}
	m.db = db
	if m.index, err = m.get(keyIndex); err == nil {
		m.count, err = m.get(keyCount)
	}
	return err
}

func (m *logMachine) get(key []byte) (uint64, error) {
	v, closer, err := m.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	return binary.BigEndian.Uint64(v), nil
}

func (m *logMachine) Open(<-chan struct{}) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.open()
	return m.index + uint64(m.lie), err
}

func (m *logMachine) Update(entries []sm.Entry) ([]sm.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.db.NewBatch()
	for i := range entries {
		if err := b.Set(entryKey(m.count), entries[i].Cmd, nil); err != nil {
			return nil, err
		}
		m.count++
		entries[i].Result = sm.Result{Value: m.count}
		m.index = entries[i].Index
		if m.onApply != nil {
			m.onApply(entries[i].Index, entries[i].Cmd)
		}
	}
	err := errors.Join(
		b.Set(keyCount, binary.BigEndian.AppendUint64(nil, m.count), nil),
		b.Set(keyIndex, binary.BigEndian.AppendUint64(nil, m.index), nil),
		b.Commit(pebble.NoSync))
	return entries, err
}

func (m *logMachine) Lookup(any) (any, error) { return m.Count(), nil }

// Count returns how many entries were applied.
func (m *logMachine) Count() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.count
}

// Entries returns everything applied, in order.
func (m *logMachine) Entries() ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	it, err := m.db.NewIter(&pebble.IterOptions{LowerBound: []byte("e"), UpperBound: []byte("f")})
	if err != nil {
		return nil, err
	}
	var all []string
	for ok := it.First(); ok; ok = it.Next() {
		all = append(all, string(it.Value()))
	}
	return all, it.Close()
}

func (m *logMachine) Sync() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.db.Flush()
}

func (m *logMachine) PrepareSnapshot() (any, error) { return m.db.NewSnapshot(), nil }

func (m *logMachine) SaveSnapshot(ctx any, w io.Writer, stop <-chan struct{}) (err error) {
	s := ctx.(*pebble.Snapshot)
	defer func() { err = errors.Join(err, s.Close()) }()
	it, err := s.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		select {
		case <-stop:
			return sm.ErrSnapshotStopped
		default:
		}
		if err := writePair(w, it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return nil
}

func writePair(w io.Writer, k, v []byte) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(k)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	_, err := w.Write(append(append(b, k...), v...))
	return err
}

func (m *logMachine) RecoverFromSnapshot(r io.Reader, stop <-chan struct{}) error {
	if m.beforeRecover != nil {
		if err := m.beforeRecover(stop); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.db.DeleteRange([]byte("a"), []byte("z"), pebble.NoSync); err != nil {
		return err
	}
	var h [8]byte
	for {
		if _, err := io.ReadFull(r, h[:]); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		k, v := binary.BigEndian.Uint32(h[:]), binary.BigEndian.Uint32(h[4:])
		kv := make([]byte, k+v)
		if _, err := io.ReadFull(r, kv); err != nil {
			return err
		}
		if err := m.db.Set(kv[:k], kv[k:], pebble.NoSync); err != nil {
			return err
		}
	}
	var err error
	if m.index, err = m.get(keyIndex); err == nil {
		m.count, err = m.get(keyCount)
	}
	return errors.Join(err, m.db.Flush())
}

func (m *logMachine) Close() error {
	if m.beforeClose != nil {
		m.beforeClose()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.db == nil {
		return nil
	}
	return m.db.Close()
}

// isClosed says whether Close has returned.
func (m *logMachine) isClosed() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.closed
}

// quiet is a Pebble logger that says nothing but fatal errors.
type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }
