package watch

import (
	"context"
	"net"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// listen serves the fixture's watch service on an address.
func (f *fixture) listen(t testing.TB, addr string) (stop func(), actual string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterWatchServer(server, f.server)
	go server.Serve(l)
	return server.Stop, l.Addr().String()
}

// TestRealClientResumes: etcd's own client, cut off and connected again, sees every revision once (W5).
func TestRealClientResumes(t *testing.T) {
	f := newFixture(t, Options{}, ServerOptions{})
	stop, addr := f.listen(t, "127.0.0.1:0")
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f.put("a") // revision 2
	events := c.Watch(ctx, "a", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithPrevKV())
	next := int64(2)
	read := func(until int64) {
		t.Helper()
		for next <= until {
			select {
			case r, ok := <-events:
				if !ok || r.Err() != nil {
					t.Fatalf("watch ended: %v", r.Err())
				}
				for _, e := range r.Events {
					if e.Kv.ModRevision != next || (next > 2) != (e.PrevKv != nil) {
						t.Fatalf("got %v, want revision %d", e, next)
					}
					next++
				}
			case <-time.After(patience):
				t.Fatal("no events")
			}
		}
	}
	last := int64(2)
	for range 5 {
		f.put("a", "a", "a")
		last += 3
		read(last)
		stop()
		f.put("a", "a")
		last += 2
		stop, _ = f.listen(t, addr)
	}
	read(last)
	stop()

	f.hub.Applied(f.compact(last))
	stop, _ = f.listen(t, addr)
	defer func() { stop() }()
	compacted := <-c.Watch(ctx, "a", clientv3.WithRev(3))
	if compacted.CompactRevision != last || compacted.Err() == nil {
		t.Errorf("got %+v", compacted)
	}
}
