package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine/machine"
)

func TestStatus(t *testing.T) {
	f := serve(t)
	client := pb.NewMaintenanceClient(f.conn)
	got, err := client.Status(t.Context(), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, got.Header, 1)
	if got.Version != "3.7.3" || got.StorageVersion != "3.7.0" || got.DbSize <= 0 || got.DbSizeInUse <= 0 ||
		got.DbSizeQuota != 2<<30 {
		t.Errorf("versions and sizes: %v", got)
	}
	if got.Leader != testMember || got.RaftTerm != testTerm || got.RaftIndex != 12 || got.RaftAppliedIndex != 11 {
		t.Errorf("raft: %v", got)
	}
	if got.IsLearner || len(got.Errors) != 0 || got.DowngradeInfo == nil || got.DowngradeInfo.Enabled {
		t.Errorf("state: %v", got)
	}

	f.setStatus(func(s *Status) { s.Leader, s.Learner = 0, true })
	alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: pb.AlarmType_NOSPACE}
	if _, err := propose[*pb.AlarmResponse](t.Context(), f.server.system, raftv1.KindAlarm, alarm); err != nil {
		t.Fatal(err)
	}
	if got, err = client.Status(t.Context(), &pb.StatusRequest{}); err != nil {
		t.Fatal(err)
	}
	if !got.IsLearner || len(got.Errors) != 2 || got.Errors[0] != "etcdserver: no leader" ||
		!strings.Contains(got.Errors[1], "NOSPACE") {
		t.Errorf("errors %q, learner %v", got.Errors, got.IsLearner)
	}
}

func TestAlarm(t *testing.T) {
	f := serve(t)
	client, ctx := pb.NewMaintenanceClient(f.conn), t.Context()
	raise := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: pb.AlarmType_NOSPACE}
	if _, err := client.Alarm(ctx, raise); err != nil {
		t.Fatal(err)
	}
	_, err := f.kv.Put(ctx, &pb.PutRequest{Key: key("a")})
	wants{codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"}.check(t, err)
	raise.Action = pb.AlarmRequest_DEACTIVATE
	got, err := client.Alarm(ctx, raise)
	if err != nil || len(got.Alarms) != 1 || got.Alarms[0].MemberID != 5 {
		t.Errorf("deactivated %v, %v", got, err)
	}
	checkHeader(t, got.Header, 1)
	f.put(t, "a", "")
}

func TestHashes(t *testing.T) {
	f := serve(t)
	client, ctx := pb.NewMaintenanceClient(f.conn), t.Context()
	for _, v := range []string{"1", "2", "3", "4"} {
		f.put(t, "a", v)
	}
	old, err := client.HashKV(ctx, &pb.HashKVRequest{Revision: 4})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, old.Header, 5)
	if old.HashRevision != 4 || old.CompactRevision != -1 {
		t.Errorf("hash of revision 4: %v", old)
	}
	now, err := client.HashKV(ctx, &pb.HashKVRequest{})
	if err != nil || now.HashRevision != 5 || now.Hash == old.Hash {
		t.Errorf("hash of now: %v, %v", now, err)
	}
	if _, err := f.kv.Compact(ctx, &pb.CompactionRequest{Revision: 4}); err != nil {
		t.Fatal(err)
	}
	_, err = client.HashKV(ctx, &pb.HashKVRequest{Revision: 3})
	wants{codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"}.check(t, err)
	_, err = client.HashKV(ctx, &pb.HashKVRequest{Revision: 30})
	wants{codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"}.check(t, err)

	before, err := client.Hash(ctx, &pb.HashRequest{})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, before.Header, 5)
	f.put(t, "a", "5")
	if after, err := client.Hash(ctx, &pb.HashRequest{}); err != nil || after.Hash == before.Hash {
		t.Errorf("hash %v after another put, %v before it; %v", after, before, err)
	}
}

// A saved snapshot is what etcd's tools take for one, its hash is right, and the state machine can restore it.
func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	f := serve(t, func(o *serverOptions) { o.SpoolDir = dir })
	big := strings.Repeat("v", 100_000)
	f.put(t, "a", big)
	f.put(t, "b", "small")
	stream, err := pb.NewMaintenanceClient(f.conn).Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var blobs [][]byte
	var remaining []uint64
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if part.Version != "3.7.0" {
			t.Errorf("version %q", part.Version)
		}
		blobs, remaining = append(blobs, part.Blob), append(remaining, part.RemainingBytes)
	}
	trailer := blobs[len(blobs)-1]
	data := bytes.Join(blobs[:len(blobs)-1], nil)
	if hash := sha256.Sum256(data); !bytes.Equal(trailer, hash[:]) {
		t.Errorf("the trailer %x is not the hash of the rest", trailer)
	}
	if len(data) < len(big) || len(data)%512 != 0 {
		t.Errorf("%d bytes", len(data))
	}
	left := uint64(len(data))
	for i, blob := range blobs[:len(blobs)-1] {
		left -= uint64(len(blob))
		if remaining[i] != left || len(blob) > 32<<10 {
			t.Errorf("part %d has %d bytes and says that %d remain, not %d", i, len(blob), remaining[i], left)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	checkRestores(t, data)
}

func checkRestores(t *testing.T, data []byte) {
	t.Helper()
	m := machine.New(machine.Options{Dir: "restored", FS: vfs.NewMem(), Shard: 1, Member: testMember, Boot: 1})
	if _, err := m.Open(nil); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.RecoverFromSnapshot(bytes.NewReader(data), nil); err != nil {
		t.Fatal(err)
	}
	view, err := m.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if kv, err := view.Get(key("b")); err != nil || kv == nil || string(kv.Value) != "small" || view.Revision() != 3 {
		t.Errorf("restored %v at revision %d, %v", kv, view.Revision(), err)
	}
}

// failingBackup fails in the middle.
type failingBackup struct{ *machineBackend }

func (failingBackup) WriteBackup(_ context.Context, w io.Writer) error {
	_, _ = w.Write(make([]byte, 1000))
	return errors.New("disk on fire")
}

func TestSnapshotFails(t *testing.T) {
	dir := t.TempDir()
	f := serve(t, func(o *serverOptions) { o.SpoolDir = dir; o.Backend = failingBackup{o.Backend.(*machineBackend)} })
	stream, err := pb.NewMaintenanceClient(f.conn).Snapshot(t.Context(), &pb.SnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wants{codes.Unknown, "write a snapshot: disk on fire"}.check(t, err)
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestMoveLeader(t *testing.T) {
	f := serve(t)
	f.members = append(f.members, &pb.Member{ID: 2, Name: "b"}, &pb.Member{ID: 3, IsLearner: true})
	client, ctx := pb.NewMaintenanceClient(f.conn), t.Context()
	bad := wants{codes.FailedPrecondition, "etcdserver: bad leader transferee"}
	for _, id := range []uint64{3, 4} {
		_, err := client.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: id})
		bad.check(t, err)
	}
	got, err := client.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 2})
	if err != nil || got.Header != nil || len(f.changes) != 1 {
		t.Errorf("%v, %v, changes %v", got, err, f.changes)
	}
	_, err = client.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: testMember})
	wants{codes.FailedPrecondition, "etcdserver: not leader"}.check(t, err)
}

func TestDefragmentHasNoHeader(t *testing.T) {
	f := serve(t)
	got, err := pb.NewMaintenanceClient(f.conn).Defragment(t.Context(), &pb.DefragmentRequest{})
	if err != nil || got.Header != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestDowngrade(t *testing.T) {
	f := serve(t)
	client, ctx := pb.NewMaintenanceClient(f.conn), t.Context()
	invalid := wants{codes.InvalidArgument, "etcdserver: invalid downgrade target version"}
	malformed := wants{codes.InvalidArgument, "etcdserver: wrong downgrade target version format"}
	for version, want := range map[string]wants{
		"3.6": invalid, "3.6.0": invalid, "3.7": invalid, "": malformed, "three": malformed,
	} {
		for _, action := range []pb.DowngradeRequest_DowngradeAction{pb.DowngradeRequest_VALIDATE,
			pb.DowngradeRequest_ENABLE} {
			_, err := client.Downgrade(ctx, &pb.DowngradeRequest{Action: action, Version: version})
			want.check(t, err)
		}
	}
	got, err := client.Downgrade(ctx, &pb.DowngradeRequest{Action: pb.DowngradeRequest_CANCEL})
	if err != nil || got.Version != "3.7" {
		t.Errorf("cancel: %v, %v", got, err)
	}
	_, err = client.Downgrade(ctx, &pb.DowngradeRequest{Action: 9})
	wants{codes.Unknown, "etcdserver: unknown method"}.check(t, err)
}
