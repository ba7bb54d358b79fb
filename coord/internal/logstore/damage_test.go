package logstore

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// appendOne saves one entry of 300 bytes.
func appendOne(t testing.TB, s *store, index uint64) {
	t.Helper()
	e := pb.Entry{Index: index, Term: 1, Cmd: make([]byte, 300)}
	for i := range e.Cmd {
		e.Cmd[i] = byte(index + uint64(i))
	}
	u := pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Commit: index - 1}, EntriesToSave: []pb.Entry{e}}
	if err := s.SaveRaftState([]pb.Update{u}, 1); err != nil {
		t.Fatal(err)
	}
}

func files(t testing.TB, fs vfs.FS, want func(name string) bool) (out []string) {
	t.Helper()
	names, err := fs.List(testDir + "/" + subdir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if want(n) {
			out = append(out, testDir+"/"+subdir+"/"+n)
		}
	}
	slices.Sort(out)
	return out
}

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// reopened opens a store that may be damaged and returns where its log ends, or
// the error.
func reopened(fs vfs.FS) (last uint64, err error) {
	db, err := Factory{FS: fs}.Create(config.NodeHostConfig{}, nil, []string{testDir}, []string{testDir})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rs, err := db.ReadRaftState(1, 1, 0)
	if errors.Is(err, raftio.ErrNoSavedLog) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	entries, _, err := db.IterateEntries(nil, 0, 1, 1, 1, rs.EntryCount+1, 1<<40)
	return uint64(len(entries)), err
}

// damage flips a bit, or overwrites up to 20 bytes.
func damage(rng *rand.Rand, b []byte) (at int) {
	at = rng.IntN(len(b))
	if rng.IntN(2) == 0 {
		b[at] ^= 1 << rng.IntN(8)
		return at
	}
	for i := range min(20, len(b)-at) {
		b[at+i] ^= byte(1 + rng.IntN(255))
	}
	return at
}

// Damage of the write-ahead log is found when the store opens, unless it is in
// what was written last: that looks like a torn write and is cut off.
func TestDamagedWAL(t *testing.T) {
	const entries = 300 // more than three blocks
	fs := vfs.NewCrashableMem()
	s := openStore(t, fs, testDir)
	for i := range uint64(entries) {
		appendOne(t, s, i+1)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// An older one may not have been deleted yet.
	log := slices.Max(files(t, crashed, func(n string) bool { return strings.HasSuffix(n, ".log") }))
	wal := readFile(t, crashed, log)
	rng := rand.New(rand.NewPCG(1, 1))
	// A chunk says what was durable when it was made, which is a write or two before
	// its own.
	const ambiguous = 4
	proven := len(wal) - ambiguous*len(wal)/entries
	for range 600 {
		damaged := slices.Clone(wal)
		at := damage(rng, damaged)
		fs := crashed.CrashClone(vfs.CrashCloneCfg{})
		writeFile(t, fs, log, damaged)
		last, err := reopened(fs)
		if at < proven && !errors.Is(err, ErrDamaged) || err == nil && last < entries-ambiguous {
			t.Errorf("byte %d of %d: the log ends at %d of %d, %v", at, len(wal), last, entries, err)
		}
	}
	// A torn end is not damage.
	for range 200 {
		at := rng.IntN(len(wal))
		fs := crashed.CrashClone(vfs.CrashCloneCfg{})
		writeFile(t, fs, log, append(slices.Clone(wal[:at]), make([]byte, rng.IntN(5000))...))
		if last, err := reopened(fs); err != nil || last > uint64(at*entries/len(wal)+2) ||
			at > 1000 && last < uint64(at*entries/len(wal)-2) {
			t.Errorf("torn at byte %d of %d: end %d, %v", at, len(wal), last, err)
		}
	}
}

// The end of a record that a crash tore is not damage of its begin, nor is a
// manifest of which a crash kept some.
func TestTornManifest(t *testing.T) {
	var b bytes.Buffer
	w := record.NewWriter(&b)
	var ends []int
	for _, size := range []int{100, blockSize, 100} {
		if _, err := w.WriteRecord(bytes.Repeat([]byte{7}, size)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, b.Len())
	}
	clear(b.Bytes()[4<<10 : 8<<10]) // a page of the second record
	if at, proof := (chunkFile{data: b.Bytes()[:ends[1]]}).damage(); at != ends[0] || proof != 0 {
		t.Errorf("a torn last record is damage at %d because of %d", at, proof)
	}
	if at, proof := (chunkFile{data: b.Bytes()}).damage(); at != ends[0] || proof != ends[1] {
		t.Errorf("a bad record that another follows is damage at %d because of %d, want %d and %d", at, proof, ends[0],
			ends[1])
	}
	fs := vfs.NewMem()
	s := openStore(t, fs, testDir)
	appendOne(t, s, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, fs, testDir+"/"+subdir+"/MANIFEST-000099", b.Bytes())
	if last, err := reopened(fs); last != 1 || err != nil {
		t.Errorf("beside a manifest that is not in use: end %d, %v", last, err)
	}
}

// Damage of a table, or of the list of tables, does not make entries disappear.
func TestDamagedTables(t *testing.T) {
	const entries = 100
	fs := vfs.NewCrashableMem()
	s := openStore(t, fs, testDir)
	for i := range uint64(entries) {
		appendOne(t, s, i+1)
		if i%10 == 9 {
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// How many tables were compacted and deleted depends on time; none of them comes
	// back.
	d, err := fs.OpenDir(testDir + "/" + subdir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, kind := range []func(string) bool{
		func(n string) bool { return strings.HasPrefix(n, "MANIFEST-") },
		func(n string) bool { return strings.HasSuffix(n, ".sst") },
	} {
		refused := 0
		for range 200 {
			fs := fs.CrashClone(vfs.CrashCloneCfg{})
			names := files(t, fs, kind)
			file := names[rng.IntN(len(names))]
			b := readFile(t, fs, file)
			at := damage(rng, b)
			writeFile(t, fs, file, b)
			last, err := reopened(fs)
			if err == nil && last < entries {
				t.Errorf("byte %d of %d in %s: the log ends at %d of %d", at, len(b), file, last, entries)
			}
			if err != nil {
				refused++
			}
		}
		if refused < 50 { // the older manifest is not in use
			t.Errorf("%d of 200 damaged files were refused", refused)
		}
	}
}
