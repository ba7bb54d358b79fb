//go:build unix

package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/coord-dev/coord/client"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// turns is how often each of them takes the lock.
const turns = 5

// TestOneLockInFiveWays has one lock taken in turn through the SDK, coordctl lock, etcdctl's lock, etcd's
// concurrency.Mutex and the unary RPC: never two at once.
func TestOneLockInFiveWays(t *testing.T) {
	const name = "five/ways"
	dir := t.TempDir()
	etcdctl := filepath.Join(dir, "etcdctl")
	if err := build(etcdctl, "go.etcd.io/etcd/etcdctl/v3"); err != nil {
		t.Fatal(err)
	}
	// Whoever holds makes the file, and takes it away before it gives the lock back. mkdir refuses what is there.
	place := filepath.Join(dir, "place")
	section := fmt.Sprintf("mkdir %[1]s || exit 9; sleep 0.02; rmdir %[1]s", place)
	inside := func() error {
		if err := os.Mkdir(place, 0o700); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
		return os.Remove(place)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	run := func(binary string, env []string, args ...string) error {
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
		return nil
	}
	ours, err := client.New(client.Config{Endpoints: []string{endpoint(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	etcd := newClient(t)
	session, err := concurrency.NewSession(etcd, concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	conn, err := grpc.NewClient(endpoint(t), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rpc := coordv1.NewLockClient(conn)
	lease, err := etcd.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]func() error{
		"client.Lock": func() error {
			return ours.Lock(name).Do(ctx, func(context.Context, *client.Held) error { return inside() })
		},
		"coordctl lock": func() error {
			return run(binary, []string{"COORDCTL_ENDPOINTS=" + server}, "lock", name, "--", "sh", "-c", section)
		},
		"etcdctl lock": func() error {
			return run(etcdctl, []string{"ETCDCTL_ENDPOINTS=" + server}, "lock", name, "--", "sh", "-c", section)
		},
		"concurrency.Mutex": func() error {
			mutex := concurrency.NewMutex(session, name)
			if err := mutex.Lock(ctx); err != nil {
				return err
			}
			if err := inside(); err != nil {
				return err
			}
			return mutex.Unlock(ctx)
		},
		"the unary RPC": func() error {
			got, err := rpc.TryAcquire(ctx,
				&coordv1.AcquireRequest{Name: name, Lease: int64(lease.ID), WaitMs: patience.Milliseconds()})
			if err != nil {
				return err
			}
			if got.Granted == nil {
				return fmt.Errorf("not acquired: %v", got)
			}
			if err := inside(); err != nil {
				return err
			}
			_, err = rpc.Release(ctx,
				&coordv1.Release{Entries: []*coordv1.Guard{
					{Name: name, Key: got.Granted.Key, Token: got.Granted.Token},
				}})
			return err
		},
	}
	var wg sync.WaitGroup
	for way, take := range ways {
		wg.Go(func() {
			for turn := range turns {
				if err := take(); err != nil {
					t.Errorf("%s, turn %d: %v", way, turn, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
