package difftest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// scripted is a pair under a fixed list of calls: what random sequences cannot do, because it changes the cluster or is
// about one server at a time.
type scripted struct {
	*run
	t *testing.T
	// learner holds the id each server gave the learner.
	learner map[*target]uint64
}

func newScripted(t *testing.T) *scripted {
	p, stop, err := newPair(t, startSubject)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return &scripted{run: &run{pair: p, cov: newCoverage(), dice: newDice(1)}, t: t, learner: map[*target]uint64{}}
}

// call makes a call whose request is the same for both.
func (s *scripted) call(method string, req proto.Message) {
	s.t.Helper()
	if _, err := s.unary(method, req); err != nil {
		s.t.Errorf("%s %s: %v", method, formatRequest(req), err)
	}
}

// member makes a call about a member, whose id each server picked.
func (s *scripted) member(method string, who func(*target) uint64, req func(id uint64) proto.Message) {
	s.t.Helper()
	_, err := s.both(method, req(0), func(ctx context.Context, t *target) outcome {
		return t.unary(ctx, method, req(who(t)))
	})
	if err != nil {
		s.t.Errorf("%s: %v", method, err)
	}
}

func (s *scripted) self(t *target) uint64 {
	resp, err := pb.NewMaintenanceClient(t.conn).Status(context.Background(), &pb.StatusRequest{})
	if err != nil {
		s.t.Fatalf("%s: status: %v", t.name, err)
	}
	return resp.Header.MemberId
}

func unknownMember(*target) uint64 { return 12345 }

func promote(id uint64) proto.Message { return &pb.MemberPromoteRequest{ID: id} }
func remove(id uint64) proto.Message  { return &pb.MemberRemoveRequest{ID: id} }
func lead(id uint64) proto.Message    { return &pb.MoveLeaderRequest{TargetID: id} }

// TestCluster compares the membership calls and their errors, with a learner that never starts.
func TestCluster(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	learner := func(t *target) uint64 { return s.learner[t] }
	list := func() { s.call(pb.Cluster_MemberList_FullMethodName, &pb.MemberListRequest{Linearizable: true}) }
	add := func(urls ...string) {
		s.call(pb.Cluster_MemberAdd_FullMethodName, &pb.MemberAddRequest{PeerURLs: urls, IsLearner: true})
	}
	s.call(pb.Cluster_MemberList_FullMethodName, &pb.MemberListRequest{})
	list()
	add()
	add("")
	add("127.0.0.1:1")
	add("http://127.0.0.1")
	add("gopher://127.0.0.1:1")
	add("http://127.0.0.1:1/path")
	s.member(pb.Cluster_MemberPromote_FullMethodName, s.self, promote)
	s.member(pb.Cluster_MemberPromote_FullMethodName, unknownMember, promote)
	s.member(pb.Cluster_MemberRemove_FullMethodName, s.self, remove)
	s.member(pb.Cluster_MemberRemove_FullMethodName, unknownMember, remove)

	s.addLearner(func(t *target) string { return s.peerURL(t) })
	s.addLearner(func(*target) string { return "http://127.0.0.1:1" })
	list()
	add("http://127.0.0.1:2")
	s.member(pb.Cluster_MemberPromote_FullMethodName, learner, promote)
	s.member(pb.Maintenance_MoveLeader_FullMethodName, learner, lead)
	s.member(pb.Cluster_MemberRemove_FullMethodName, learner, remove)
	s.member(pb.Cluster_MemberRemove_FullMethodName, learner, remove)
	s.member(pb.Cluster_MemberPromote_FullMethodName, learner, promote)
	list()
	s.reached("error/InvalidArgument/etcdserver: given member URLs are invalid",
		"error/NotFound/etcdserver: member not found",
		"error/FailedPrecondition/etcdserver: can only promote a learner member",
		"error/FailedPrecondition/etcdserver: can only promote a learner member which is in sync with leader",
		"error/FailedPrecondition/etcdserver: too many learner members in cluster",
		"error/FailedPrecondition/etcdserver: Peer URLs already exists",
		"error/FailedPrecondition/etcdserver: bad leader transferee",
		"error/Unknown/etcdserver: re-configuration failed due to not enough started members")
}

// peerURL returns the peer URL of a server's only member.
func (s *scripted) peerURL(t *target) string {
	resp, err := pb.NewClusterClient(t.conn).MemberList(context.Background(), &pb.MemberListRequest{})
	if err != nil || len(resp.Members) != 1 || len(resp.Members[0].PeerURLs) == 0 {
		s.t.Fatalf("%s: member list %v, error %v", t.name, resp, err)
	}
	return resp.Members[0].PeerURLs[0]
}

// addLearner adds a learner at the URL of each server's choice, and remembers its id if it is taken.
func (s *scripted) addLearner(url func(*target) string) {
	_, err := s.both("MemberAdd", &pb.MemberAddRequest{IsLearner: true}, func(ctx context.Context, t *target) outcome {
		req := &pb.MemberAddRequest{PeerURLs: []string{url(t)}, IsLearner: true}
		out := t.unary(ctx, pb.Cluster_MemberAdd_FullMethodName, req)
		if out.code == codes.OK {
			s.learner[t] = out.msgs[0].(*pb.MemberAddResponse).GetMember().GetID()
		}
		return out
	})
	if err != nil {
		s.t.Errorf("add a learner: %v", err)
	}
}

// reached fails the test if one of the names was never covered.
func (s *scripted) reached(names ...string) {
	s.t.Helper()
	if missing := s.cov.missing(names); len(missing) > 0 {
		s.t.Errorf("never reached:\n  %s", strings.Join(missing, "\n  "))
	}
}

// TestMaintenance compares the calls about one server.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	for i := range 5 {
		s.call(pb.KV_Put_FullMethodName, &pb.PutRequest{Key: []byte{'a' + byte(i%2)}, Value: []byte{byte(i)}})
	}
	s.call(pb.KV_Compact_FullMethodName, &pb.CompactionRequest{Revision: 3, Physical: true})
	s.call(pb.Maintenance_Status_FullMethodName, &pb.StatusRequest{})
	s.call(pb.Maintenance_Hash_FullMethodName, &pb.HashRequest{})
	// Not the compacted revision itself: for that etcd repeats the hash it made while it compacted.
	for _, rev := range []int64{0, 2, 4, 6, 7, 100} {
		s.call(pb.Maintenance_HashKV_FullMethodName, &pb.HashKVRequest{Revision: rev})
	}
	for _, action := range []pb.AlarmRequest_AlarmAction{pb.AlarmRequest_GET, pb.AlarmRequest_ACTIVATE,
		pb.AlarmRequest_DEACTIVATE} {
		s.call(pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{Action: action})
	}
	s.call(pb.Maintenance_Alarm_FullMethodName, &pb.AlarmRequest{Alarm: pb.AlarmType_CORRUPT})
	s.member(pb.Maintenance_MoveLeader_FullMethodName, unknownMember, lead)
	s.member(pb.Maintenance_MoveLeader_FullMethodName, s.self, lead)
	s.call(pb.Maintenance_Defragment_FullMethodName, &pb.DefragmentRequest{})
	for _, target := range s.targets() {
		s.waitServing(target)
	}
	s.call(healthpb.Health_Check_FullMethodName, &healthpb.HealthCheckRequest{})
	s.call(healthpb.Health_Check_FullMethodName, &healthpb.HealthCheckRequest{Service: "nobody"})
	for _, target := range s.targets() {
		s.checkSnapshot(target)
	}
	s.reached("error/HashKV/OutOfRange/etcdserver: mvcc: required revision has been compacted",
		"error/HashKV/OutOfRange/etcdserver: mvcc: required revision is a future revision",
		"error/FailedPrecondition/etcdserver: bad leader transferee")
}

// waitServing waits until a server says that it serves: coord looks at its leader a few times an election timeout, so
// one that has just started says so a moment later.
func (s *scripted) waitServing(t *target) {
	client := healthpb.NewHealthClient(t.conn)
	for deadline := time.Now().Add(callTimeout); ; time.Sleep(5 * time.Millisecond) {
		got, err := client.Check(context.Background(), &healthpb.HealthCheckRequest{})
		if err == nil && got.Status == healthpb.HealthCheckResponse_SERVING {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s does not serve: %v, %v", t.name, got, err)
		}
	}
}

// checkSnapshot checks the rule of the snapshot stream: blobs, what remains counted down, then the sha256 of them all.
func (s *scripted) checkSnapshot(t *target) {
	out := t.snapshot(context.Background())
	if out.code != codes.OK || len(out.msgs) < 2 {
		s.t.Errorf("%s: snapshot: %s with %d messages", t.name, statusLine(out), len(out.msgs))
		return
	}
	last := len(out.msgs) - 1
	h := sha256.New()
	var remaining uint64
	for i := last - 1; i >= 0; i-- {
		m := out.msgs[i].(*pb.SnapshotResponse)
		if m.RemainingBytes != remaining {
			s.t.Errorf("%s: snapshot message %d: %d bytes remain, want %d", t.name, i, m.RemainingBytes, remaining)
			return
		}
		remaining += uint64(len(m.Blob))
	}
	for _, m := range out.msgs[:last] {
		h.Write(m.(*pb.SnapshotResponse).Blob)
	}
	end := out.msgs[last].(*pb.SnapshotResponse)
	if !bytes.Equal(end.Blob, h.Sum(nil)) || end.RemainingBytes != 0 {
		s.t.Errorf("%s: snapshot ends with %s, not with the hash of its bytes", t.name, format(end))
	}
}

// TestUnknownMethods compares the refusal of what no server has.
func TestUnknownMethods(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	for _, method := range []string{"/etcdserverpb.KV/Nope", "/etcdserverpb.Nope/Range", "/Nope"} {
		req := &pb.RangeRequest{Key: []byte("a")}
		_, err := s.both(method, req, func(ctx context.Context, t *target) outcome {
			return outcomeOf(t.conn.Invoke(ctx, method, req, &pb.RangeResponse{}))
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestMetadata compares the answers to metadata that gRPC clients for Go cannot send: bytes that are not UTF-8.
func TestMetadata(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	for _, version := range []string{"3.7", "\xff\xfe", "\xc3\xa9", ""} {
		var got [2]string
		for i, target := range s.targets() {
			var err error
			if got[i], err = rawRange(target.conn.Target(), version); err != nil {
				t.Fatalf("%s: %v", target.name, err)
			}
		}
		if got[0] != got[1] {
			t.Errorf("client-api-version %q: etcd %s, subject %s", version, got[0], got[1])
		}
		if version == "\xff\xfe" && !strings.Contains(got[0], "invalid client api version") {
			t.Errorf("client-api-version %q: etcd %s", version, got[0])
		}
	}
}

// rawRange sends a range over plain HTTP/2 and returns the gRPC status it ends with.
func rawRange(target, version string) (string, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{
		Transport: &http.Transport{Protocols: protocols, DisableKeepAlives: true}, Timeout: callTimeout,
	}
	body, err := proto.Marshal(&pb.RangeRequest{Key: []byte("a")})
	if err != nil {
		return "", err
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))
	addr := target[strings.LastIndex(target, "/")+1:]
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+pb.KV_Range_FullMethodName,
		bytes.NewReader(append(frame, body...)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header["Client-Api-Version"] = []string{version}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	code, text := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if code == "" {
		code, text = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	return fmt.Sprintf("HTTP %d, status %s %q", resp.StatusCode, code, text), nil
}
