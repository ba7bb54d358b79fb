package machine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/statemachine/mvcc"
)

// store is the directory of a machine: the current database, named by the file CURRENT, and while a snapshot is being
// received a second one beside it. CURRENT is replaced atomically and durably, so that a crash leaves either the old
// state or the new one.
//
//	DIR/CURRENT          name of the current database
//	DIR/000001.db/       a Pebble database
type store struct {
	storeOptions

	mu      sync.RWMutex // guards current against replace
	current *database
	number  int // of the current database

	flushing sync.Mutex // one flush at a time: who finds nothing dirty must know that an earlier flush has ended
	dirty    atomic.Bool
}

// storeOptions are those of Options that the store needs.
type storeOptions struct {
	fs     vfs.FS
	dir    string
	caches *Caches
	memory int // bytes
	end    func(line string)
	log    *zap.Logger
}

func (o *Options) store(log *zap.Logger) storeOptions {
	return storeOptions{o.FS, o.Dir, o.Caches, o.MemoryBytes, o.End, log}
}

// database is a Pebble database that closes when its last user lets go.
type database struct {
	*pebble.DB
	refs   atomic.Int64
	onZero func()
}

func (d *database) acquire() { d.refs.Add(1) }

func (d *database) release() {
	if d.refs.Add(-1) == 0 {
		d.onZero()
	}
}

const currentFile = "CURRENT"

func databaseName(n int) string { return fmt.Sprintf("%06d.db", n) }

func setFilters(o *pebble.Options) {
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].FilterType = pebble.TableFilter
	}
}

// openStore opens the current database of dir, or makes the first one.
func openStore(o storeOptions) (*store, error) {
	s := &store{storeOptions: o}
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	if err := s.syncPath(s.fs.PathDir(s.dir)); err != nil {
		return nil, err
	}
	if err := s.readCurrent(); err != nil {
		return nil, err
	}
	if s.number == 0 {
		return s, s.create()
	}
	if err := s.removeStale(); err != nil {
		return nil, err
	}
	db, err := s.openDatabase(s.number)
	s.current = db
	return s, err
}

// create makes the first database. One may be there already: empty, if an earlier create was cut off before it wrote
// CURRENT. One with data means that CURRENT was lost, and nobody can know whether it is the right one.
func (s *store) create() (err error) {
	s.number = 1
	if s.current, err = s.openDatabase(s.number); err != nil {
		return err
	}
	_, used, err := mvcc.Rows{Reader: s.current}.Get(metaApplied)
	if err == nil && used {
		err = fmt.Errorf("%s is missing although %s holds data", s.path(currentFile), databaseName(s.number))
	}
	if err == nil {
		err = s.writeCurrent(s.number)
	}
	if err != nil {
		s.current.release()
	}
	return err
}

func (s *store) path(name string) string { return s.fs.PathJoin(s.dir, name) }

func (s *store) readCurrent() error {
	f, err := s.fs.Open(s.path(currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if _, err := fmt.Sscanf(string(data), "%06d.db", &s.number); err != nil || s.number <= 0 {
		return fmt.Errorf("%s holds %q instead of the name of a database", s.path(currentFile), data)
	}
	if _, err := s.fs.Stat(s.path(databaseName(s.number))); err != nil {
		return fmt.Errorf("%s names %s: %w", s.path(currentFile), databaseName(s.number), err)
	}
	return nil
}

func (s *store) writeCurrent(number int) error {
	tmp := s.path(currentFile + ".tmp")
	f, err := s.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, databaseName(number)+"\n")
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, s.path(currentFile)); err != nil {
		return err
	}
	return s.syncDir()
}

func (s *store) syncDir() error { return s.syncPath(s.dir) }

// syncPath makes the entries of a directory durable.
func (s *store) syncPath(dir string) error {
	d, err := s.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeStale deletes what an interrupted recovery left.
func (s *store) removeStale() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".db") && name != databaseName(s.number) {
			if err := s.fs.RemoveAll(s.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *store) openDatabase(number int) (*database, error) {
	dir := s.path(databaseName(number))
	db, err := pebble.Open(dir, s.pebble(dir))
	if err != nil {
		return nil, err
	}
	d := &database{DB: db}
	d.refs.Store(1)
	d.onZero = func() {
		if err := db.Close(); err != nil {
			s.log.Warn("closing a database", zap.Error(err))
		}
	}
	return d, nil
}

// db is the current database; it stays open while the caller is the apply goroutine, or holds a reference.
func (s *store) db() *database {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.current
}

// hold returns the current database with a reference on it, which the caller releases.
func (s *store) hold() *database {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.current.acquire()
	return s.current
}

// commit writes a batch, with what stage adds to it. It becomes durable with the next flush.
func (s *store) commit(rows *mvcc.Overlay, stage func(*pebble.Batch) error) error {
	b := s.current.NewBatchWithSize(rows.StagedSize())
	if err := rows.WriteTo(b); err != nil {
		return err
	}
	if err := stage(b); err != nil {
		return err
	}
	return s.commitBatch(b)
}

// commitBatch marks the store dirty only once the batch is in: a flush that took the mark away before that would leave
// the batch behind, and the next one would find nothing to do.
func (s *store) commitBatch(b *pebble.Batch) error {
	err := b.Commit(pebble.NoSync)
	s.dirty.Store(true)
	return err
}

// flush makes everything durable whose commit has returned.
func (s *store) flush() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	if !s.dirty.Swap(false) {
		return nil
	}
	db := s.hold() // after the mark, which may be of a database that has just replaced another
	defer db.release()
	if err := db.Flush(); err != nil {
		s.dirty.Store(true)
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// replace makes a complete, durable database the current one, and deletes the old one once its last reader is gone.
func (s *store) replace(db *database, number int) error {
	if err := s.writeCurrent(number); err != nil {
		return err
	}
	s.mu.Lock()
	old, oldName := s.current, s.path(databaseName(s.number))
	s.current, s.number = db, number
	s.mu.Unlock()
	s.dirty.Store(false)
	closeOld := old.onZero
	old.onZero = func() {
		closeOld()
		if err := s.fs.RemoveAll(oldName); err != nil {
			s.log.Warn("removing a replaced database", zap.Error(err))
		}
	}
	old.release()
	return nil
}

// close flushes and lets go of the current database.
func (s *store) close() error {
	err := s.flush()
	s.current.release()
	return err
}
