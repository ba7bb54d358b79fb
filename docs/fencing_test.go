//go:build unix

package docs_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/fence"
)

// The code of recipes/fencing.md: two servers that check, and their callers, with a lock that is held and then is not.
func TestCodeOfFencing(t *testing.T) {
	t.Parallel()
	ctx, c, etcd := connect(t)

	ledger := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux := http.NewServeMux()
	mux.Handle("/ledger", fence.Handler(fence.NewMaxSeen("ledger"), ledger)) // 412 Precondition Failed
	server := grpc.NewServer(grpc.UnaryInterceptor(fence.UnaryServerInterceptor(fence.Ask(c, "ledger"))))
	web := httptest.NewServer(mux)
	defer web.Close()
	healthpb.RegisterHealthServer(server, health.NewServer())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l) // ends with Stop
	defer server.Stop()

	credentials := grpc.WithTransportCredentials(insecure.NewCredentials())
	call := func(ctx context.Context, held *client.Held, target string) (status int, err error) {
		ctx = fence.WithToken(ctx, fence.Of(held)) // or fence.OfTerm(term)
		caller := http.Client{Transport: &fence.Transport{}}
		conn, err := grpc.NewClient(target, credentials, grpc.WithUnaryInterceptor(fence.UnaryClientInterceptor()))
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, web.URL+"/ledger", nil)
		if err != nil {
			return 0, err
		}
		resp, err := caller.Do(req)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		return resp.StatusCode, err
	}
	var holders []*client.Held
	for range 2 {
		held, err := c.Lock("ledger").Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if status, err := call(ctx, held, l.Addr().String()); status != http.StatusNoContent || err != nil {
			t.Errorf("the holder got %d, %v", status, err)
		}
		if err := held.Release(ctx); err != nil {
			t.Fatal(err)
		}
		holders = append(holders, held)
	}
	if status, err := call(ctx, holders[0], l.Addr().String()); status != http.StatusPreconditionFailed || !fence.IsStale(err) {
		t.Errorf("who held first got %d, %v", status, err)
	}

	session, err := concurrency.NewSession(etcd)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, "ledger")
	if err := mutex.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	inEtcd := func() (int64, error) {
		token := mutex.Header().Revision // grows with each holder
		resp, err := etcd.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpPut("row", "mine")).Commit()
		if err == nil && !resp.Succeeded {
			err = errors.New("the lock is lost")
		}
		return token, err
	}
	if token, err := inEtcd(); err != nil || token <= holders[1].Token() {
		t.Errorf("token %d after %d, %v", token, holders[1].Token(), err)
	}
}
