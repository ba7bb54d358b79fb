package recipesvc_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Where there is no space for something new, requests for it are refused before the log, as those of streams are; what
// frees, and what a holder does, goes on.
func TestNothingNewWithoutSpace(t *testing.T) {
	f := start(t, 1, 2)
	held, err := f.lock.TryAcquire(f.ctx, &coordv1.AcquireRequest{Name: "held", Lease: 1})
	if err != nil {
		t.Fatal(err)
	}
	f.full.Store(true)
	try := func() error {
		_, err := f.lock.TryAcquire(f.ctx, &coordv1.AcquireRequest{Name: "a", Lease: 1})
		return err
	}
	wait := func() error {
		stream, err := f.lock.Acquire(f.ctx, &coordv1.AcquireRequest{Name: "a", Lease: 1})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	counter := coordv1.NewCounterClient(f.conn)
	add := func() error {
		_, err := counter.Add(f.ctx, &coordv1.CounterAdd{Name: "a", Delta: 1})
		return err
	}
	group := func() error {
		_, err := coordv1.NewGroupClient(f.conn).Join(f.ctx, &coordv1.GroupJoin{Name: "g", Member: "m", Lease: 1})
		return err
	}
	put := func() error {
		in := &coordv1.ServiceInstance{
			Service: "pay", Id: "a", Addr: "h:1", Weight: 1, State: coordv1.ServiceState_SERVICE_STATE_PASSING,
		}
		_, err := coordv1.NewRegistryClient(f.conn).Put(f.ctx, &coordv1.ServicePutRequest{Instance: in, Lease: 1})
		return err
	}
	all := map[string]func() error{"try": try, "acquire": wait, "counter": add, "group": group, "instance": put}
	for what, do := range all {
		if err := do(); status.Code(err) != codes.ResourceExhausted ||
			status.Convert(err).Message() != "etcdserver: mvcc: database space exceeded" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := f.lock.Release(f.ctx, releaseOf("held", held.Granted.GetKey(), held.Granted.GetToken())); err != nil {
		t.Errorf("a release: %v", err)
	}
	f.full.Store(false)
	for what, do := range all {
		if err := do(); err != nil {
			t.Errorf("%s with space: %v", what, err)
		}
	}
}
