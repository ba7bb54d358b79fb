package logstore

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

// The log is in the directory for write-ahead logs, and not begun anew when that
// setting appears later.
func TestPlace(t *testing.T) {
	fs := vfs.NewMem()
	create := func(dirs, wals []string) error {
		db, err := Factory{FS: fs}.Create(config.NodeHostConfig{}, nil, dirs, wals)
		if err == nil {
			err = db.Close()
		}
		return err
	}
	if err := create([]string{"/data"}, []string{"/data"}); err != nil {
		t.Fatal(err)
	}
	if err := create([]string{"/data"}, []string{"/fast"}); err == nil {
		t.Error("a log that is elsewhere was passed over")
	}
	if err := create([]string{"/other"}, []string{"/fast"}); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat("/fast/" + subdir); err != nil {
		t.Error(err)
	}
	if err := create(nil, nil); err == nil {
		t.Error("a store without a directory was created")
	}
}

// A log with a hole is neither written nor read, and a hole stops later writes.
func TestHole(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs, testDir)
	for i := range uint64(5) {
		appendOne(t, s, i+1)
	}
	node := raftio.GetNodeInfo(1, 1)
	if err := s.db.Delete(entryKey(node, 3), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadRaftState(1, 1, 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("entry 3 is missing: %v", err)
	}
	if _, err := s.ReadRaftState(1, 1, 2); !errors.Is(err, ErrDamaged) {
		t.Errorf("entry 3 is missing behind the snapshot: %v", err)
	}
	if rs, err := s.ReadRaftState(1, 1, 3); err != nil || rs.FirstIndex != 4 || rs.EntryCount != 2 {
		t.Errorf("entry 3 is in the snapshot: %+v, %v", rs, err)
	}
	if _, err := s.ReadRaftState(1, 1, 1); !errors.Is(err, ErrDamaged) {
		t.Errorf("entry 3 is missing: %v", err)
	}
	u := pb.Update{ShardID: 1, ReplicaID: 1, EntriesToSave: []pb.Entry{{Index: 7, Term: 1}}}
	for range 2 {
		if err := s.SaveRaftState([]pb.Update{u}, 1); err == nil {
			t.Error("entry 7 was appended to a log that ends at 5")
		}
		u.EntriesToSave[0].Index = 6 // refused too: the store has failed
	}
}
