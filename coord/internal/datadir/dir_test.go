package datadir

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

var testIdentity = Identity{ClusterID: 0xc1, MemberID: 0xa1, Name: "a", PeerURLs: []string{"http://127.0.0.1:2380"}}

var testChoices = map[string]string{"exec shards": "4", "log store": "pebble"}

func options(path string) Options {
	return Options{DataDir: path, Choices: testChoices, Logger: zap.NewNop()}
}

// open opens a directory and closes it when the test ends.
func open(t *testing.T, o Options) *Dir {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// admitted opens a directory, new or not, and brings it to where Raft may run.
func admitted(t *testing.T, o Options, id Identity) *Dir {
	t.Helper()
	d := open(t, o)
	if !d.Fresh() {
		return d
	}
	if err := d.Init(id); err != nil {
		t.Fatal(err)
	}
	if err := d.Introduce(t.Context(), Introduction{}); err != nil {
		t.Fatal(err)
	}
	return d
}

// used is a directory in which Raft has run, closed again.
func used(t *testing.T, o Options) *Dir {
	t.Helper()
	d := admitted(t, o, testIdentity)
	for _, p := range d.parts() {
		mustWrite(t, filepath.Join(p.path, "data"), "x")
	}
	if err := d.MarkPopulated(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

func mustWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// refused opens a directory that must be refused, with an error of a kind and exactly this text.
func refused(t *testing.T, o Options, kind error, want string) {
	t.Helper()
	d, err := Open(o)
	if err == nil {
		d.Close()
		t.Fatalf("opened, want %s", want)
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("error %q is not %q", err, kind)
	}
	if err.Error() != want {
		t.Errorf("error is\n%s, want\n%s", err, want)
	}
}

const fixText = "; remove the member from the cluster, add it again as a learner under a new ID with an empty data " +
	"directory, then promote it"

func TestNewDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "down")
	d := open(t, options(path))
	if !d.Fresh() || d.Boot() != 0 || !d.Incarnation().IsZero() {
		t.Errorf("a new directory has fresh %v, boot %d, incarnation %x", d.Fresh(), d.Boot(), d.Incarnation())
	}
	if err := d.MarkPopulated(); err == nil {
		t.Error("a directory without parts was marked as populated")
	}
	if err := record(d, 2, 3); err == nil {
		t.Error("a peer was noted without a place to note it")
	}
	if err := d.Init(testIdentity); err != nil {
		t.Fatal(err)
	}
	if !d.Fresh() || d.Boot() != 1 || d.Incarnation().IsZero() {
		t.Errorf("after Init: fresh %v, boot %d, incarnation %x", d.Fresh(), d.Boot(), d.Incarnation())
	}
	if err := d.Introduce(t.Context(), Introduction{}); err != nil {
		t.Fatal(err)
	}
	if d.Fresh() || d.Populated() {
		t.Errorf("after it was admitted: fresh %v, populated %v", d.Fresh(), d.Populated())
	}
	if err := d.Init(testIdentity); err == nil {
		t.Error("an admitted directory was given an identity again")
	}
	for _, p := range []string{d.WALPath(), d.DBPath()} {
		if info, err := os.Stat(p); err != nil || !info.IsDir() || !strings.HasPrefix(p, path) {
			t.Errorf("part %s: %v", p, err)
		}
	}
}

func TestReopen(t *testing.T) {
	o := options(t.TempDir())
	first := admitted(t, o, testIdentity)
	if err := record(first, 0xb2, 0x1234); err != nil {
		t.Fatal(err)
	}
	first.Close()
	for boot := uint64(2); boot < 5; boot++ {
		d := open(t, o)
		if d.Fresh() || d.Boot() != boot || d.Incarnation() != first.Incarnation() {
			t.Fatalf("fresh %v, boot %d, incarnation %x; want false, %d, %x", d.Fresh(), d.Boot(), d.Incarnation(),
				boot, first.Incarnation())
		}
		if id := d.Identity(); id.MemberID != 0xa1 || id.ClusterID != 0xc1 || id.Name != "a" ||
			id.PeerURLs[0] != testIdentity.PeerURLs[0] {
			t.Fatalf("identity is %+v", id)
		}
		if !metAs(d, 0xb2, 0x1234) {
			t.Fatal("the peer is not known any more")
		}
		d.Close()
	}
}

func TestRefusedAttemptIsResumedWithTheSameIncarnation(t *testing.T) {
	o := options(t.TempDir())
	d := open(t, o)
	if err := d.Init(testIdentity); err != nil {
		t.Fatal(err)
	}
	first := d.Incarnation()
	d.Close()
	d = open(t, o)
	other := Identity{ClusterID: 0xc1, MemberID: 0xa2, Name: "a"}
	if err := d.Init(other); err != nil {
		t.Fatal(err)
	}
	if d.Incarnation() != first || d.Boot() != 2 || !d.Fresh() || d.Identity().MemberID != 0xa2 {
		t.Errorf("incarnation %x (was %x), boot %d, fresh %v, member %x", d.Incarnation(), first, d.Boot(), d.Fresh(),
			d.Identity().MemberID)
	}
}

func TestAnotherMembersDirectory(t *testing.T) {
	o := options(t.TempDir())
	if d := used(t, o); !d.Populated() {
		t.Error("not populated")
	}
	same := o
	same.Expect = testIdentity
	open(t, same).Close()
	renamed := o
	renamed.Expect = Identity{Name: "b", PeerURLs: testIdentity.PeerURLs}
	open(t, renamed).Close()

	cluster := o
	cluster.Expect = Identity{ClusterID: 0xc2, MemberID: 0xa1}
	refused(t, cluster, ErrOther, `data directory "`+o.DataDir+`" belongs to cluster c1, not to cluster c2 that the flags describe: use this cluster's data directory, or, if members were added or removed since the cluster was founded, set --initial-cluster-state=existing`)
	member := o
	member.Expect = Identity{ClusterID: 0xc1, MemberID: 0xb2, Name: "b"}
	refused(t, member, ErrOther, `data directory "`+o.DataDir+`" belongs to member a1 (a), not to member b2 (b) that the flags describe`)
	stranger := o
	stranger.Expect = Identity{Name: "b", PeerURLs: []string{"http://127.0.0.1:9"}}
	refused(t, stranger, ErrOther, `data directory "`+o.DataDir+`" belongs to member "a" at http://127.0.0.1:2380, not to member "b" at http://127.0.0.1:9`)
}

func TestChoicesAreFixed(t *testing.T) {
	o := options(t.TempDir())
	used(t, o)
	changed := o
	changed.Choices = map[string]string{"exec shards": "16", "log store": "pebble"}
	refused(t, changed, ErrOther, `data directory "`+o.DataDir+`" was created with exec shards "4" and cannot be used with "16": it cannot be changed later`)
	added := o
	added.Choices = map[string]string{"exec shards": "4", "log store": "pebble", "comparer": "c1"}
	refused(t, added, ErrOther, `data directory "`+o.DataDir+`" was created with comparer "" and cannot be used with "c1": it cannot be changed later`)
	dropped := o
	dropped.Choices = map[string]string{"exec shards": "4"}
	refused(t, dropped, ErrOther, `data directory "`+o.DataDir+`" was created with log store "pebble" and cannot be used with "": it cannot be changed later`)
}

func TestPartlyWiped(t *testing.T) {
	for name, tc := range map[string]struct {
		wipe func(t *testing.T, d *Dir)
		want string // DIR stands for the data directory
	}{
		"db removed": {func(t *testing.T, d *Dir) { remove(t, d.DBPath()) },
			`data directory "DIR" is partly wiped: part db at "DIR/member/db" is missing or has lost its file COORD-PART` + fixText},
		"wal removed": {func(t *testing.T, d *Dir) { remove(t, d.WALPath()) },
			`data directory "DIR" is partly wiped: part wal at "DIR/member/wal" is missing or has lost its file COORD-PART (was --wal-dir changed?)` + fixText},
		"wal emptied": {func(t *testing.T, d *Dir) {
			remove(t, filepath.Join(d.WALPath(), markerFile))
			remove(t, filepath.Join(d.WALPath(), "data"))
		},
			`data directory "DIR" is partly wiped: part wal at "DIR/member/wal" is missing or has lost its file COORD-PART (was --wal-dir changed?)` + fixText},
		"db emptied but for the marker": {func(t *testing.T, d *Dir) { remove(t, filepath.Join(d.DBPath(), "data")) },
			`data directory "DIR" is partly wiped: part db at "DIR/member/db" is empty` + fixText},
		"metadata removed": {func(t *testing.T, d *Dir) { remove(t, d.metaPath()) },
			`data directory "DIR" is partly wiped: "DIR/member/meta.json" is missing while part db at "DIR/member/db" exists` + fixText},
		"metadata and marker removed": {func(t *testing.T, d *Dir) {
			remove(t, d.metaPath())
			remove(t, d.DBPath())
			remove(t, filepath.Join(d.WALPath(), markerFile))
		}, `data directory "DIR" is partly wiped: "DIR/member/meta.json" is missing while part wal at "DIR/member/wal" exists` + fixText},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			tc.wipe(t, used(t, o))
			want := strings.ReplaceAll(tc.want, "DIR", o.DataDir)
			refused(t, o, ErrWiped, want)
			refused(t, o, ErrWiped, want) // refusing changes nothing
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func TestWipedWithALogElsewhere(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "data"))
	o.WALDir = filepath.Join(t.TempDir(), "wal")
	d := used(t, o)
	if d.WALPath() != o.WALDir {
		t.Fatalf("wal is at %s, want %s", d.WALPath(), o.WALDir)
	}
	remove(t, o.DataDir)
	refused(t, o, ErrWiped, `data directory "`+o.DataDir+`" is partly wiped: "`+d.metaPath()+`" is missing while part wal at "`+o.WALDir+`" exists`+fixText)
}

func TestPartOfAnotherDirectory(t *testing.T) {
	a, b := options(t.TempDir()), options(t.TempDir())
	da, db := used(t, a), used(t, b)
	remove(t, da.DBPath())
	if err := os.Rename(db.DBPath(), da.DBPath()); err != nil {
		t.Fatal(err)
	}
	incarnation := da.Incarnation().String()
	refused(t, a, ErrWiped, `data directory "`+a.DataDir+`" is inconsistent: part db at "`+da.DBPath()+`" was made for another data directory (its marker is not of incarnation `+incarnation+`); if it was wiped or replaced`+strings.Replace(fixText, ";", ",", 1))
}

func TestSharedLogDirectory(t *testing.T) {
	a, b := options(t.TempDir()), options(t.TempDir())
	a.WALDir = t.TempDir()
	b.WALDir = a.WALDir
	d := open(t, b)
	used(t, a)
	err := d.Init(Identity{ClusterID: 0xc1, MemberID: 0xb2})
	if !errors.Is(err, ErrWiped) || !strings.Contains(err.Error(), "was made for another data directory") {
		t.Errorf("a log directory that another member uses: %v", err)
	}
}

func TestForeignFilesInANewPart(t *testing.T) {
	o := options(t.TempDir())
	o.WALDir = t.TempDir()
	d := open(t, o)
	mustWrite(t, filepath.Join(o.WALDir, "0.wal"), "x")
	want := `part wal at "` + o.WALDir + `" already holds data (0.wal) but the data directory is new: it belongs to another member, or the rest of its data directory was wiped; use an empty directory, or ` + strings.TrimPrefix(fixText, "; ")
	if err := d.Init(testIdentity); err == nil || err.Error() != want {
		t.Errorf("error is\n%v, want\n%s", err, want)
	}
}

func TestEtcdsDirectory(t *testing.T) {
	o := options(t.TempDir())
	if err := os.MkdirAll(filepath.Join(o.DataDir, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, o, ErrOther, `data directory "`+o.DataDir+`" was written by etcd: coord cannot read it, use another --data-dir`)
}

func TestDamagedMetadata(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(string) string
		want   string
	}{
		"empty": {func(s string) string { return "" }, "it is truncated or not metadata: EOF"},
		"half": {func(s string) string { return s[:len(s)/2] },
			"it is truncated or not metadata: unexpected EOF"},
		"edited":      {func(s string) string { return strings.Replace(s, `"boot":1`, `"boot":7`, 1) }, ""},
		"other file":  {func(s string) string { return `{"a":1}` }, `it is truncated or not metadata: json: unknown field "a"`},
		"more follow": {func(s string) string { return s + s }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t.TempDir())
			d := used(t, o)
			b, err := os.ReadFile(d.metaPath())
			if err != nil {
				t.Fatal(err)
			}
			mustWrite(t, d.metaPath(), tc.damage(string(b)))
			_, err = Open(o)
			prefix := `data directory "` + o.DataDir + `" is damaged: "` + d.metaPath() + `" cannot be used: ` + tc.want
			if !errors.Is(err, ErrCorrupt) || !strings.HasPrefix(err.Error(), prefix) ||
				!strings.HasSuffix(err.Error(), "; restore it, or "+fix) {
				t.Errorf("error is\n%v, want\n%s…", err, prefix)
			}
		})
	}
}

func TestNewerFormat(t *testing.T) {
	m := metadata{Format: formatVersion + 1, ClusterID: 1, MemberID: 2, Incarnation: secret{incarnation(3)}, Boot: 4}
	b, err := encodeMeta(m)
	if err != nil {
		t.Fatal(err)
	}
	want := "it has format 4, this version of coord reads format 3"
	if _, err := decodeMeta(b); err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// TestDirectoryOfAnotherFormat: it is not called damaged, which it is not, and nothing in it changes.
func TestDirectoryOfAnotherFormat(t *testing.T) {
	o := options(t.TempDir())
	d := used(t, o)
	m := d.current()
	m.Format = 2
	b, err := encodeMeta(m)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, d.metaPath(), string(b))
	mustWrite(t, filepath.Join(d.DBPath(), "CURRENT"), "000001.db\n") // where the store was then
	before := contentsOf(t, o.DataDir)
	says := `data directory "` + o.DataDir + `" was written by another release of coord: "` + d.metaPath() +
		`": it has format 2, this version of coord reads format 3; nothing in it was changed: start the release that ` +
		`wrote it, or use another --data-dir`
	refused(t, o, ErrOther, says)
	err = RefuseCommand(o.DataDir, o.WALDir, "7.1", zap.NewNop(), func(*Dir) error { t.Error("asked"); return nil })
	if err == nil || err.Error() != says {
		t.Errorf("refuse-command: %v", err)
	}
	if after := contentsOf(t, o.DataDir); !maps.Equal(before, after) {
		t.Errorf("was %v, is %v", before, after)
	}
}

// contentsOf are the files below a directory.
func contentsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestCrashDuringFirstStart stops the first start after every durable state it goes through: the next start always
// continues, and never takes the directory for a wiped one.
func TestCrashDuringFirstStart(t *testing.T) {
	crashes := newCrashFS()
	o := Options{DataDir: "/data/x", Choices: testChoices, Logger: zap.NewNop(), FS: crashes}
	d := admitted(t, o, testIdentity)
	if err := record(d, 7, 70); err != nil {
		t.Fatal(err)
	}
	final := crashes.crash()
	if len(crashes.states) < 10 {
		t.Fatalf("only %d states were seen", len(crashes.states))
	}
	incarnations := map[handshake.Incarnation]bool{}
	for i, state := range crashes.states {
		o.FS = state
		again := admitted(t, o, testIdentity)
		if again.Boot() == 0 || again.Boot() > 2 {
			t.Errorf("crash %d: boot %d", i, again.Boot())
		}
		incarnations[again.Incarnation()] = true
	}
	if len(incarnations) < 2 || !incarnations[d.Incarnation()] {
		t.Errorf("crashes before and after the first write gave incarnations %v", incarnations)
	}
	o.FS = final
	last := admitted(t, o, testIdentity)
	if last.Boot() != 2 || !metAs(last, 7, 70) {
		t.Errorf("what was acknowledged is lost: boot %d", last.Boot())
	}
}

// TestAcknowledgedIsDurable loses all that was not synced after each call that returned.
func TestAcknowledgedIsDurable(t *testing.T) {
	mem := vfs.NewCrashableMem()
	o := Options{DataDir: "/data", Logger: zap.NewNop(), FS: mem}
	crash := func(t *testing.T) *Dir {
		o := o
		o.FS = mem.CrashClone(vfs.CrashCloneCfg{})
		return open(t, o)
	}
	d := open(t, o)
	if err := d.Init(testIdentity); err != nil {
		t.Fatal(err)
	}
	if c := crash(t); c.Incarnation() != d.Incarnation() || !c.Fresh() {
		t.Errorf("after Init and a crash: incarnation %x, fresh %v", c.Incarnation(), c.Fresh())
	}
	if err := d.Introduce(t.Context(), Introduction{}); err != nil {
		t.Fatal(err)
	}
	if c := crash(t); c.Fresh() || c.Boot() != 2 {
		t.Errorf("after Introduce and a crash: fresh %v, boot %d", c.Fresh(), c.Boot())
	}
	if err := record(d, 7, 70); err != nil {
		t.Fatal(err)
	}
	if !metAs(crash(t), 7, 70) {
		t.Error("after Record and a crash a member is not known any more")
	}
	if err := d.ForgetPeer(7); err != nil {
		t.Fatal(err)
	}
	if metAs(crash(t), 7, 70) {
		t.Error("after ForgetPeer and a crash a member is known again")
	}
	mem = mem.CrashClone(vfs.CrashCloneCfg{})
	o.FS = mem
	open(t, o)
	if c := crash(t); c.Boot() != 3 {
		t.Errorf("after a second start and a crash: boot %d, want 3", c.Boot())
	}
}
