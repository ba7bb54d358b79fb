package api

import (
	"context"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

func TestLeaseGrant(t *testing.T) {
	f := serve(t)
	ctx := t.Context()
	for name, c := range map[string]struct {
		ttl, granted int64
		want         wants
	}{
		"plain":     {60, 60, wants{}},
		"too short": {1, 2, wants{}},
		"none":      {0, 2, wants{}},
		"negative":  {-5, 2, wants{}},
		"longest":   {9_000_000_000, 9_000_000_000, wants{}},
		"too long":  {9_000_000_001, 0, wants{codes.OutOfRange, "etcdserver: too large lease TTL"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := f.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: c.ttl})
			c.want.check(t, err)
			if err != nil {
				return
			}
			checkHeader(t, got.Header, 1)
			if got.ID <= 0 || got.TTL != c.granted {
				t.Errorf("granted %d for %d s", got.ID, got.TTL)
			}
		})
	}
	if _, err := f.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 10}); err != nil {
		t.Fatal(err)
	}
	_, err := f.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 10})
	wants{codes.FailedPrecondition, "etcdserver: lease already exists"}.check(t, err)
}

// A drawn id that is taken is drawn again; the client asked for any.
func TestLeaseGrantDrawsAgain(t *testing.T) {
	f := serve(t)
	taken := 2
	f.intercept = func(_ context.Context, kind raftv1.Kind, _ []byte) (any, error, bool) {
		if kind != raftv1.KindLeaseGrant || taken == 0 {
			return nil, nil, false
		}
		taken--
		return nil, statemachine.ErrLeaseExist, true
	}
	got, err := f.lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{TTL: 10})
	if err != nil || got.ID <= 0 || taken != 0 {
		t.Errorf("granted %v, %v with %d collisions left", got, err, taken)
	}
}

func TestMinLeaseTTL(t *testing.T) {
	for election, want := range map[time.Duration]int64{
		100 * time.Millisecond: 2, time.Second: 2, 1400 * time.Millisecond: 3, 5 * time.Second: 8,
	} {
		if got := minLeaseTTL(election); got != want {
			t.Errorf("%v: %d s, want %d", election, got, want)
		}
	}
}

func TestLeaseTimeToLiveAndRevoke(t *testing.T) {
	f := serve(t)
	ctx := t.Context()
	for _, id := range []int64{11, 12} {
		if _, err := f.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: 100}); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"b", "a"} {
		if _, err := f.kv.Put(ctx, &pb.PutRequest{Key: key(k), Lease: 11}); err != nil {
			t.Fatal(err)
		}
	}
	reads := f.reads.Load()
	got, err := f.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 11, Keys: true})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, got.Header, 3)
	if got.TTL != 100 || got.GrantedTTL != 100 || len(got.Keys) != 2 || string(got.Keys[0]) != "a" {
		t.Errorf("time to live %v", got)
	}
	if f.reads.Load() != reads+1 {
		t.Error("the read was not linearizable")
	}
	if got, err = f.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 11}); err != nil || got.Keys != nil {
		t.Errorf("keys that were not asked for: %v, %v", got, err)
	}
	all, err := f.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil || len(all.Leases) != 2 {
		t.Errorf("leases %v, %v", all, err)
	}
	revoked, err := f.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 11})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, revoked.Header, 4) // both keys in one revision
	_, err = f.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 11})
	wants{codes.NotFound, "etcdserver: requested lease not found"}.check(t, err)
	gone, err := f.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 11, Keys: true})
	if err != nil || gone.ID != 11 || gone.TTL != -1 || gone.GrantedTTL != 0 {
		t.Errorf("a lease that is gone: %v, %v", gone, err)
	}
}

func TestWholeSeconds(t *testing.T) {
	for ms, want := range map[int64]int64{0: 0, 1: 1, 999: 1, 1000: 1, 1999: 1, 2000: 2, 60_000: 60} {
		if got := wholeSeconds(ms); got != want {
			t.Errorf("%d ms are %d s, want %d", ms, got, want)
		}
	}
}

// While one command is under way the requests of a stream gather, so that a thousand leases take a few commands. Each
// request is answered, in order; a lease that does not exist gets 0 and ends nothing.
func TestKeepAlivePipelined(t *testing.T) {
	const leases, unknown = 1000, 500
	f := serve(t)
	release, under := make(chan struct{}), make(chan struct{}, 1)
	var mu sync.Mutex
	var batches [][]int64
	f.intercept = func(_ context.Context, kind raftv1.Kind, body []byte) (any, error, bool) {
		if kind != raftv1.KindLeaseRenew {
			return nil, nil, false
		}
		renew := &raftv1.LeaseRenew{}
		if err := proto.Unmarshal(body, renew); err != nil {
			return nil, err, true
		}
		mu.Lock()
		batches = append(batches, renew.Ids)
		first := len(batches) == 1
		mu.Unlock()
		if first {
			under <- struct{}{}
			<-release
		}
		return nil, nil, false
	}
	for id := int64(1); id <= leases; id++ {
		if id == unknown {
			continue
		}
		if _, err := f.lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 30}); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := f.lease.LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id := int64(1); id <= leases; id++ {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		if id == 1 {
			<-under
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // for the requests to arrive; too little would only make more commands
	close(release)
	for id := int64(1); id <= leases; id++ {
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		ttl := int64(30)
		if id == unknown {
			ttl = 0
		}
		if got.ID != id || got.TTL != ttl {
			t.Fatalf("answer %v, want id %d with %d s", got, id, ttl)
		}
		checkHeader(t, got.Header, 1)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("after the last answer: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(batches) > leases/20 {
		t.Errorf("%d commands for %d leases", len(batches), leases)
	}
	if sent := slices.Concat(batches...); len(sent) != leases || !slices.IsSorted(sent) {
		t.Errorf("%d ids in the commands, sorted: %v", len(sent), slices.IsSorted(sent))
	}
}

// The revision of an answer is one at which the lease was still there: it is read before the renewal.
func TestKeepAliveHeaderIsOlder(t *testing.T) {
	f := serve(t)
	if _, err := f.lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 1, TTL: 30}); err != nil {
		t.Fatal(err)
	}
	f.intercept = func(_ context.Context, kind raftv1.Kind, _ []byte) (any, error, bool) {
		if kind == raftv1.KindLeaseRenew {
			f.put(t, "meanwhile", "")
		}
		return nil, nil, false
	}
	stream, err := f.lease.LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, got.Header, 1)
}

// A command that fails ends the stream with its error, so that the client turns to another member.
func TestKeepAliveFails(t *testing.T) {
	f := serve(t)
	f.intercept = func(context.Context, raftv1.Kind, []byte) (any, error, bool) { return nil, ErrTimeout, true }
	stream, err := f.lease.LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wants{codes.Unavailable, "etcdserver: request timed out"}.check(t, err)
}

// The receiver stops at the bound and goes on when there is room; nothing is lost.
func TestRenewQueueBound(t *testing.T) {
	q := newRenewQueue()
	const n = 3 * maxRenewPending
	done := make(chan struct{})
	go func() {
		defer close(done)
		for id := range int64(n) {
			if !q.add(t.Context(), id) {
				return
			}
		}
		q.close(io.EOF)
	}()
	next := int64(0)
	for {
		ids, err := q.take(t.Context())
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) > maxRenewBatch {
			t.Fatalf("a batch of %d", len(ids))
		}
		for _, id := range ids {
			if id != next {
				t.Fatalf("id %d, want %d", id, next)
			}
			next++
		}
	}
	if <-done; next != n {
		t.Errorf("%d of %d", next, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	full := newRenewQueue()
	for id := range int64(maxRenewPending) {
		full.add(t.Context(), id)
	}
	if full.add(ctx, 0) {
		t.Error("added beyond the bound")
	}
}
