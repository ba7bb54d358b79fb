package exampletest

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// conn is a connection for the services beside the stream.
func conn(t *testing.T, c *client.Client) grpc.ClientConnInterface {
	t.Helper()
	conn, err := c.Conn()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestUnaryServicesShareTheObjects: what other languages do by the services of coord.v1, and what the SDK does, is
// about the same counters, sequences, latches, gates and groups; who waits by a service is woken by the SDK.
func TestUnaryServicesShareTheObjects(t *testing.T) {
	everywhere(t, func(t *testing.T, c *client.Client) {
		ctx, conn := bounded(t), conn(t, c)
		if v, err := coordv1.NewCounterClient(conn).Add(ctx,
			&coordv1.CounterAdd{Name: "sdk/n", Delta: 3}); err != nil || v.Value != 3 {
			t.Errorf("add: %v, %v", v, err)
		}
		if sum, err := c.Counter("sdk/n").Add(ctx, 1); err != nil || sum != 4 {
			t.Errorf("sum: %d, %v", sum, err)
		}
		if r, err := coordv1.NewSequenceClient(conn).Next(ctx,
			&coordv1.SequenceNext{Name: "sdk/ids", Count: 10}); err != nil || r.First != 1 {
			t.Errorf("next: %v, %v", r, err)
		}
		if id, err := c.Sequence("sdk/ids").Next(ctx); err != nil || id != 11 {
			t.Errorf("next: %d, %v", id, err)
		}
		if _, err := c.Latch("sdk/l").Set(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if err := c.Gate("sdk/g").Close(ctx); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 2)
		go func() {
			_, err := coordv1.NewLatchClient(conn).Await(ctx, &coordv1.LatchAwait{Name: "sdk/l"})
			done <- err
		}()
		go func() {
			_, err := coordv1.NewGateClient(conn).Await(ctx, &coordv1.GateAwait{Name: "sdk/g"})
			done <- err
		}()
		watch, err := coordv1.NewGroupClient(conn).Watch(ctx, &coordv1.GroupWatchRequest{Name: "sdk/w"})
		if err != nil {
			t.Fatal(err)
		}
		if change, err := watch.Recv(); err != nil || len(change.Joined) > 0 {
			t.Fatalf("the group at first: %v, %v", change, err)
		}
		own := newSession(t, c, time.Minute)
		if _, err := own.Group("sdk/w").Join(ctx, "m", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if change, err := watch.Recv(); err != nil || len(change.Joined) != 1 ||
			change.Joined[0].Session != int64(own.Lease()) {
			t.Errorf("joined: %v, %v", change, err)
		}
		if err := own.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if change, err := watch.Recv(); err != nil || len(change.Left) != 1 || string(change.Left[0].Data) != "x" {
			t.Errorf("left: %v, %v", change, err)
		}
		if _, err := c.Latch("sdk/l").CountDown(ctx, 1); err != nil {
			t.Error(err)
		}
		if _, err := c.Gate("sdk/g").Open(ctx); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestStoppedMemberEndsWaits: who waits through a member that stops is told to ask again.
func TestStoppedMemberEndsWaits(t *testing.T) {
	fake := coordtest.NewFake(t)
	c, ctx := dial(t, fake.Endpoint()), bounded(t)
	conn := conn(t, c)
	if _, err := coordv1.NewGateClient(conn).Close(ctx, &coordv1.GateClose{Name: "g"}); err != nil {
		t.Fatal(err)
	}
	watch, err := coordv1.NewGroupClient(conn).Watch(ctx, &coordv1.GroupWatchRequest{Name: "w"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := coordv1.NewGateClient(conn).Await(ctx, &coordv1.GateAwait{Name: "g"})
		done <- err
	}()
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	fake.Close()
	if err := <-done; status.Code(err) != codes.Unavailable { // it may have come too late to wait
		t.Errorf("await: %v", err)
	}
	_, err = watch.Recv()
	told := strings.Contains(err.Error(), "server stopped") || strings.Contains(err.Error(), "the member is stopping")
	if status.Code(err) != codes.Unavailable || !told {
		t.Errorf("watch: %v", err)
	}
}
