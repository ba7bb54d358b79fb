package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/coord-dev/coord/statemachine/pebblefs"
)

// store implements raftio.ILogDB. Its methods are safe for concurrent use, except
// that changes of one replica's state and entries must not overlap, which
// Dragonboat guarantees.
type store struct {
	db        *pebble.DB
	closeOnce sync.Once
	// snapshots is held from looking at a replica's snapshot record to having
	// replaced it: Dragonboat records its own snapshots and those it receives from
	// different goroutines. It is taken before mu.
	snapshots sync.Mutex
	mu        struct {
		sync.Mutex
		tails map[raftio.NodeInfo]tail
		// broken is the first write that failed. What is stored is not known after
		// it, so nothing more is written.
		broken error
	}
}

var _ raftio.ILogDB = (*store)(nil)

// tail is what a save needs to know about what is stored already.
type tail struct {
	state pb.State
	// last is the index of the last entry, or of the snapshot that took the place
	// of all entries; 0 for an empty log.
	last uint64
}

func open(dir string, opts *pebble.Options) (*store, error) {
	s := &store{}
	s.mu.tails = map[raftio.NodeInfo]tail{}
	opts.EventListener = &pebble.EventListener{
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			details, _, _ := strings.Cut(i.Details.Error(), "\n")
			s.fail(fmt.Errorf("%w: %s: %s", ErrDamaged, i.Path, details))
		},
		BackgroundError: pebblefs.BackgroundError(opts.Logger),
	}
	var err error
	if s.db, err = openPebble(dir, opts); err == nil {
		err = s.verify()
	}
	if pebble.IsCorruptionError(err) && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err == nil {
		return s, nil
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	return nil, fmt.Errorf("open raft log store %s: %w", dir, err)
}

// verify reads all rows: Pebble checks their checksums, and a member says at its
// start what is damaged rather than in the middle of its work.
func (s *store) verify() error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		_, _, err = decodeRowKey(it.Key())
	}
	return cmp.Or(s.failure(), err, it.Close())
}

func openPebble(dir string, opts *pebble.Options) (*pebble.DB, error) {
	was, err := pebble.Peek(dir, opts.FS)
	switch {
	case errors.Is(err, os.ErrNotExist):
		was = &pebble.DBDesc{}
	case err != nil:
		return nil, err
	default:
		if err := checkFiles(opts.FS, dir, was.ManifestFilename); err != nil {
			return nil, err
		}
	}
	db, err := pebble.Open(dir, opts)
	if err != nil || was.Exists && was.FormatMajorVersion >= opts.FormatMajorVersion {
		return db, err
	}
	// Pebble begins its first log file before it has raised the format, without the
	// offsets by which damage is found. The next one has them.
	if err := db.Close(); err != nil {
		return nil, err
	}
	return pebble.Open(dir, opts)
}

// Name returns the type of the store.
func (s *store) Name() string { return typeName }

// BinaryFormat returns the version of the layout.
func (s *store) BinaryFormat() uint32 { return binaryFormat }

// Close closes the store; it waits for a flush or compaction under way. Nothing
// may be called after it but Close. A store that failed is left as it is.
func (s *store) Close() error {
	err := s.failure()
	s.closeOnce.Do(func() {
		if err == nil {
			err = s.db.Close()
		}
	})
	return err
}

// ListNodeInfo returns the replicas that have a bootstrap record, in the order of
// their keys.
func (s *store) ListNodeInfo() ([]raftio.NodeInfo, error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	var nodes []raftio.NodeInfo
	for ok := it.First(); ok; {
		node, kind, err := decodeRowKey(it.Key())
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		if kind == kindBootstrap {
			nodes = append(nodes, node)
		}
		ok = it.SeekGE(rowKey(node, kindEnd))
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("list replicas: %w", err)
	}
	return nodes, nil
}

// SaveBootstrapInfo stores how a replica was started first, durably.
func (s *store) SaveBootstrapInfo(shard, replica uint64, bs pb.Bootstrap) error {
	value, err := bs.Marshal()
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	if err := b.Set(rowKey(raftio.GetNodeInfo(shard, replica), kindBootstrap), value, nil); err != nil {
		return err
	}
	return s.commit(b, pebble.Sync)
}

// GetBootstrapInfo returns how a replica was started first, or
// raftio.ErrNoBootstrapInfo.
func (s *store) GetBootstrapInfo(shard, replica uint64) (pb.Bootstrap, error) {
	node := raftio.GetNodeInfo(shard, replica)
	bs, ok, err := get(s, node, kindBootstrap, func(b []byte) (pb.Bootstrap, error) { return decodeBootstrap(node, b) })
	if err == nil && !ok {
		err = raftio.ErrNoBootstrapInfo
	}
	return bs, err
}

// get reads and decodes a replica's only row of a kind; ok is false if there is
// none. decode must not keep its argument.
func get[T any](s *store, node raftio.NodeInfo, kind byte, decode func([]byte) (T, error)) (v T, ok bool, err error) {
	b, closer, err := s.db.Get(rowKey(node, kind))
	if errors.Is(err, pebble.ErrNotFound) {
		return v, false, nil
	}
	if err != nil {
		return v, false, fmt.Errorf("read raft log of %s: %w", name(node), err)
	}
	v, err = decode(b)
	return v, err == nil, errors.Join(err, closer.Close())
}

// commit writes a batch. After a failure the store takes no more writes. Pebble
// panics where it cannot begin a new log file; Dragonboat shall hear of it like
// of any failed write.
func (s *store) commit(b *pebble.Batch, o *pebble.WriteOptions) (err error) {
	if err := s.failure(); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("write raft log: %v", r)
		}
		if err != nil {
			s.fail(err)
		}
	}()
	if err := b.Commit(o); err != nil {
		return fmt.Errorf("write raft log: %w", err)
	}
	return nil
}

func (s *store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.broken == nil {
		s.mu.broken = err
	}
}

func (s *store) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.broken
}
