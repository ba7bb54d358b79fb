package coord

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/coordtest/loopback"
	"github.com/coord-dev/coord/proto/principal"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// TestStartThatFails: a start that fails, however far it got, gives back its ports, its directory, its caches and its
// goroutines, so that the same process can start again once the reason is gone.
func TestStartThatFails(t *testing.T) {
	ports, err := loopback.Addrs(2)
	if err != nil {
		t.Fatal(err)
	}
	client, peer := []string{"http://" + ports[0]}, []string{"http://" + ports[1]}
	dir := t.TempDir()
	start := func(ctx context.Context) (*Server, error) {
		return Start(ctx, Config{
			DataDir: dir, ListenClientURLs: client, AdvertiseClientURLs: client, ListenPeerURLs: peer,
			InitialAdvertisePeerURLs: peer,
		}, zap.NewNop())
	}
	boot := uint64(0)
	use := func() {
		t.Helper()
		s, err := start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-s.Ready()
		if now := s.dir.Boot(); now <= boot {
			t.Errorf("boot %d follows %d", now, boot)
		} else {
			boot = now
		}
		propose(t, principal.Member(t.Context()), s.system, raftv1.KindPut, &pb.PutRequest{Key: []byte("k")})
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
	}
	use()
	running := goleak.IgnoreCurrent()
	current := filepath.Join(dir, "member", "db", "1", "CURRENT")
	for _, c := range []struct {
		what, path, content, says string
	}{
		{"a store without its name", current, "nonsense", "instead of the name of a database"},
		{"a store that names none", current, "000099.db\n", "000099.db"},
		{"a damaged file of the raft log", filepath.Join(dir, "member", "wal", "dragonboat.ds"), "damaged", "damaged"},
		{"damaged metadata", filepath.Join(dir, "member", "meta.json"), "{}", "meta.json"},
	} {
		was, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := start(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", c.what, err, c.says)
			}
		}
		if err := os.WriteFile(c.path, was, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := goleak.Find(running); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		use()
	}
	for wait := time.Duration(0); wait < 100*time.Millisecond; wait += 7 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		if s, err := start(ctx); err == nil {
			_ = s.Stop(ctx)
		}
		cancel()
	}
	if err := goleak.Find(running); err != nil {
		t.Error(err)
	}
	use()
}
