package machine

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"go.uber.org/zap"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/lease"
	"github.com/coord-dev/coord/statemachine/mvcc"
	"github.com/coord-dev/coord/statemachine/pebblefs"
	"github.com/coord-dev/coord/statemachine/undo"
)

// Options configure a Machine.
type Options struct {
	// Dir is the machine's own directory; it is created where missing.
	Dir string
	// FS is the file system, vfs.Default if nil.
	FS vfs.FS
	// Shard is the keyspace that the machine holds.
	Shard uint64
	// Member, Boot and Start say whose results are wanted here, see EntryResult.
	Member, Boot, Start uint64
	// Program is what the log can call, and the bounds of it. All members of a cluster have the same.
	statemachine.Program
	// SweepFrom is how many keys a command deletes at least for its event to be a Sweep, 1024 if 0, and twice as many
	// with each sweep in the same batch. It changes no state.
	SweepFrom int
	// Observer may be nil.
	Observer statemachine.Observer
	// OnHash is given the hash that a StateHash command asked for, from a goroutine of its own. It may be nil.
	OnHash func(statemachine.Hashed)
	// Refused are commands that the operator has refused. Open adds them to the list in the store.
	Refused []statemachine.Refused
	// End is called with a line that was logged, when the replica cannot go on: an entry panics, or must not be applied
	// by this release, or the store cannot be read or written. It should end the process. Where it is nil or returns,
	// Update returns the error, which ends the replica.
	End func(line string)
	// Caches are shared with other machines of the process; nil: the machine has its own, of DefaultCacheBytes.
	Caches *Caches
	// MemoryBytes bounds what the store holds beside, in memtables and of the latest rows that the apply reads: 80 MiB
	// if 0. They grow with what is written.
	MemoryBytes int
	// Logger may be nil.
	Logger *zap.Logger
	// FlushInterval is how often what was applied is made durable in the background, 5 s if 0. A restart replays at
	// most about that much of the log.
	FlushInterval time.Duration
}

// Machine is the replicated state of one keyspace: an IOnDiskStateMachine of Dragonboat. Dragonboat calls Open, Update,
// Sync, PrepareSnapshot, SaveSnapshot, RecoverFromSnapshot and Close as its contract says; every other method is safe
// for concurrent use with all of them.
type Machine struct {
	opts       Options
	log        *zap.Logger
	procedures map[string]statemachine.Procedure
	kinds      map[coordv1.Kind]statemachine.Procedure // those that requests of sessions can name
	schema     *raftv1.Schema
	store      *store

	// The state that the log changes, beside the rows in Pebble. Only Update and RecoverFromSnapshot touch it; leases
	// and sessions synchronize themselves for readers.
	index     uint64
	version   raftv1.Version // of the cluster
	history   uint64         // 0 before it has begun
	revision  statemachine.Revision
	compacted statemachine.Revision
	leases    *lease.Table
	sessions  *sessions
	executed  executed
	alarms    alarms
	members   []*raftv1.Member
	broken    broken
	denied    refusedList
	overlay   *mvcc.Overlay
	latest    *mvcc.Cache
	undo      undo.Log // of the step that is running
	children  *mvcc.Index
	unparsed  atomic.Uint64
	told      *statemachine.History // what readers see of history

	// mu guards what readers see. It is held for a pointer swap only.
	mu struct {
		sync.RWMutex
		state    *state
		leases   *lease.Table
		sessions *sessions
		closed   bool
	}
	refused   struct{ outcomes, sessions atomic.Uint64 } // for want of Room, since the start
	compactor *compactor
	flusher   *flusher
	hashes    sync.WaitGroup
}

var _ sm.IOnDiskStateMachine = (*Machine)(nil)

// Rows of the meta space. Integers are 8 bytes, big endian.
var (
	metaApplied   = mvcc.MetaKey("applied")   // applied index
	metaRevision  = mvcc.MetaKey("revision")  // revision
	metaCompacted = mvcc.MetaKey("compacted") // compacted revision; absent: never
	metaClock     = mvcc.MetaKey("clock")     // log time in ms | number of the last tick
)

// New returns a machine that Open has to be called on.
func New(opts Options) *Machine {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	opts.EnsureDefaults()
	if opts.FlushInterval == 0 {
		opts.FlushInterval = 5 * time.Second
	}
	m := &Machine{
		opts: opts, log: opts.Logger, told: statemachine.NewHistory(0), schema: raftv1.NewSchema(opts.Since,
			opts.Procedures),
		procedures: make(map[string]statemachine.Procedure), kinds: make(map[coordv1.Kind]statemachine.Procedure),
	}
	for _, p := range opts.Procedures {
		m.procedures[p.Name()] = p
		if kind := p.Kind(); kind != coordv1.Kind_KIND_UNSPECIFIED {
			m.kinds[kind] = p
		}
	}
	return m
}

// Open opens the store, creating it where there is none, and returns the index of the last log entry whose effects are
// durable in it.
func (m *Machine) Open(<-chan struct{}) (uint64, error) {
	store, err := openStore(m.opts.store(m.log))
	if err != nil {
		return 0, fmt.Errorf("open state machine in %s: %w", m.opts.Dir, err)
	}
	m.store = store
	if err := m.load(); err != nil {
		return 0, errors.Join(fmt.Errorf("load state machine from %s: %w", m.opts.Dir, err), store.close())
	}
	if err := m.takeOver(m.opts.Refused); err != nil {
		return 0, errors.Join(fmt.Errorf("open state machine in %s: %w", m.opts.Dir, err), store.close())
	}
	m.publish()
	m.compactor = startCompactor(m)
	m.flusher = startFlusher(m)
	if m.opts.Observer != nil {
		m.opts.Observer.Applied(m.fill(&statemachine.Applied{}))
	}
	return m.index, nil
}

// load builds what is kept in memory from the rows of the current database.
func (m *Machine) load() error {
	rows := mvcc.Rows{Reader: m.store.db()}
	m.index, m.version, m.history, m.revision, m.compacted = 0, 1, 0, 1, -1
	var clock int64
	var tick uint64
	for _, fact := range []struct {
		key  []byte
		size int
		set  func([]byte)
	}{
		{metaVersion, 1, func(v []byte) { m.version = raftv1.Version(v[0]) }},
		{metaHistory, 8, func(v []byte) { m.history = binary.BigEndian.Uint64(v) }},
		{metaApplied, 8, func(v []byte) { m.index = binary.BigEndian.Uint64(v) }},
		{metaRevision, 8, func(v []byte) { m.revision = int64(binary.BigEndian.Uint64(v)) }},
		{metaCompacted, 8, func(v []byte) { m.compacted = int64(binary.BigEndian.Uint64(v)) }},
		{metaClock, 16, func(v []byte) {
			clock, tick = int64(binary.BigEndian.Uint64(v)), binary.BigEndian.Uint64(v[8:])
		}},
	} {
		v, ok, err := rows.Get(fact.key)
		if err != nil {
			return err
		}
		if ok && len(v) != fact.size {
			return fmt.Errorf("%w: meta row %q", mvcc.ErrCorrupt, fact.key[1:])
		}
		if ok {
			fact.set(v)
		}
	}
	if err := checkRelease(m.version); err != nil {
		return err
	}
	// Half of what a put costs here is to find the version before it.
	m.latest = mvcc.NewCache(cmp.Or(m.opts.MemoryBytes, defaultMemory) / memoryParts)
	var err error
	if m.children, err = mvcc.LoadIndex(rows, m.revision); err != nil {
		return err
	}
	m.overlay = mvcc.NewOverlay(m.applyRows())
	return m.loadTables(rows, lease.NewLoader(clock, tick, &m.undo))
}

// applyRows is what the apply reads: the current database, behind the cache.
func (m *Machine) applyRows() mvcc.Source {
	return mvcc.CachedRows{Rows: mvcc.Rows{Reader: m.store.db()}, Cache: m.latest, Index: m.children}
}

// loadTables builds the tables that are caches of rows.
func (m *Machine) loadTables(rows mvcc.Rows, loader *lease.Loader) error {
	m.executed, m.sessions = make(executed), newSessions(&m.undo)
	m.alarms, m.members, m.broken, m.denied = nil, nil, nil, nil
	for _, space := range []struct {
		id   byte
		size int // of the key; 0: any
		load func(id uint64, key, value []byte) error
	}{
		{mvcc.SpaceLeases, 9, func(id uint64, _, v []byte) error { return loader.Lease(statemachine.LeaseID(id), v) }},
		{mvcc.SpaceStreams, 9, func(stream uint64, _, v []byte) error { return loader.Stream(stream, v) }},
		{mvcc.SpaceRenewals, 13, func(index uint64, _, v []byte) error { return loader.Renewals(index, v) }},
		{mvcc.SpaceExecuted, 9, func(member uint64, _, v []byte) error { return m.executed.load(member, v) }},
		{mvcc.SpaceAlarms, 13, func(_ uint64, k, _ []byte) error {
			a, err := loadAlarm(k)
			m.alarms = append(m.alarms, a)
			return err
		}},
		{mvcc.SpaceMembers, 9, func(_ uint64, _, v []byte) error {
			member, err := loadMember(v)
			m.members = append(m.members, member)
			return err
		}},
		{mvcc.SpaceSessions, 9, func(id uint64, _, v []byte) error {
			return m.sessions.load(statemachine.LeaseID(id), v)
		}},
		{mvcc.SpaceBroken, 0, func(_ uint64, k, v []byte) error { return m.broken.load(k, v) }},
		{mvcc.SpaceRefused, 17, func(_ uint64, k, _ []byte) error { return m.denied.load(k) }},
		{mvcc.SpaceOutcomes, 21, func(_ uint64, k, v []byte) error { return m.sessions.loadOutcomes(k, v) }},
	} {
		lower, upper := mvcc.SpaceBounds(space.id)
		err := mvcc.ScanRows(rows, lower, upper, func(k, v []byte) (bool, error) {
			if space.size != 0 && len(k) != space.size {
				return false, fmt.Errorf("%w: row key %x", mvcc.ErrCorrupt, k)
			}
			id := uint64(0)
			if len(k) >= 9 {
				id = binary.BigEndian.Uint64(k[1:])
			}
			return true, space.load(id, k, v)
		})
		if err != nil {
			return err
		}
	}
	m.leases = loader.Done()
	m.sessions.loaded()
	return nil
}

// Update applies entries of the log. Their effects are committed with the applied index in one Pebble batch (one per
// StateHash command, which needs the state at its own index), then published, then told to the observer. An error means
// that this replica cannot go on; nothing of the batch is visible then.
func (m *Machine) Update(entries []sm.Entry) ([]sm.Entry, error) {
	for rest := entries; len(rest) > 0; {
		n, err := m.apply(rest)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return entries, nil
}

// apply applies and commits entries, of a few megabytes of rows, and returns their number.
func (m *Machine) apply(entries []sm.Entry) (int, error) {
	b := newBatch(m)
	n, err := b.entries(entries)
	if err != nil {
		m.end(err)
		return 0, err
	}
	if err := m.commit(b); err != nil {
		err = fmt.Errorf("commit up to log entry %d: %w", b.index, err)
		m.end(err)
		return 0, err
	}
	return n, nil
}

func (m *Machine) commit(b *batch) error {
	rows := b.kv.Rows()
	rows.Set(metaApplied, binary.BigEndian.AppendUint64(nil, b.applied.Index))
	rows.Set(metaRevision, binary.BigEndian.AppendUint64(nil, uint64(b.kv.Revision())))
	compacted := b.compacted != m.compacted
	err := m.store.commit(rows, func(batch *pebble.Batch) error {
		return m.children.Stage(rows, batch, b.kv.Revision(), len(b.applied.Events), compacted)
	})
	if err != nil {
		return err
	}
	m.latest.Learn(rows)
	rows.Reset(m.applyRows())
	m.index, m.revision, m.compacted = b.applied.Index, b.kv.Revision(), b.compacted
	m.publish()
	if compacted { // published before its first physical delete
		m.compactor.wake()
	}
	if b.toHash {
		m.hashState()
	}
	if m.opts.Observer != nil {
		m.opts.Observer.Applied(m.fill(&b.applied))
	}
	return nil
}

// fill completes what the observer is told with the facts after the batch.
func (m *Machine) fill(a *statemachine.Applied) *statemachine.Applied {
	a.Index, a.Revision, a.Compacted = m.index, m.revision, m.compacted
	a.Leases = m.leaseFacts()
	return a
}

// Unparsed is how many entries, commands and requests of the log did not parse since the start, so that all members
// refuse them.
func (m *Machine) Unparsed() uint64 { return m.unparsed.Load() }

func (m *Machine) leaseFacts() statemachine.LeaseFacts {
	f := m.leases.Facts()
	clock, tick := m.leases.Clock()
	return statemachine.LeaseFacts{
		Count: f.Count, MinTTL: f.MinTTL, Pending: f.Pending, PendingMax: f.PendingMax, Overdue: f.Overdue,
		ClockMS: clock, LastTick: tick,
	}
}

// hashState hashes the state as just published, in the background.
func (m *Machine) hashState() {
	view, err := m.View()
	if err != nil {
		return
	}
	m.hashes.Add(1)
	go func() {
		defer m.hashes.Done()
		defer view.Close()
		h, err := view.StateHash(m.compactor.ctx)
		if err != nil {
			m.log.Warn("state hash not computed", zapIndex(view.AppliedIndex()), zapError(err))
			return
		}
		if m.opts.OnHash != nil {
			m.opts.OnHash(statemachine.Hashed{Index: view.AppliedIndex(), Revision: view.Revision(), Hash: h})
		}
	}()
}

// Flush makes everything applied durable, beside Update.
func (m *Machine) Flush() error { return m.store.flush() }

// Sync makes everything applied durable.
func (m *Machine) Sync() error { return m.store.flush() }

// Lookup is not used: readers take a View.
func (m *Machine) Lookup(any) (any, error) { return nil, errors.ErrUnsupported }

// Close stops the background work and closes the store once its last reader is gone.
func (m *Machine) Close() error {
	m.mu.Lock()
	closed := m.mu.closed
	old := m.mu.state
	m.mu.closed, m.mu.state = true, nil
	m.mu.Unlock()
	if closed || m.store == nil {
		return nil
	}
	if m.compactor != nil {
		m.compactor.stop()
		m.flusher.stop()
		m.hashes.Wait()
	}
	if old != nil {
		old.release()
	}
	return m.store.close()
}

func zapIndex(index uint64) zap.Field { return zap.Uint64("index", index) }
func zapError(err error) zap.Field    { return zap.Error(err) }

// pebbleOptions are the store's. The Raft log is a write-ahead log already, so Pebble writes none: what was applied
// becomes durable when a memtable is flushed, in whole batches and in order, and the applied index in it says from
// where the log has to be applied again.
func (o *storeOptions) pebble(dir string) *pebble.Options {
	p := &pebble.Options{
		FS:                          pebblefs.Wrap(o.fs),
		Comparer:                    mvcc.Comparer,
		DisableWAL:                  true,
		FormatMajorVersion:          pebblefs.Format,
		MemTableSize:                uint64(cmp.Or(o.memory, defaultMemory) / memoryParts),
		MemTableStopWritesThreshold: memtables,
		L0CompactionThreshold:       8, // everything overlaps, so each compaction of L0 rewrites the level below
		L0StopWritesThreshold:       24,
		MaxOpenFiles:                defaultOpenFiles, // where no cache of files has the bound
		CacheSize:                   DefaultCacheBytes,
		Logger: pebblefs.Logger{
			Store: "store " + dir, Log: o.log.Named("pebble"), End: o.end,
		},
	}
	if o.caches != nil {
		p.Cache, p.FileCache = o.caches.blocks, o.caches.files
	}
	p.EventListener = &pebble.EventListener{BackgroundError: pebblefs.BackgroundError(p.Logger)}
	setFilters(p)
	// Reads of old versions are rare, and the latest ones stand in a space of their own: to keep the values of the
	// others apart costs each compaction more than it saves.
	p.Experimental.EnableValueBlocks = func() bool { return false }
	return p
}
