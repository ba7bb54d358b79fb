package statemachine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	sm "github.com/lni/dragonboat/v4/statemachine"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

func memberRow(id uint64, lowest, highest raftv1.Version) raftv1.Command {
	return command(raftv1.KindMemberPut, &raftv1.MemberPut{Member: &raftv1.Member{Id: id, Name: "m", MinVersion: uint32(lowest), MaxVersion: uint32(highest)}})
}

func raise(to raftv1.Version) raftv1.Command {
	return command(raftv1.KindVersionRaise, &raftv1.VersionRaise{Version: uint32(to)})
}

// TestVersionRaise: the version of a cluster is raised by one, and only once every member has announced that it knows it. A replica of
// a release that does not know it applies nothing of that entry, nor lets it into the log.
func TestVersionRaise(t *testing.T) {
	const next = raftv1.MaxVersion + 1
	d := newDriver(t)
	refused := func(why string, c raftv1.Command) {
		t.Helper()
		if err := d.do(c)[0].Err; err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("it is not refused because of %q: %v", why, err)
		}
	}
	refused("no member has announced", raise(next))
	refused("cannot be raised to 1", raise(raftv1.MaxVersion))
	d.do(memberRow(1, 1, next), memberRow(2, 1, raftv1.MaxVersion), command(raftv1.KindMemberPut, &raftv1.MemberPut{Member: &raftv1.Member{Id: 3, Name: "silent"}}))
	refused("2 (m), 3 (silent)", raise(next))
	refused("cannot be raised to 3", raise(next+1))
	d.do(memberRow(2, 1, next), command(raftv1.KindMemberPut, &raftv1.MemberPut{Member: &raftv1.Member{Id: 2, Name: "renamed"}}))
	refused("3 (silent)", raise(next)) // and not 2, of which only the name changed
	d.do(command(raftv1.KindMemberRemove, &raftv1.MemberRemove{Id: 3}))
	if d.m.Version() != raftv1.MaxVersion {
		t.Errorf("the version is %d", d.m.Version())
	}
	if err := d.m.CheckCommand(raise(next)); !errors.Is(err, raftv1.ErrUnknown) {
		t.Errorf("let into the log: %v", err)
	}
	if _, err := d.m.Update([]sm.Entry{d.entry(put("a", "1")), d.entry(raise(next))}); !errors.Is(err, raftv1.ErrUnknown) || !strings.Contains(d.ended, "start this member with the release") {
		t.Errorf("%v; the last line is %q", err, d.ended)
	}
	if d.value("a", 0) != "-" {
		t.Error("something was applied")
	}
}

// TestSnapshotOfALaterVersion: a replica takes no state at a version that its release does not know.
func TestSnapshotOfALaterVersion(t *testing.T) {
	d := newDriver(t)
	d.do(put("a", "1"))
	var stream bytes.Buffer
	if err := d.m.WriteBackup(context.Background(), &stream); err != nil {
		t.Fatal(err)
	}
	magic, rows := len("coordsn1"), stream.Bytes()
	size := int(rows[magic+3]) // of the header
	header := &raftv1.SnapshotHeader{}
	if err := proto.Unmarshal(rows[magic+8:magic+8+size], header); err != nil || header.Version != uint32(raftv1.MaxVersion) {
		t.Fatalf("header %v, %v", header, err)
	}
	header.Version++
	changed := encode(header)
	later := binary.BigEndian.AppendUint32([]byte("coordsn1"), uint32(len(changed)))
	later = binary.BigEndian.AppendUint32(later, crc32.Checksum(changed, crc32.MakeTable(crc32.Castagnoli)))
	later = append(later, changed...)
	later = append(later, rows[magic+8+size:]...)
	for what, err := range map[string]error{"recovered": d.m.RecoverFromSnapshot(bytes.NewReader(later), nil), "checked": func() error {
		_, err := statemachine.CheckSnapshot(bytes.NewReader(later), 1)
		return err
	}()} {
		if !errors.Is(err, statemachine.ErrRelease) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
