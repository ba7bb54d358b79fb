package coord

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/coordtest/loopback"
	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// hundred is how many keyspaces the test opens in one process, beside the member's own.
const hundred = 100

// TestHundredKeyspaces opens a hundred keyspaces in one process and uses each: they are apart, one server serves them,
// and it closes with all of them open. What each costs is printed: what a member of many keyspaces has to do about it
// comes later.
func TestHundredKeyspaces(t *testing.T) {
	if testing.Short() {
		t.Skip("a hundred stores, for some seconds")
	}
	s := startAlone(t)
	ctx := principal.Member(t.Context())
	idleOfOne := idle(time.Second)
	before := resident(t)
	began, longest := time.Now(), time.Duration(0)
	var all []*servedKeyspace
	for shard := uint64(2); shard < 2+hundred; shard++ {
		start := time.Now()
		k := s.newKeyspace(keyspaceOptions{shard: shard, memory: 8 << 20})
		if err := k.open(ctx, s, map[uint64]string{s.identity.MemberID: "127.0.0.1:1"}); err != nil {
			t.Fatal(err)
		}
		s.spawn(func() error { k.tick(s.ctx, 2*s.cfg.ElectionTimeout); return nil })
		all = append(all, k)
		longest = max(longest, time.Since(start))
	}
	opened := time.Since(began)
	for i, k := range all { // the first entry of a history, and then as many revisions as its number says
		propose(t, ctx, k, raftv1.KindHistoryBegin, &raftv1.HistoryBegin{Id: k.Shard})
		for range 1 + i%3 {
			propose(t, ctx, k, raftv1.KindPut, &pb.PutRequest{Key: []byte("k"), Value: fmt.Append(nil, k.Shard)})
		}
	}
	led := time.Since(began)
	for i, k := range all {
		if err := k.group.ReadIndex(ctx); err != nil {
			t.Fatal(err)
		}
		v, err := k.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		want := int64(2 + i%3)
		if err != nil || got.Header.Revision != want || string(got.Kvs[0].Value) != fmt.Sprint(k.Shard) {
			t.Errorf("shard %d: %v, %v, want revision %d", k.Shard, got, err, want)
		}
		v.Close()
	}
	propose(t, ctx, all[0], raftv1.KindLeaseGrant, &raftv1.LeaseGrant{Id: 7, TtlMs: 1000})
	for end := time.Now().Add(30 * time.Second); all[0].Clock.Facts().Count > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a lease does not expire")
		}
	}
	t.Logf("opened one after the other in %.1f ms each, the longest %d ms; all written to after %d ms",
		ms(opened)/hundred, longest.Milliseconds(), led.Milliseconds())
	t.Logf("memory: %.2f MB of the process each, %d goroutines each", (resident(t)-before)/hundred/1e6,
		runtime.NumGoroutine()/hundred)
	t.Logf("idle: %.1f %% of a core with one keyspace, %.1f %% with %d", 100*idleOfOne, 100*idle(2*time.Second),
		hundred+1)
	for _, k := range all {
		k.Close()
	}
}

// startAlone starts a member that is a cluster of its own.
func startAlone(t *testing.T) *Server {
	t.Helper()
	ports, err := loopback.Addrs(2)
	if err != nil {
		t.Fatal(err)
	}
	client, peer := []string{"http://" + ports[0]}, []string{"http://" + ports[1]}
	s, err := Start(t.Context(), Config{
		DataDir: t.TempDir(), ListenClientURLs: client, AdvertiseClientURLs: client, ListenPeerURLs: peer,
		InitialAdvertisePeerURLs: peer,
	}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
	})
	<-s.Ready()
	return s
}

func propose(t *testing.T, ctx context.Context, k *servedKeyspace, kind raftv1.Kind, message proto.Message) {
	t.Helper()
	body, err := proto.Marshal(message)
	if err == nil {
		_, err = k.Propose(ctx, kind, body)
	}
	if err != nil {
		t.Fatalf("shard %d: %v", k.Shard, err)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// idle is the share of a core that the process takes while nothing is asked of it.
func idle(during time.Duration) float64 {
	used := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	time.Sleep(during)
	return float64(used()-before) / float64(during)
}

// resident is the memory of the process after a collection, in bytes.
func resident(t *testing.T) float64 {
	t.Helper()
	runtime.GC()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc")
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb * 1024
}
