package group

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftpb"
	sm "github.com/lni/dragonboat/v4/statemachine"
)

// ErrStateBehindSnapshot is returned by Start when the state machine opened at
// an index below the newest snapshot in the log: entries in between are gone, or
// would be skipped in silence.
var ErrStateBehindSnapshot = errors.New("state machine is behind its raft snapshot")

// ErrStateAheadOfLog is returned by Start when the state machine opened at an
// index that the raft log does not reach: the log was lost or replaced.
var ErrStateAheadOfLog = errors.New("state machine is ahead of the raft log")

// Flusher may be implemented by a state machine whose Sync is expensive. Flush
// is called before a snapshot, beside Update, so that the Sync that follows, for
// which Update has to wait, finds little to do.
type Flusher interface {
	Flush() error
}

// logReader is what machine needs of Dragonboat's log reader.
type logReader func() (dragonboat.ReadonlyLogReader, error)

// machine wraps the caller's state machine: it checks what Open says, and keeps
// count of what was applied.
type machine struct {
	sm.IOnDiskStateMachine
	log logReader
	// hostDir is where Dragonboat keeps snapshots for this host.
	hostDir string
	// opened receives the result of Open once.
	opened chan error
	// refused is true after Open found state and log in disagreement. Dragonboat
	// may still call the machine until the replica has stopped.
	refused bool
	applied atomic.Uint64
	// bytes counts the bytes of all entries applied since the start.
	bytes atomic.Uint64
	sizes sizes
	// gate is held for reading during calls that need an open machine.
	gate   sync.RWMutex
	closed bool
	// done is closed by Close.
	done chan struct{}
}

func newMachine(inner sm.IOnDiskStateMachine, hostDir string, log logReader) *machine {
	return &machine{
		IOnDiskStateMachine: inner, log: log, hostDir: hostDir, opened: make(chan error, 1), done: make(chan struct{}),
	}
}

// Open opens the state machine and compares its index with the log. After a
// refusal it waits for the replica to be stopped, because Dragonboat would panic
// if told.
func (m *machine) Open(stop <-chan struct{}) (uint64, error) {
	index, err := m.IOnDiskStateMachine.Open(stop)
	if err == nil {
		err = m.check(index)
	}
	if err != nil {
		m.refused = true
		m.opened <- err
		<-stop
		return 0, sm.ErrOpenStopped
	}
	m.applied.Store(index)
	m.sizes.reset(index)
	m.opened <- nil
	return index, nil
}

func (m *machine) check(index uint64) error {
	log, err := m.log()
	if err != nil {
		return fmt.Errorf("read the raft log: %w", err)
	}
	ss := log.Snapshot()
	onDisk := ss.OnDiskIndex
	if ss.Index > 0 {
		err = ss.Unref()
	}
	first, last := log.GetRange()
	switch {
	case err != nil:
		return err
	case index < onDisk && !m.restorable(ss):
		return fmt.Errorf("%w: opened at index %d, snapshot at %d", ErrStateBehindSnapshot, index, onDisk)
	case index > last:
		return fmt.Errorf("%w: opened at index %d, log has %d to %d", ErrStateAheadOfLog, index, first, last)
	}
	return nil
}

// shrunkSize is the size of a snapshot file that holds no data: a header of 1024
// bytes, the empty session table, its checksum and the trailer.
const shrunkSize = 1024 + 16 + 4 + 16

// restorable says whether Dragonboat can bring a state machine up to a snapshot
// by itself. It can when the snapshot holds data, as one that was streamed to us
// does until the state machine recovered from it and synced.
func (m *machine) restorable(ss raftpb.Snapshot) bool {
	if ss.Dummy {
		return false
	}
	fi, err := os.Stat(m.localPath(ss.Filepath))
	return err == nil && fi.Size() > shrunkSize
}

// localPath finds a snapshot file whose recorded path may start with the name
// the host had: its last five elements are below the host's directory.
func (m *machine) localPath(recorded string) string {
	parts := strings.Split(filepath.ToSlash(recorded), "/")
	return filepath.Join(append([]string{m.hostDir}, parts[max(0, len(parts)-5):]...)...)
}

// Update applies entries.
func (m *machine) Update(entries []sm.Entry) ([]sm.Entry, error) {
	if m.refused {
		return entries, nil
	}
	var n uint64
	for i := range entries {
		n += uint64(len(entries[i].Cmd))
	}
	last := entries[len(entries)-1].Index
	out, err := m.IOnDiskStateMachine.Update(entries)
	if err != nil {
		return nil, fmt.Errorf("apply entries up to index %d: %w", last, err)
	}
	m.applied.Store(last)
	m.sizes.add(last, m.bytes.Add(n))
	return out, nil
}

// Sync makes what was applied durable.
func (m *machine) Sync() error {
	if m.refused {
		return nil
	}
	return m.IOnDiskStateMachine.Sync()
}

// RecoverFromSnapshot replaces the state by that of the newest snapshot.
func (m *machine) RecoverFromSnapshot(r io.Reader, stop <-chan struct{}) error {
	if m.refused {
		return sm.ErrSnapshotStopped
	}
	if err := m.IOnDiskStateMachine.RecoverFromSnapshot(r, stop); err != nil {
		return err
	}
	log, err := m.log()
	if err != nil {
		return nil // closing: nobody will ask how far we are
	}
	ss := log.Snapshot()
	m.applied.Store(max(m.applied.Load(), ss.OnDiskIndex))
	return ss.Unref()
}

// flush lets the state machine prepare for Sync.
func (m *machine) flush() error {
	m.gate.RLock()
	defer m.gate.RUnlock()
	f, ok := m.IOnDiskStateMachine.(Flusher)
	if !ok || m.refused || m.closed {
		return nil
	}
	return f.Flush()
}

// Close closes the state machine after a flush in progress, once.
func (m *machine) Close() error {
	m.gate.Lock()
	defer m.gate.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	defer close(m.done)
	return m.IOnDiskStateMachine.Close()
}

// sizes remembers roughly how many bytes of entries follow an index.
type sizes struct {
	mu   sync.Mutex
	ring [1024]mark
	n    uint64
}

// mark says that the entries up to index have bytes in all.
type mark struct{ index, bytes uint64 }

// A mark is set after this many entries or bytes.
const (
	markEntries = 512
	markBytes   = 4 << 20
)

func (s *sizes) at(i uint64) *mark { return &s.ring[i%uint64(len(s.ring))] }

func (s *sizes) reset(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.at(0), s.n = mark{index: index}, 1
}

func (s *sizes) add(index, bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.at(s.n - 1)
	if index >= last.index+markEntries || bytes >= last.bytes+markBytes {
		*s.at(s.n) = mark{index, bytes}
		s.n++
	}
}

// since returns the bytes of the entries after index, given the bytes of all. For
// an index older than the oldest mark it is a lower bound.
func (s *sizes) since(index, total uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := s.n - min(s.n, uint64(len(s.ring)))
	floor := s.at(oldest).bytes
	for i := oldest; i < s.n && s.at(i).index <= index; i++ {
		floor = s.at(i).bytes
	}
	return total - floor
}
