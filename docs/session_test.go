//go:build unix

package docs_test

import (
	"context"
	"errors"
	"log"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/coord-dev/coord/client"
)

// The code of recipes/session.md.
func TestCodeOfSession(t *testing.T) {
	t.Parallel()
	endpoint, _ := startMember(t)
	ctx, _, etcd := connectTo(t, endpoint)

	endpoints := []string{endpoint}
	c, err := client.New(client.Config{
		Endpoints: endpoints, SessionTTL: 5 * time.Second,
		Hooks: client.Hooks{OnState: func(s client.State) { log.Println("session is", s) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	stop := make(chan struct{})
	close(stop)
	alive := func() bool {
		resp, err := etcd.Get(ctx, "alive/node-1")
		if err != nil {
			t.Fatal(err)
		}
		return resp.Count == 1
	}
	own := func() error {
		session, err := c.NewSession(ctx, client.WithTTL(2*time.Second), client.WithLabel("role", "cache"))
		if err != nil {
			return err
		}
		defer session.Close(context.WithoutCancel(ctx)) // what it holds is handed on at once
		if _, err := c.Put(ctx, "alive/node-1", "yes", clientv3.WithLease(session.Lease())); err != nil {
			return err
		}
		select {
		case <-session.Done():
			return session.Err() // client.ErrSessionExpired, or why else
		case <-stop:
			return nil
		}
	}
	if err := own(); err != nil || alive() {
		t.Errorf("%v; the key is there: %v", err, alive())
	}

	inEtcd := func() error {
		session, err := concurrency.NewSession(etcd, concurrency.WithTTL(2))
		if err != nil {
			return err
		}
		defer session.Close()
		if _, err := etcd.Put(ctx, "alive/node-1", "yes", clientv3.WithLease(session.Lease())); err != nil {
			return err
		}
		select {
		case <-session.Done():
			return errors.New("the session is lost")
		case <-stop:
			return nil
		}
	}
	if err := inEtcd(); err != nil || alive() {
		t.Errorf("%v; the key is there: %v", err, alive())
	}
}
