package datadir

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

const (
	lockFile    = "LOCK"
	metaFile    = "meta.json"
	ballastFile = "ballast"
)

// Identity is who a member is.
type Identity struct {
	ClusterID uint64
	MemberID  uint64
	Name      string
	// PeerURLs is where the other members reach this one.
	PeerURLs []string
}

// Options says which directory to open and what it must be.
type Options struct {
	// DataDir is created if it does not exist.
	DataDir string
	// WALDir, if set, is the part "wal" instead of a folder in DataDir.
	WALDir string
	// Choices are recorded when the directory is created, and must be the same ever after: name → value.
	Choices map[string]string
	// Expect is who the caller takes the member for. A ClusterID or MemberID that is not 0 must be the recorded one; a
	// directory recorded under another Name and other PeerURLs as well is refused. Nothing is compared with a directory
	// that is Fresh.
	Expect Identity
	// Logger is required.
	Logger *zap.Logger
	// FS is the file system; the machine's if nil. Only on the machine's the directory is locked.
	FS vfs.FS
}

// A Dir is an open data directory. It is safe for concurrent use.
type Dir struct {
	path, walDir string
	choices      map[string]string
	fs           vfs.FS
	log          *zap.Logger
	lock         io.Closer

	// mu guards meta and closed, and is held while meta is written: that is rare, and the order of the writes must be
	// that of the changes. Cluster.Members is called under it. meta is nil until the directory was given an identity;
	// it is replaced as a whole, never changed.
	mu     sync.Mutex
	meta   *metadata
	closed bool
	// start was drawn when the directory was opened.
	start uint64
}

// Open opens a member's data directory, creating and locking it. It refuses, with one of this package's errors, a
// directory that is in use, damaged, incomplete, or of another member. The boot counter of a directory that was
// admitted has been incremented durably when Open returns. Close the Dir when all that uses it is closed.
func Open(o Options) (*Dir, error) {
	start, err := handshake.NewStart()
	if err != nil {
		return nil, err
	}
	d := &Dir{path: o.DataDir, walDir: o.WALDir, choices: maps.Clone(o.Choices), fs: o.FS, log: o.Logger, start: start}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	if err := d.load(o.Expect); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// prepare makes the directory itself and takes its lock.
func (d *Dir) prepare() (err error) {
	lock := func() (io.Closer, error) { return lockDir(d.path) }
	if d.fs != nil {
		lock = func() (io.Closer, error) { return io.NopCloser(nil), nil }
	} else {
		d.fs = vfs.Default
	}
	if err := makeDir(d.fs, d.memberPath()); err != nil {
		return fmt.Errorf("create data directory %q: %w", d.path, err)
	}
	d.lock, err = lock()
	return err
}

// load reads and checks what is there.
func (d *Dir) load(expect Identity) error {
	b, err := readFile(d.fs, d.metaPath())
	if errors.Is(err, os.ErrNotExist) {
		return d.checkNoRemains()
	}
	if err != nil {
		return fmt.Errorf("read data directory %q: %w", d.path, err)
	}
	m, err := decodeMeta(b)
	if err != nil {
		return d.unusable(err)
	}
	if err := d.checkMeta(&m, expect); err != nil {
		return err
	}
	d.meta = &m
	if !m.Admitted {
		return nil
	}
	return d.update(func(m *metadata) { m.Boot++ })
}

// unusable is what to say of metadata that decodeMeta refuses. Nothing is wrong with a directory of another format, and
// who is told to throw it away may have no other.
func (d *Dir) unusable(err error) error {
	var other *formatError
	if errors.As(err, &other) {
		return refuse(ErrOther, "data directory %q was written by another release of coord: %q: %v; nothing in it was "+
			"changed: start the release that wrote it, or use another --data-dir", d.path, d.metaPath(), err)
	}
	return refuse(ErrCorrupt, "data directory %q is damaged: %q cannot be used: %v; restore it, or %s", d.path,
		d.metaPath(), err, fix)
}

// checkMeta compares the metadata with the rest of the directory and with what the caller expects. A directory that was
// never admitted holds nothing yet that must be kept, so Init may still change who it belongs to.
func (d *Dir) checkMeta(m *metadata, expect Identity) error {
	if !m.Admitted {
		return nil
	}
	if err := d.checkIdentity(m, expect); err != nil {
		return err
	}
	if err := d.checkChoices(m); err != nil {
		return err
	}
	return d.checkParts(m)
}

func (d *Dir) checkIdentity(m *metadata, expect Identity) error {
	if id := hexID(expect.ClusterID); id != 0 && id != m.ClusterID {
		return refuse(ErrOther, "data directory %q belongs to cluster %s, not to cluster %s that the flags describe: "+
			"use this cluster's data directory, or, if members were added or removed since the cluster was founded, "+
			"set --initial-cluster-state=existing", d.path, m.ClusterID, id)
	}
	if id := hexID(expect.MemberID); id != 0 && id != m.MemberID {
		return refuse(ErrOther, "data directory %q belongs to member %s (%s), not to member %s (%s) that the flags "+
			"describe", d.path, m.MemberID, m.Name, id, expect.Name)
	}
	renamed := expect.Name != "" && expect.Name != m.Name
	moved := len(expect.PeerURLs) > 0 && !sameURLs(expect.PeerURLs, m.PeerURLs)
	if renamed && moved {
		return refuse(ErrOther, "data directory %q belongs to member %q at %s, not to member %q at %s", d.path, m.Name,
			strings.Join(m.PeerURLs, ","), expect.Name, strings.Join(expect.PeerURLs, ","))
	}
	return nil
}

func sameURLs(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func (d *Dir) checkChoices(m *metadata) error {
	names := slices.Collect(maps.Keys(m.Choices))
	for name := range d.choices {
		if _, ok := m.Choices[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if had, want := m.Choices[name], d.choices[name]; had != want {
			return refuse(ErrOther, "data directory %q was created with %s %q and cannot be used with %q: it cannot "+
				"be changed later", d.path, name, had, want)
		}
	}
	return nil
}

// Init gives a Fresh directory its identity, creates its parts and counts the boot. Interrupted or refused attempts are
// resumed: the incarnation stays. The Dir stays Fresh until it was admitted.
func (d *Dir) Init(id Identity) error {
	if !d.Fresh() {
		return fmt.Errorf("data directory %q already belongs to member %s", d.path, hexID(d.Identity().MemberID))
	}
	if id.ClusterID == 0 || id.MemberID == 0 {
		return fmt.Errorf("data directory %q: cluster id %x and member id %x must not be 0", d.path, id.ClusterID,
			id.MemberID)
	}
	m, err := d.newMeta(id)
	if err != nil {
		return err
	}
	// The metadata comes first, without the parts: a part without metadata is a wiped directory.
	if err := d.store(m); err != nil {
		return err
	}
	for _, p := range d.parts() {
		if err := d.createPart(p, m.Incarnation.Incarnation); err != nil {
			return err
		}
	}
	return d.update(func(m *metadata) { m.Parts = []string{partDB, partWAL} })
}

// newMeta is the metadata of a directory that just got its identity.
func (d *Dir) newMeta(id Identity) (metadata, error) {
	m := metadata{
		Format: formatVersion, ClusterID: hexID(id.ClusterID), MemberID: hexID(id.MemberID), Name: id.Name,
		PeerURLs: slices.Clone(id.PeerURLs), Boot: 1, Choices: d.choices, Peers: map[hexID]acquaintance{},
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta != nil {
		m.Incarnation, m.Boot, m.Parts = d.meta.Incarnation, d.meta.Boot+1, d.meta.Parts
		if d.meta.ClusterID == m.ClusterID {
			m.Peers = d.meta.Peers
		}
		return m, nil
	}
	var err error
	m.Incarnation.Incarnation, err = handshake.NewIncarnation()
	return m, err
}

// admit records that the member may take part in Raft.
func (d *Dir) admit() error {
	return d.update(func(m *metadata) { m.Admitted = true })
}

// MarkPopulated records that both parts hold data now, so that an empty one is known to be wiped. Call it once the
// member's Raft log and store are open; it writes only the first time.
func (d *Dir) MarkPopulated() error {
	for _, p := range d.parts() {
		held, err := d.contents(p)
		if err != nil {
			return err
		}
		if len(held) == 0 {
			return fmt.Errorf("data directory %q: part %s at %q is still empty", d.path, p.name, p.path)
		}
	}
	if d.current().Populated {
		return nil
	}
	return d.update(func(m *metadata) { m.Populated = true })
}

// update changes the metadata durably, or not at all if it fails.
func (d *Dir) update(change func(*metadata)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta == nil {
		return d.noIdentity()
	}
	m := d.meta.clone()
	change(&m)
	return d.storeLocked(m)
}

func (d *Dir) noIdentity() error {
	return fmt.Errorf("data directory %q has no identity yet", d.path)
}

func (d *Dir) store(m metadata) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.storeLocked(m)
}

func (d *Dir) storeLocked(m metadata) error {
	if d.closed { // the lock is given up: the directory may be another process' by now
		return fmt.Errorf("write %q: the data directory was closed", d.metaPath())
	}
	b, err := encodeMeta(m)
	if err != nil {
		return fmt.Errorf("encode %q: %w", d.metaPath(), err)
	}
	err = writeFile(d.fs, d.metaPath(), b)
	if errors.Is(err, syscall.ENOSPC) {
		// This is what the ballast is for: all of it if the disk was filled while no member ran, else its last part,
		// see Watchdog.
		if d.fs.Remove(d.BallastPath()) == nil {
			err = writeFile(d.fs, d.metaPath(), b)
		}
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", d.metaPath(), err)
	}
	d.meta = &m
	return nil
}

// current is the metadata as last written, or none; it is never changed.
func (d *Dir) current() metadata {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta == nil {
		return metadata{}
	}
	return *d.meta
}

// Fresh reports whether the member has never been admitted to Raft from this directory. A Fresh directory needs Init
// and Introduce before Raft may start.
func (d *Dir) Fresh() bool { return !d.current().Admitted }

// Populated reports whether MarkPopulated ever succeeded. A directory that is neither Fresh nor Populated was admitted
// but crashed before Raft had surely stored who its members are: start Raft as for a Fresh one, founding or joining.
func (d *Dir) Populated() bool { return d.current().Populated }

// Boot is the number of the current start, from 1, and never the same again. It is 0 before Init.
func (d *Dir) Boot() uint64 { return d.current().Boot }

// Start is a random number that names the current start beside Boot: a copy of the directory may count the same boot.
func (d *Dir) Start() uint64 { return d.start }

// Incarnation tells this directory from every other one the member has ever had, and proves to the peers that this is
// it. It is zero before Init.
func (d *Dir) Incarnation() handshake.Incarnation { return d.current().Incarnation.Incarnation }

// Identity is who the directory belongs to, and zero before Init. Of a directory from an earlier start that is still
// Fresh it is who it was meant for.
func (d *Dir) Identity() Identity {
	m := d.current()
	return Identity{
		ClusterID: uint64(m.ClusterID), MemberID: uint64(m.MemberID), Name: m.Name, PeerURLs: slices.Clone(m.PeerURLs),
	}
}

// WALPath is where Dragonboat keeps its files. It exists after Init.
func (d *Dir) WALPath() string {
	if d.walDir != "" {
		return d.walDir
	}
	return d.fs.PathJoin(d.memberPath(), partWAL)
}

// StorePath is where the state machine of a shard keeps its files, below DBPath.
func (d *Dir) StorePath(shard uint64) string {
	return d.fs.PathJoin(d.DBPath(), strconv.FormatUint(shard, 10))
}

// DBPath is where all state machines keep their files. It exists after Init.
func (d *Dir) DBPath() string { return d.fs.PathJoin(d.memberPath(), partDB) }

// BallastPath is where the Watchdog's ballast belongs.
func (d *Dir) BallastPath() string { return d.fs.PathJoin(d.memberPath(), ballastFile) }

func (d *Dir) memberPath() string { return d.fs.PathJoin(d.path, "member") }

func (d *Dir) metaPath() string { return d.fs.PathJoin(d.memberPath(), metaFile) }

// Close gives up the lock. Nothing may use the directory afterwards.
func (d *Dir) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	if d.lock == nil {
		return nil
	}
	return d.lock.Close()
}
