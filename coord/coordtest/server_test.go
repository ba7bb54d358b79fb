package coordtest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
)

func TestPagesOnTheClientPort(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{})
	for path, want := range map[string]string{
		"/version": `"etcdserver":"3.7.3"`,
		"/health":  `"health":"true"`,
		"/metrics": "coord_build_info{",
	} {
		resp, err := http.Get("http://" + c.Endpoints()[0] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: status %d, %v, no %q in %.200s", path, resp.StatusCode, err, want, body)
		}
	}
}

// A stop ends streams with a status that makes clients go elsewhere, not with a broken connection.
func TestStreamsEndWithServerStopped(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{})
	conn, err := grpc.NewClient(c.Endpoints()[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lease, err := pb.NewLeaseClient(conn).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	alive, err := pb.NewLeaseClient(conn).LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: lease.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := alive.Recv(); err != nil {
		t.Fatal(err)
	}
	watch, err := pb.NewWatchClient(conn).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Send(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.StopMember(0)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the stop took %s: it waited for streams", took)
	}
	if _, err := alive.Recv(); rpctypes.Error(err) != rpctypes.ErrStopped {
		t.Errorf("keep-alive ended with %v", err)
	}
	if _, err := watch.Recv(); rpctypes.Error(err) != rpctypes.ErrStopped {
		t.Errorf("watch ended with %v", err)
	}
}

func TestStartRefusesInOneLine(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{})
	taken := c.Server(0).Config()
	ports := coordtest.FreePorts(t, 2)
	free := coord.Config{
		DataDir: t.TempDir(), ListenClientURLs: []string{url(ports[0])}, ListenPeerURLs: []string{url(ports[1])},
	}
	for name, test := range map[string]struct {
		change func(*coord.Config)
		want   string
	}{
		"client port in use": {func(c *coord.Config) {
			c.ListenClientURLs = taken.ListenClientURLs
		}, "--listen-client-urls: cannot listen on " + taken.ListenClientURLs[0]},
		"peer port in use": {func(c *coord.Config) {
			c.ListenPeerURLs = taken.ListenPeerURLs
		}, "--listen-peer-urls: cannot listen on " + taken.ListenPeerURLs[0]},
		"directory in use": {func(c *coord.Config) { c.DataDir = taken.DataDir }, "is in use by another process"},
	} {
		config := free
		test.change(&config)
		_, err := coord.Start(t.Context(), config, nopLogger)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
