package machine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

func memberRow(id uint64, lowest, highest raftv1.Version) raftv1.Command {
	return command(raftv1.KindMemberPut, &raftv1.MemberPut{
		Member: &raftv1.Member{Id: id, Name: "m", MinVersion: uint32(lowest), MaxVersion: uint32(highest)},
	})
}

func raise(to raftv1.Version) raftv1.Command {
	return command(raftv1.KindVersionRaise, &raftv1.VersionRaise{Version: uint32(to)})
}

// TestVersionRaise: the version of a cluster is raised by one, and only once every member has announced that it knows
// it. A replica of a release that does not know it applies nothing of that entry, nor lets it into the log.
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
	d.do(memberRow(1, 1, next), memberRow(2, 1, raftv1.MaxVersion),
		command(raftv1.KindMemberPut, &raftv1.MemberPut{Member: &raftv1.Member{Id: 3, Name: "silent"}}))
	refused("2 (m), 3 (silent)", raise(next))
	refused("cannot be raised to 3", raise(next+1))
	d.do(memberRow(2, 1, next),
		command(raftv1.KindMemberPut, &raftv1.MemberPut{Member: &raftv1.Member{Id: 2, Name: "renamed"}}))
	refused("3 (silent)", raise(next)) // and not 2, of which only the name changed
	d.do(command(raftv1.KindMemberRemove, &raftv1.MemberRemove{Id: 3}))
	if d.m.Version() != raftv1.MaxVersion {
		t.Errorf("the version is %d", d.m.Version())
	}
	if err := d.m.CheckCommand(raise(next)); !errors.Is(err, raftv1.ErrUnknown) {
		t.Errorf("let into the log: %v", err)
	}
	_, err := d.m.Update([]sm.Entry{d.entry(put("a", "1")), d.entry(raise(next))})
	if !errors.Is(err, raftv1.ErrUnknown) || !strings.Contains(d.ended, "start this member with the release") {
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
	if err := proto.Unmarshal(rows[magic+8:magic+8+size], header); err != nil ||
		header.Version != uint32(raftv1.MaxVersion) {
		t.Fatalf("header %v, %v", header, err)
	}
	header.Version++
	changed := encode(header)
	later := binary.BigEndian.AppendUint32([]byte("coordsn1"), uint32(len(changed)))
	later = binary.BigEndian.AppendUint32(later, crc32.Checksum(changed, crc32.MakeTable(crc32.Castagnoli)))
	later = append(later, changed...)
	later = append(later, rows[magic+8+size:]...)
	for what, err := range map[string]error{"recovered": d.m.RecoverFromSnapshot(bytes.NewReader(later), nil),
		"checked": func() error {
			_, err := machine.CheckSnapshot(bytes.NewReader(later), 1)
			return err
		}()} {
		if !errors.Is(err, machine.ErrRelease) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestEarlyIsNotObeyed: what the cluster's version does not have is refused where it would be proposed, and if it is in
// the log all the same nothing of it happens: a member of the release before would end at it. A field is as if nobody
// had set it.
func TestEarlyIsNotObeyed(t *testing.T) {
	const next = raftv1.MaxVersion + 1
	d := &driver{t: t, fs: vfs.NewCrashableMem(),
		with: []statemachine.Procedure{procedure{name: "test", run: func(s statemachine.Step) error {
			_, err := s.Put([]byte("called"), nil, 0)
			return err
		}}}, since: map[string]raftv1.Version{
			"test": next, "KIND_PUT": next, "Alarm": next, "etcdserverpb.PutRequest.prev_kv": next,
		}}
	d.open()
	t.Cleanup(func() { d.m.Close() })
	d.do(beginHistory(1))
	s := d.openSession(7, 1000, 9)
	for what, c := range map[string]raftv1.Command{
		"test": call("test"), "Alarm": command(raftv1.KindAlarm, &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, MemberID: 1, Alarm: pb.AlarmType_NOSPACE,
		}),
		"KIND_PUT": s.command(putRequest(1, "requested", "1")),
	} {
		want := fmt.Sprintf("%s needs version %d", what, next)
		if _, err := d.m.CheckProposal(c); !errors.Is(err, raftv1.ErrEarly) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is proposed: %v", what, err)
		}
		if err := d.do(c)[0].Err; !errors.Is(err, statemachine.ErrInvalid) || !errors.Is(err, raftv1.ErrEarly) {
			t.Errorf("%s is obeyed: %v", what, err)
		}
	}
	d.do(put("a", "1"))
	with, without := command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a"), PrevKv: true}),
		command(raftv1.KindPut, &pb.PutRequest{Key: []byte("a")})
	if r := d.do(with)[0].Response.(*pb.PutResponse); r.PrevKv != nil {
		t.Errorf("the early field is obeyed: %v", r)
	}
	if c, err := d.m.CheckProposal(with); err != nil || !bytes.Equal(c.Body, without.Body) {
		t.Errorf("the early field is proposed: %x, %v", c.Body, err)
	}
	for _, key := range []string{"called", "requested"} {
		if d.value(key, 0) != "-" {
			t.Errorf("%s was written", key)
		}
	}
}
