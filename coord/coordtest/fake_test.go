package coordtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func get(t *testing.T, c *clientv3.Client, key string) (values int64) {
	t.Helper()
	r, err := c.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return r.Count
}

// Time passes by Advance alone, and to the millisecond.
func TestLeaseOfAFakeExpiresByAdvanceAlone(t *testing.T) {
	fake := coordtest.NewFake(t)
	client := dial(t, []string{fake.Endpoint()})
	lease, err := client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "held", "", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	fake.Advance(time.Minute - time.Millisecond)
	if get(t, client, "held") != 1 {
		t.Error("the key is gone before its TTL is over")
	}
	if ttl, err := client.TimeToLive(t.Context(), lease.ID); err != nil || ttl.TTL != 0 || ttl.GrantedTTL != 60 {
		t.Errorf("a millisecond before the end the lease says %+v, %v", ttl, err)
	}
	if _, err := client.KeepAliveOnce(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	fake.Advance(time.Minute - time.Millisecond)
	if get(t, client, "held") != 1 {
		t.Error("the renewal gave no full TTL")
	}
	fake.Advance(time.Millisecond)
	if get(t, client, "held") != 0 {
		t.Error("the key outlived its lease")
	}
	if fake.Clock() != 2*time.Minute-time.Millisecond {
		t.Errorf("the clock shows %s", fake.Clock())
	}
}

// The order of deadlines counts, however far the clock is turned at once.
func TestAdvanceExpiresInOrder(t *testing.T) {
	fake := coordtest.NewFake(t)
	client := dial(t, []string{fake.Endpoint()})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	gone := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithFilterPut())
	for i, ttl := range []int64{300, 100, 200} {
		lease, err := client.Grant(t.Context(), ttl)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Put(t.Context(), fmt.Sprint("ttl", ttl), "", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(i, err)
		}
	}
	fake.Advance(24 * time.Hour)
	var order []string
	for len(order) < 3 {
		r, ok := <-gone
		if !ok {
			t.Fatalf("expired are only %v", order)
		}
		for _, ev := range r.Events {
			order = append(order, string(ev.Kv.Key))
		}
	}
	if got := fmt.Sprint(order); got != "[ttl100 ttl200 ttl300]" {
		t.Errorf("expired in the order %s", got)
	}
}

func TestLoseResponses(t *testing.T) {
	fake := coordtest.NewFake(t)
	client := dial(t, []string{fake.Endpoint()})
	get(t, client, "k")
	fake.LoseResponses(1)
	if _, err := client.Put(t.Context(), "k", "v"); status.Code(err) != codes.Unavailable {
		t.Errorf("the put whose response was lost says %v", err)
	}
	if get(t, client, "k") != 1 {
		t.Error("the put had no effect")
	}
}

// On the native stream a frame of answers is lost with the stream; the next stream is in order.
func TestLoseResponsesOfTheStream(t *testing.T) {
	fake := coordtest.NewFake(t)
	conn, err := grpc.NewClient(fake.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func() (*coordv1.ServerFrame, error) {
		stream, err := coordv1.NewStreamClient(conn).Open(t.Context())
		if err != nil {
			return nil, err
		}
		request := &coordv1.Request{Sequence: 7, Kind: coordv1.Kind_KIND_LEASE_LEASES}
		_ = stream.Send(&coordv1.ClientFrame{
			Hello: &coordv1.Hello{Protocol: 1}, Batches: []*coordv1.Batch{{Requests: []*coordv1.Request{request}}},
		})
		for {
			frame, err := stream.Recv()
			if err != nil || len(frame.Responses) > 0 {
				return frame, err
			}
		}
	}
	fake.LoseResponses(2)
	for range 2 {
		if _, err := read(); status.Code(err) != codes.Unavailable {
			t.Errorf("the stream whose answer was lost says %v", err)
		}
	}
	if frame, err := read(); err != nil || frame.Responses[0].Sequence != 7 {
		t.Errorf("then %v, %v", frame, err)
	}
}

func TestPauseAndResume(t *testing.T) {
	fake := coordtest.NewFake(t)
	client := dial(t, []string{fake.Endpoint()})
	lease, err := client.Grant(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	fake.Pause()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.Get(short, "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused server answered a read: %v", err)
	}
	put := make(chan error)
	go func() {
		_, err := client.Put(context.Background(), "k", "v", clientv3.WithLease(lease.ID))
		put <- err
	}()
	select {
	case err := <-put:
		t.Errorf("a paused server took a write: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	fake.Advance(5 * time.Second)
	fake.Resume()
	if err := <-put; err != nil {
		t.Errorf("the write that waited for the end of the pause: %v", err)
	}
	fake.Advance(5 * time.Second)
	if get(t, client, "k") != 0 {
		t.Error("time did not pass during the pause")
	}
}

func TestDropConnections(t *testing.T) {
	fake := coordtest.NewFake(t)
	client := dial(t, []string{fake.Endpoint()})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	alive := client.Watch(ctx, "k")
	if _, err := client.Put(t.Context(), "k", "1"); err != nil {
		t.Fatal(err)
	}
	<-alive
	fake.DropConnections()
	_, err := client.Put(t.Context(), "k", "2")
	if err != nil && status.Code(err) == codes.Unavailable { // it may have been under way
		_, err = client.Put(t.Context(), "k", "2")
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := <-alive; r.Err() != nil || string(r.Events[0].Kv.Value) != "2" {
		t.Errorf("the watch did not go on: %+v", r)
	}
}
