package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// startEtcd runs a real etcd of one member and returns its client URL and a connection.
func startEtcd(t *testing.T) (string, *grpc.ClientConn) {
	t.Helper()
	cfg := embed.NewConfig()
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.Dir = t.TempDir()
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = local, local
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = local, local
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = true
	cfg.LogLevel, cfg.LogOutputs = "panic", []string{"stderr"}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		t.Fatal("etcd does not get ready")
	}
	address := e.Clients[0].Addr().String()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	// etcd knows its cluster's version a moment later, and answers some requests otherwise before.
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, body := fetch(t, "http://"+address+"/version"); !strings.Contains(body, "not_decided") &&
			!strings.Contains(body, "unknown") {
			return "http://" + address, conn
		}
		if time.Now().After(end) {
			t.Fatal("etcd does not decide on a version")
		}
	}
}

func fetch(t *testing.T, target string) (int, string) {
	t.Helper()
	response, err := http.Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Content-Type") + "\n" + string(body)
}

// call is a unary request that both servers are sent.
type call struct {
	method   string // Service/Method, without the package of etcd's services
	request  proto.Message
	response proto.Message
	metadata []string
}

func (c call) String() string { return fmt.Sprintf("%s %v", c.method, c.request) }

func (c call) invoke(conn *grpc.ClientConn) (proto.Message, error) {
	method := "/" + c.method
	if !strings.Contains(c.method, ".") {
		method = "/etcdserverpb." + c.method
	}
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), c.metadata...),
		30*time.Second)
	defer cancel()
	response := proto.Clone(c.response)
	err := conn.Invoke(ctx, method, c.request, response)
	if err != nil {
		return nil, err
	}
	return response, nil
}

// servers is a real etcd and ours.
type servers struct{ etcd, ours *grpc.ClientConn }

// compare sends the calls one by one, and demands equal answers but for what cannot be equal: ids, terms, sizes,
// hashes.
func (s servers) compare(t *testing.T, calls ...call) {
	t.Helper()
	for _, c := range calls {
		want, wantErr := c.invoke(s.etcd)
		got, gotErr := c.invoke(s.ours)
		if w, g := status.Convert(wantErr), status.Convert(gotErr); w.Code() != g.Code() || w.Message() != g.Message() {
			t.Errorf("%v: %v %q, etcd: %v %q", c, g.Code(), g.Message(), w.Code(), w.Message())
			continue
		}
		if diff := cmp.Diff(want, got, comparable...); diff != "" {
			t.Errorf("%v: -etcd +ours\n%s", c, diff)
		}
	}
}

var comparable = []cmp.Option{
	protocmp.Transform(),
	protocmp.FilterField(&pb.ResponseHeader{}, "cluster_id", cmp.Comparer(bothSet)),
	protocmp.FilterField(&pb.ResponseHeader{}, "member_id", cmp.Comparer(bothSet)),
	protocmp.FilterField(&pb.ResponseHeader{}, "raft_term", cmp.Comparer(bothSet)),
	protocmp.IgnoreFields(&pb.HashKVResponse{}, "hash"),
	protocmp.IgnoreFields(&pb.HashResponse{}, "hash"),
	protocmp.IgnoreFields(&pb.StatusResponse{}, "leader", "raftIndex", "raftTerm", "raftAppliedIndex", "dbSize",
		"dbSizeInUse"),
}

func bothSet(x, y any) bool { return (x == uint64(0)) == (y == uint64(0)) }

func put(r *pb.PutRequest) call {
	return call{method: "KV/Put", request: r, response: &pb.PutResponse{}}
}
func get(r *pb.RangeRequest) call {
	return call{method: "KV/Range", request: r, response: &pb.RangeResponse{}}
}
func txnCall(r *pb.TxnRequest) call {
	return call{method: "KV/Txn", request: r, response: &pb.TxnResponse{}}
}
func del(r *pb.DeleteRangeRequest) call {
	return call{method: "KV/DeleteRange", request: r, response: &pb.DeleteRangeResponse{}}
}
func compact(r *pb.CompactionRequest) call {
	return call{method: "KV/Compact", request: r, response: &pb.CompactionResponse{}}
}
func grantCall(r *pb.LeaseGrantRequest) call {
	return call{method: "Lease/LeaseGrant", request: r, response: &pb.LeaseGrantResponse{}}
}
func timeToLive(r *pb.LeaseTimeToLiveRequest) call {
	return call{method: "Lease/LeaseTimeToLive", request: r, response: &pb.LeaseTimeToLiveResponse{}}
}
func alarm(r *pb.AlarmRequest) call {
	return call{method: "Maintenance/Alarm", request: r, response: &pb.AlarmResponse{}}
}
func downgrade(action pb.DowngradeRequest_DowngradeAction, version string) call {
	return call{
		method: "Maintenance/Downgrade", request: &pb.DowngradeRequest{Action: action, Version: version},
		response: &pb.DowngradeResponse{},
	}
}
func memberAdd(r *pb.MemberAddRequest) call {
	return call{method: "Cluster/MemberAdd", request: r, response: &pb.MemberAddResponse{}}
}
func hashKV(rev int64) call {
	return call{method: "Maintenance/HashKV", request: &pb.HashKVRequest{Revision: rev}, response: &pb.HashKVResponse{}}
}

// sized is a put whose key and value make n bytes.
func sized(n int) *pb.PutRequest {
	return &pb.PutRequest{Key: key("big"), Value: make([]byte, n-len("big"))}
}

// TestLikeEtcd sends the same requests to a real etcd and compares each answer and each error. Lock and Election are
// not among them: they are etcd's own code, and a session in a real etcd leaks goroutines.
func TestLikeEtcd(t *testing.T) {
	address, conn := startEtcd(t)
	f := serveWatch(t)
	s := servers{etcd: conn, ours: f.conn}
	t.Run("kv", func(t *testing.T) { s.compare(t, kvCalls()...) })
	t.Run("size", func(t *testing.T) {
		// The envelope's request id takes nine or ten bytes, so the bound is known but for one.
		for n := 3<<19 - 35; n < 3<<19-28; n++ {
			if n != 3<<19-32 {
				s.compare(t, put(sized(n)))
			}
		}
		s.compare(t, put(sized(3<<19+1000)), put(sized(3<<19+513<<10)))
	})
	t.Run("lease", func(t *testing.T) { s.compare(t, leaseCalls()...) })
	t.Run("maintenance", func(t *testing.T) { s.compare(t, maintenanceCalls()...) })
	t.Run("cluster", func(t *testing.T) { s.compare(t, clusterCalls()...) })
	t.Run("auth", func(t *testing.T) {
		s.compare(t,
			call{method: "Auth/AuthStatus", request: &pb.AuthStatusRequest{}, response: &pb.AuthStatusResponse{}},
			call{
				method: "Auth/Authenticate", request: &pb.AuthenticateRequest{Name: "root", Password: "x"},
				response: &pb.AuthenticateResponse{},
			},
			call{method: "Auth/AuthDisable", request: &pb.AuthDisableRequest{}, response: &pb.AuthDisableResponse{}},
		)
	})
	t.Run("unknown", func(t *testing.T) {
		s.compare(t, call{method: "KV/Nothing", request: &pb.PutRequest{}, response: &pb.PutResponse{}},
			call{method: "nobody.Service/Nothing", request: &pb.PutRequest{}, response: &pb.PutResponse{}})
	})
	t.Run("pages", func(t *testing.T) {
		ours := httptest.NewServer(f.server.HTTP())
		defer ours.Close()
		for _, page := range []string{
			"/version", "/health", "/health?serializable=true", "/health?exclude=NOSPACE", "/livez", "/livez?verbose",
			"/readyz",
			"/readyz/linearizable_read?verbose", "/readyz/nothing", "/livez?exclude=serializable_read&verbose",
		} {
			wantCode, want := fetch(t, address+page)
			if code, got := fetch(t, ours.URL+page); code != wantCode || got != want {
				t.Errorf("%s: %d %q, etcd: %d %q", page, code, got, wantCode, want)
			}
		}
	})
}

func kvCalls() []call {
	all := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	nested := txnOp(&pb.TxnRequest{Success: ops(putOp("n"), rangeOp(&pb.RangeRequest{Key: key("n")}))})
	many := func(n int) (list []*pb.RequestOp) {
		for i := range n {
			list = append(list, putOp(fmt.Sprint("many", i)))
		}
		return list
	}
	return []call{
		get(all), put(&pb.PutRequest{}), get(&pb.RangeRequest{}), del(&pb.DeleteRangeRequest{}),
		put(&pb.PutRequest{Key: key("a"), Value: key("1")}),
		put(&pb.PutRequest{Key: key("a"), Value: key("2"), PrevKv: true}),
		put(&pb.PutRequest{Key: key("b"), IgnoreValue: true}),
		put(&pb.PutRequest{Key: key("b"), IgnoreLease: true, Value: key("x")}),
		put(&pb.PutRequest{Key: key("b"), IgnoreLease: true, Lease: 3}),
		put(&pb.PutRequest{Key: key("b"), IgnoreValue: true, Value: key("x")}),
		put(&pb.PutRequest{Key: key("b"), Lease: 12345}),
		get(all), get(&pb.RangeRequest{Key: key("a"), Revision: 2}), get(&pb.RangeRequest{Key: key("a"), Revision: 99}),
		get(&pb.RangeRequest{Key: key("a"), SortOrder: 5}), get(&pb.RangeRequest{Key: key("z"), RangeEnd: key("a")}),
		get(&pb.RangeRequest{Key: key("a"), Revision: -4}), get(&pb.RangeRequest{Key: key("a"), Limit: -1}),
		{method: "KV/Range", request: all, response: &pb.RangeResponse{}, metadata: []string{"hasleader", "true",
			"client-api-version", "3.7"}},
		txnCall(&pb.TxnRequest{}), txnCall(&pb.TxnRequest{Compare: []*pb.Compare{{Key: key("a")}}}),
		txnCall(&pb.TxnRequest{Compare: []*pb.Compare{{}}}),
		txnCall(&pb.TxnRequest{Success: ops(&pb.RequestOp{})}),
		txnCall(&pb.TxnRequest{Success: ops(putOp("a"), putOp("a"))}),
		txnCall(&pb.TxnRequest{Success: ops(deleteOp("a", "c"), putOp("b"))}),
		txnCall(&pb.TxnRequest{Success: ops(deleteOp("a", "\x00"), putOp("b"))}),
		txnCall(&pb.TxnRequest{Success: ops(nested, deleteOp("n", ""))}),
		txnCall(&pb.TxnRequest{Success: ops(nested, putOp("m"))}),
		txnCall(&pb.TxnRequest{Success: ops(rangeOp(&pb.RangeRequest{Key: key("a"), Revision: 99}))}),
		txnCall(&pb.TxnRequest{Success: ops(putOp("m"), rangeOp(&pb.RangeRequest{Key: key("a"), Revision: -2}))}),
		txnCall(&pb.TxnRequest{Success: many(128)}), txnCall(&pb.TxnRequest{Failure: many(129)}),
		txnCall(&pb.TxnRequest{Success: append(many(127), nested)}),
		del(&pb.DeleteRangeRequest{
			Key: key("many"), RangeEnd: key("n"), PrevKv: true,
		}), del(&pb.DeleteRangeRequest{Key: key("none")}),
		compact(&pb.CompactionRequest{Revision: 99}), compact(&pb.CompactionRequest{Revision: 4, Physical: true}),
		compact(&pb.CompactionRequest{Revision: 4}), compact(&pb.CompactionRequest{Revision: 0}),
		compact(&pb.CompactionRequest{Revision: -1}),
		get(&pb.RangeRequest{Key: key("a"), Revision: 3}), get(&pb.RangeRequest{Key: key("a"), Revision: 4}),
	}
}

func leaseCalls() []call {
	return []call{
		grantCall(&pb.LeaseGrantRequest{ID: 100, TTL: 1}), grantCall(&pb.LeaseGrantRequest{ID: 100, TTL: 50}),
		grantCall(&pb.LeaseGrantRequest{ID: 101, TTL: 9_000_000_001}),
		grantCall(&pb.LeaseGrantRequest{ID: 102, TTL: 3600}),
		grantCall(&pb.LeaseGrantRequest{ID: 103, TTL: -5}),
		put(&pb.PutRequest{Key: key("leased"), Lease: 102}), put(&pb.PutRequest{Key: key("leased/2"), Lease: 102}),
		timeToLive(&pb.LeaseTimeToLiveRequest{ID: 4711, Keys: true}),
		{method: "Lease/LeaseRevoke", request: &pb.LeaseRevokeRequest{ID: 4711}, response: &pb.LeaseRevokeResponse{}},
		{method: "Lease/LeaseRevoke", request: &pb.LeaseRevokeRequest{ID: 102}, response: &pb.LeaseRevokeResponse{}},
		timeToLive(&pb.LeaseTimeToLiveRequest{ID: 102, Keys: true}),
		{method: "Lease/LeaseRevoke", request: &pb.LeaseRevokeRequest{ID: 100}, response: &pb.LeaseRevokeResponse{}},
		{method: "Lease/LeaseRevoke", request: &pb.LeaseRevokeRequest{ID: 103}, response: &pb.LeaseRevokeResponse{}},
		{method: "Lease/LeaseLeases", request: &pb.LeaseLeasesRequest{}, response: &pb.LeaseLeasesResponse{}},
	}
}

func maintenanceCalls() []call {
	raise := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: pb.AlarmType_NOSPACE}
	lower := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 5, Alarm: pb.AlarmType_NOSPACE}
	return []call{
		{method: "Maintenance/Status", request: &pb.StatusRequest{}, response: &pb.StatusResponse{}},
		{method: "Maintenance/Hash", request: &pb.HashRequest{}, response: &pb.HashResponse{}},
		{method: "Maintenance/Defragment", request: &pb.DefragmentRequest{}, response: &pb.DefragmentResponse{}},
		{method: "Maintenance/MoveLeader", request: &pb.MoveLeaderRequest{TargetID: 77},
			response: &pb.MoveLeaderResponse{}},
		hashKV(0), hashKV(3), hashKV(5), hashKV(9999),
		alarm(&pb.AlarmRequest{}), alarm(raise), alarm(raise), alarm(&pb.AlarmRequest{Alarm: pb.AlarmType_CORRUPT}),
		alarm(&pb.AlarmRequest{Alarm: pb.AlarmType_NOSPACE, MemberID: 8}),
		put(&pb.PutRequest{Key: key("full")}), grantCall(&pb.LeaseGrantRequest{ID: 200, TTL: 60}),
		txnCall(&pb.TxnRequest{Success: ops(putOp("full"))}),
		txnCall(&pb.TxnRequest{Success: ops(deleteOp("full", ""))}),
		del(&pb.DeleteRangeRequest{Key: key("full")}), get(&pb.RangeRequest{Key: key("full")}),
		alarm(lower), alarm(lower), alarm(&pb.AlarmRequest{}), put(&pb.PutRequest{Key: key("full")}),
		alarm(&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5}),
		downgrade(pb.DowngradeRequest_VALIDATE, ""), downgrade(pb.DowngradeRequest_VALIDATE, "3.8"),
		downgrade(pb.DowngradeRequest_ENABLE, "3.x"),
		downgrade(pb.DowngradeRequest_ENABLE, "3.5.0"), downgrade(pb.DowngradeRequest_CANCEL, ""), downgrade(7, "3.6"),
	}
}

func clusterCalls() []call {
	return []call{
		memberAdd(&pb.MemberAddRequest{}), memberAdd(&pb.MemberAddRequest{PeerURLs: []string{"tcp://a:1"}}),
		memberAdd(&pb.MemberAddRequest{PeerURLs: []string{"http://a:1/path"}, IsLearner: true}),
		{method: "Cluster/MemberRemove", request: &pb.MemberRemoveRequest{ID: 4711},
			response: &pb.MemberRemoveResponse{}},
		{method: "Cluster/MemberPromote", request: &pb.MemberPromoteRequest{ID: 4711},
			response: &pb.MemberPromoteResponse{}},
		{method: "Cluster/MemberUpdate", request: &pb.MemberUpdateRequest{ID: 4711, PeerURLs: []string{"http://a:1"}},
			response: &pb.MemberUpdateResponse{}},
	}
}
