package watch

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"testing"
	"time"
	_ "unsafe" // for go:linkname

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// watchResyncPeriod is how long etcd waits between two looks at the watchers that are behind, 100 ms. Most of the time
// of the test would be spent waiting for it.
//
//go:linkname watchResyncPeriod go.etcd.io/etcd/server/v3/storage/mvcc.watchResyncPeriod
var watchResyncPeriod time.Duration

func init() { watchResyncPeriod = 4 * time.Millisecond }

// quietTime is how long nothing must come for all to have been said.
const quietTime = 100 * time.Millisecond

// startEtcd runs a real etcd of one member and connects to it.
func startEtcd(t *testing.T) *grpc.ClientConn {
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
	case <-time.After(patience):
		t.Fatal("etcd does not get ready")
	}
	conn, err := grpc.NewClient(e.Clients[0].Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// duel sends the same to etcd and to the hub, and compares what comes back.
type duel struct {
	t    *testing.T
	kv   pb.KVClient
	etcd pb.Watch_WatchClient
	said chan *pb.WatchResponse // by etcd
	ours *client
	f    *fixture
}

func newDuel(t *testing.T) *duel {
	conn := startEtcd(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, Options{}, ServerOptions{FragmentBytes: 2 << 20})
	d := &duel{
		t: t, kv: pb.NewKVClient(conn), etcd: stream, said: make(chan *pb.WatchResponse, 1000), ours: f.dial(t), f: f,
	}
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			d.said <- r
		}
	}()
	return d
}

// commit makes one revision on both sides.
func (d *duel) commit(ops ...op) {
	d.t.Helper()
	resp, err := d.kv.Txn(d.t.Context(), txn(ops))
	if err != nil {
		d.t.Fatal(err)
	}
	a := d.f.apply(ops)
	if resp.Header.Revision != a.Revision {
		d.t.Fatalf("etcd is at revision %d, the history at %d", resp.Header.Revision, a.Revision)
	}
	d.f.hub.Applied(a)
}

func (d *duel) compact(at int64) {
	d.t.Helper()
	if _, err := d.kv.Compact(d.t.Context(), &pb.CompactionRequest{Revision: at}); err != nil {
		d.t.Fatal(err)
	}
	d.f.hub.Applied(d.f.compact(at))
}

func (d *duel) ask(r *pb.WatchRequest) {
	d.t.Helper()
	if err := d.etcd.Send(r); err != nil {
		d.t.Fatal(err)
	}
	d.ours.ask(r)
}

// collect adds the responses that come without a pause, by watch id.
func collect(got map[int64][]*pb.WatchResponse, c <-chan *pb.WatchResponse) {
	for {
		select {
		case r := <-c:
			r.Header = &pb.ResponseHeader{Revision: r.Header.Revision}
			got[r.WatchId] = append(got[r.WatchId], r)
		case <-time.After(quietTime):
			return
		}
	}
}

// sameCounts says whether both have as many responses for each watcher.
func sameCounts(a, b map[int64][]*pb.WatchResponse) bool {
	return maps.EqualFunc(a, b, func(x, y []*pb.WatchResponse) bool { return len(x) == len(y) })
}

// agree collects what the hub and etcd say until both have said as much to each watcher, and compares: one of them may
// make a pause between two watchers, and then it is not the same ones that have heard. Responses for different watchers
// may come in any order, those for one watcher may not.
func (d *duel) agree(step string) {
	d.t.Helper()
	d.f.hub.settle()
	ours, etcd := map[int64][]*pb.WatchResponse{}, map[int64][]*pb.WatchResponse{}
	for begin := time.Now(); ; {
		collect(ours, d.ours.responses)
		collect(etcd, d.said)
		if sameCounts(ours, etcd) || time.Since(begin) > patience {
			break
		}
	}
	for id := range etcd {
		if ours[id] == nil {
			ours[id] = nil
		}
	}
	for id := range ours {
		for i := range max(len(etcd[id]), len(ours[id])) {
			var e, o *pb.WatchResponse
			if i < len(etcd[id]) {
				e = etcd[id][i]
			}
			if i < len(ours[id]) {
				o = ours[id][i]
			}
			if !proto.Equal(e, o) || e == nil {
				d.t.Errorf("%s: response %d for watcher %d\netcd: %v\nours: %v", step, i, id, e, o)
			}
		}
	}
}

// TestLikeEtcd goes through the contract side by side with a real etcd and compares every response, byte for byte but
// for the ids and the term in the header.
func TestLikeEtcd(t *testing.T) {
	d := newDuel(t)
	k := func(s string) []byte { return []byte(s) }
	put := func(key, value string) op { return op{k(key), k(value)} }
	create := func(r *pb.WatchCreateRequest) { d.ask(createRequest(r)) }

	d.ask(progressRequest())
	d.agree("progress without watchers")
	create(&pb.WatchCreateRequest{Key: k("a"), PrevKv: true})
	create(&pb.WatchCreateRequest{Key: k("a"), RangeEnd: k("c"), WatchId: 7})
	create(&pb.WatchCreateRequest{
		RangeEnd: []byte{0}, Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NODELETE},
	})
	create(&pb.WatchCreateRequest{Key: k("a"), WatchId: 7})
	create(&pb.WatchCreateRequest{Key: k("b"), RangeEnd: k("a")})
	create(&pb.WatchCreateRequest{Key: k("b"), RangeEnd: k("b")})
	create(&pb.WatchCreateRequest{Key: k("a"), StartRevision: -5})
	create(&pb.WatchCreateRequest{Key: k("d"), WatchId: -1})
	create(&pb.WatchCreateRequest{Key: k("e"), WatchId: 1 << 40, StartRevision: 8})
	d.agree("creates")
	d.ask(progressRequest())
	d.agree("progress with a watcher of the future")
	for i := range 4 { // revisions 2 to 5
		d.commit(put("a", fmt.Sprint(i)), put("b", fmt.Sprint(i)))
	}
	d.commit(op{key: k("a")}, put("x", "")) // 6
	d.commit(put("e", "too early"))         // 7
	d.commit(put("e", "in time"))           // 8
	d.commit(put("a", "again"))             // 9
	d.agree("commits")
	d.ask(progressRequest())
	d.agree("progress")
	for i, start := range []int64{1, 2, 5, 9, 10, 11} {
		create(&pb.WatchCreateRequest{
			Key: k("a"), RangeEnd: k("z"), StartRevision: start, WatchId: int64(20 + i), PrevKv: i%2 == 0,
		})
		d.agree(fmt.Sprintf("start revision %d", start))
	}
	d.ask(progressRequest())
	d.agree("progress with a watcher two revisions ahead")
	d.compact(6)
	for i, start := range []int64{1, 5, 6, 7} {
		create(&pb.WatchCreateRequest{
			Key: k("a"), RangeEnd: k("z"), StartRevision: start, WatchId: int64(30 + i), PrevKv: true,
		})
		d.agree(fmt.Sprintf("start revision %d after a compaction at 6", start))
	}
	d.commit(put("a", "")) // 10
	d.commit(put("b", "")) // 11
	d.agree("commits after the compaction")
	d.ask(progressRequest())
	d.agree("progress with compacted watchers")
	create(&pb.WatchCreateRequest{Key: k("a"), WatchId: 30})
	d.agree("id of a compacted watcher")
	for _, id := range []int64{30, 31, 30, 999, 7} {
		d.ask(cancelRequest(id))
		d.agree(fmt.Sprintf("cancel %d", id))
	}
	d.ask(progressRequest())
	d.agree("progress after the cancels")
	create(&pb.WatchCreateRequest{Key: k("a"), WatchId: 7})
	create(&pb.WatchCreateRequest{Key: k("a")})
	create(&pb.WatchCreateRequest{Key: k("a")})
	d.agree("ids again")

	big := make([]byte, 600<<10)
	create(&pb.WatchCreateRequest{Key: k("big"), RangeEnd: k("bih"), WatchId: 50, Fragment: true, PrevKv: true})
	create(&pb.WatchCreateRequest{Key: k("big"), RangeEnd: k("bih"), WatchId: 51, Fragment: true,
		Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}})
	d.commit(op{k("big1"), big}, op{k("big2"), big})
	d.agree("big values")
	d.commit(op{k("big1"), big}, op{k("big2"), big})
	d.agree("big values with previous versions")
	d.commit(op{key: k("big1")}, op{key: k("big2")})
	d.agree("deletes with previous versions")
}
