package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

func checkHeader(t *testing.T, h *pb.ResponseHeader, revision int64) {
	t.Helper()
	want := &pb.ResponseHeader{ClusterId: testCluster, MemberId: testMember, RaftTerm: testTerm, Revision: revision}
	if !proto.Equal(h, want) {
		t.Errorf("header %v, want %v", h, want)
	}
}

func TestPutRangeDelete(t *testing.T) {
	f := serve(t)
	ctx := t.Context()
	put, err := f.kv.Put(ctx, &pb.PutRequest{Key: key("a"), Value: key("1")})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, put.Header, 2)
	got, err := f.kv.Range(ctx, &pb.RangeRequest{Key: key("a")})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, got.Header, 2)
	if got.Count != 1 || string(got.Kvs[0].Value) != "1" {
		t.Errorf("range: %v", got)
	}
	deleted, err := f.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key("b")})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, deleted.Header, 2)
	_, err = f.kv.Range(ctx, &pb.RangeRequest{Key: key("a"), Revision: 9})
	wants{codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"}.check(t, err)
	_, err = f.kv.Put(ctx, &pb.PutRequest{Key: key("a"), Lease: 5})
	wants{codes.NotFound, "etcdserver: requested lease not found"}.check(t, err)
}

// Only what must be linearizable waits for the cluster, and only what writes goes through the log.
func TestReadsAndTheLog(t *testing.T) {
	f := serve(t)
	ctx := t.Context()
	local := &pb.RangeRequest{Key: key("a"), Serializable: true}
	for name, c := range map[string]struct {
		call      func() error
		reads, tx int64
	}{
		"range":        {func() error { _, err := f.kv.Range(ctx, &pb.RangeRequest{Key: key("a")}); return err }, 1, 0},
		"local range":  {func() error { _, err := f.kv.Range(ctx, local); return err }, 0, 0},
		"read txn":     {f.txn(&pb.TxnRequest{Success: ops(rangeOp(&pb.RangeRequest{Key: key("a")}))}), 1, 0},
		"local txn":    {f.txn(&pb.TxnRequest{Success: ops(rangeOp(local))}), 0, 0},
		"compare only": {f.txn(&pb.TxnRequest{Compare: []*pb.Compare{{Key: key("a")}}}), 0, 0},
		"nested reads": {f.txn(&pb.TxnRequest{
			Success: ops(txnOp(&pb.TxnRequest{Success: ops(rangeOp(local))})),
		}), 0, 1},
		"write": {f.txn(&pb.TxnRequest{Success: ops(putOp("a"))}), 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			reads, tx := f.reads.Load(), f.proposals[raftv1.KindTxn].Load()
			if err := c.call(); err != nil {
				t.Fatal(err)
			}
			if r, x := f.reads.Load()-reads, f.proposals[raftv1.KindTxn].Load()-tx; r != c.reads || x != c.tx {
				t.Errorf("%d linearizable reads and %d proposals, want %d and %d", r, x, c.reads, c.tx)
			}
		})
	}
}

func (f *fixture) txn(r *pb.TxnRequest) func() error {
	return func() error {
		_, err := f.kv.Txn(context.Background(), r)
		return err
	}
}

// The envelope of etcd that holds the request is what must fit: a put's overhead is 15 bytes, its tag included, and the
// length of the put.
func TestRequestTooLarge(t *testing.T) {
	const limit = 4096
	f := serve(t, func(o *serverOptions) { o.MaxRequestBytes = limit })
	fits := &pb.PutRequest{Key: key("k")}
	for envelope(fits) <= limit {
		fits.Value = append(fits.Value, 'x')
	}
	tooLarge := proto.CloneOf(fits)
	fits.Value = fits.Value[1:]
	if _, err := f.kv.Put(t.Context(), fits); err != nil {
		t.Errorf("%d bytes: %v", envelope(fits), err)
	}
	_, err := f.kv.Put(t.Context(), tooLarge)
	wants{codes.InvalidArgument, "etcdserver: request is too large"}.check(t, err)
}

// envelope is the size that etcd compares, with the largest request id.
func envelope(r *pb.PutRequest) int {
	return proto.Size(&pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 1 << 63}, Put: r})
}

func TestCompact(t *testing.T) {
	f := serve(t)
	ctx := t.Context()
	for i := range 5 {
		f.put(t, "a", fmt.Sprint(i))
	}
	response, err := f.kv.Compact(ctx, &pb.CompactionRequest{Revision: 4, Physical: true})
	if err != nil {
		t.Fatal(err)
	}
	checkHeader(t, response.Header, 6)
	_, err = f.kv.Compact(ctx, &pb.CompactionRequest{Revision: 4})
	wants{codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"}.check(t, err)
	_, err = f.kv.Compact(ctx, &pb.CompactionRequest{Revision: 40, Physical: true})
	wants{codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"}.check(t, err)
	_, err = f.kv.Range(ctx, &pb.RangeRequest{Key: key("a"), Revision: 3})
	wants{codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"}.check(t, err)
}

// A proposal whose time is up may still be executed: etcd's timeout, not the client's, for ours and for its deadline.
func TestProposalTimeout(t *testing.T) {
	b := newMachineBackend(t)
	b.intercept = func(ctx context.Context, _ raftv1.Kind, _ []byte) (any, error, bool) {
		<-ctx.Done()
		return nil, ctx.Err(), true
	}
	s := &kvServer{
		service: &service{backend: b, maxRequestBytes: 1 << 20, timeout: 20 * time.Millisecond}, maxTxnOps: 1,
	}
	s.quota = newQuota(s.service, -1)
	_, err := s.Put(t.Context(), &pb.PutRequest{Key: key("a")})
	wants{codes.Unavailable, "etcdserver: request timed out"}.check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Put(ctx, &pb.PutRequest{Key: key("a")})
	wants{codes.Canceled, "etcdserver: request canceled"}.check(t, err)

	b.failReads(fmt.Errorf("read index: %w", context.DeadlineExceeded))
	_, err = s.Range(t.Context(), &pb.RangeRequest{Key: key("a")})
	wants{codes.Unavailable, "etcdserver: request timed out"}.check(t, err)
	if _, err = s.Range(ctx, &pb.RangeRequest{Key: key("a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("a read given up by its client: %v", err)
	}
}

// What fills the store beyond the quota raises the alarm; what writes nothing, deletes or compacts still passes.
func TestQuota(t *testing.T) {
	f := serve(t, func(o *serverOptions) { o.QuotaBytes = 1 })
	ctx := t.Context()
	noSpace := wants{codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"}
	_, err := f.kv.Put(ctx, &pb.PutRequest{})
	noSpace.check(t, err) // before any other check, as in etcd
	_, err = f.kv.Txn(ctx, &pb.TxnRequest{Failure: ops(txnOp(&pb.TxnRequest{Success: ops(putOp("a"))}))})
	noSpace.check(t, err)
	_, err = f.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 5})
	noSpace.check(t, err)
	if n := f.proposals[raftv1.KindAlarm].Load(); n != 1 {
		t.Errorf("the alarm was proposed %d times", n)
	}
	_, err = f.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: key("a")})
	wants{}.check(t, err)
	wants{}.check(t, f.txn(&pb.TxnRequest{Success: ops(deleteOp("a", ""))})())
	alarms, err := pb.NewMaintenanceClient(f.conn).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	if err != nil || len(alarms.Alarms) != 1 || alarms.Alarms[0].MemberID != testMember ||
		alarms.Alarms[0].Alarm != pb.AlarmType_NOSPACE {
		t.Errorf("alarms %v, %v", alarms, err)
	}
}

// An alarm that is being raised behind somebody's back when the server stops is given up, and the server waits for
// that.
func TestRunWaitsForTheAlarm(t *testing.T) {
	b := newMachineBackend(t)
	proposed, stopped, givenUp := make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.intercept = func(ctx context.Context, _ raftv1.Kind, _ []byte) (any, error, bool) {
		defer close(givenUp)
		close(proposed)
		<-ctx.Done()
		select {
		case <-stopped:
		case <-time.After(50 * time.Millisecond): // in which a server that does not wait stops
		}
		return nil, ctx.Err(), true
	}
	opts := testOptions(b)
	opts.QuotaBytes = 1
	var etcd *Services
	opts.Register = func(_ grpc.ServiceRegistrar, s *Services) { etcd = s }
	s, err := opts.server()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.GRPC().Stop)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer close(stopped)
		_ = s.Run(ctx)
	}()
	for range 2 { // of which the second finds the alarm being raised
		if err := etcd.CheckNew(1); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("something new in a full store: %v", err)
		}
	}
	<-proposed
	stop()
	<-stopped
	select {
	case <-givenUp:
	default:
		t.Error("the server stopped before the alarm was given up")
	}
	if err := etcd.CheckNew(1); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("something new after the end: %v", err)
	}
}

func TestRangeStreamIsRange(t *testing.T) {
	const keys = 500
	f := serve(t, func(o *serverOptions) { o.MaxRequestBytes = 4 << 10 }) // so that chunks grow and shrink
	for i := range keys {
		f.put(t, fmt.Sprintf("k%04d", i), string(bytes.Repeat([]byte{'v'}, i%300)))
	}
	middle := int64(keys/2 + 1)
	for name, r := range map[string]*pb.RangeRequest{
		"all":           {Key: key("k"), RangeEnd: key("l")},
		"serializable":  {Key: key("k"), RangeEnd: key("\x00"), Serializable: true},
		"old":           {Key: key("k"), RangeEnd: key("l"), Revision: middle},
		"keys only":     {Key: key("k"), RangeEnd: key("l"), KeysOnly: true},
		"count only":    {Key: key("k"), RangeEnd: key("l"), CountOnly: true, Limit: 3},
		"limit":         {Key: key("k"), RangeEnd: key("l"), Limit: 77},
		"limit 1":       {Key: key("k"), RangeEnd: key("l"), Limit: 1},
		"limit of all":  {Key: key("k"), RangeEnd: key("l"), Limit: keys},
		"limit of more": {Key: key("k"), RangeEnd: key("l"), Limit: keys + 1},
		"one key":       {Key: key("k0003")},
		"none":          {Key: key("x"), RangeEnd: key("z")},
		"ascending":     {Key: key("k"), RangeEnd: key("l"), SortOrder: pb.RangeRequest_ASCEND, Limit: 20},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := f.kv.Range(t.Context(), proto.CloneOf(r))
			if err != nil {
				t.Fatal(err)
			}
			got, chunks := f.stream(t, r)
			if !proto.Equal(got, want) {
				t.Errorf("merged: %d keys, count %d, more %v, %v; unary: %d, %d, %v, %v",
					len(got.Kvs), got.Count, got.More, got.Header, len(want.Kvs), want.Count, want.More, want.Header)
			}
			if name == "all" && chunks < 5 {
				t.Errorf("%d chunks are no stream", chunks)
			}
		})
	}
}

// stream merges the chunks and checks that only the last has a header.
func (f *fixture) stream(t *testing.T, r *pb.RangeRequest) (merged *pb.RangeResponse, chunks int) {
	t.Helper()
	stream, err := f.kv.RangeStream(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	merged = &pb.RangeResponse{}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return merged, chunks
		}
		if err != nil {
			t.Fatal(err)
		}
		if merged.Header != nil {
			t.Error("a chunk after the one with the header")
		}
		proto.Merge(merged, chunk.RangeResponse)
		chunks++
	}
}

// The stream stays at the revision of its first chunk, and says so when that is compacted away.
func TestRangeStreamIsPinned(t *testing.T) {
	f := serve(t)
	for i := range 40 {
		f.put(t, fmt.Sprintf("k%02d", i), "old")
	}
	s := &kvServer{service: f.server.system}
	var changed func()
	stream := &fakeRangeStream{ctx: t.Context(), onSend: func() { changed() }}
	changed = func() {
		changed = func() {}
		f.put(t, "k39", "new")
		f.put(t, "k40", "new")
	}
	if err := s.RangeStream(&pb.RangeRequest{Key: key("k"), RangeEnd: key("l")}, stream); err != nil {
		t.Fatal(err)
	}
	if got := &stream.merged; got.Count != 40 || len(got.Kvs) != 40 || string(got.Kvs[39].Value) != "old" ||
		got.Header.Revision != 41 {
		t.Errorf("count %d, %d keys, last %v, header %v", got.Count, len(got.Kvs), got.Kvs[len(got.Kvs)-1], got.Header)
	}
	stream.merged.Reset()
	changed = func() {
		changed = func() {}
		revision := f.put(t, "k", "new")
		if _, err := f.kv.Compact(t.Context(), &pb.CompactionRequest{Revision: revision}); err != nil {
			t.Error(err)
		}
	}
	err := s.RangeStream(&pb.RangeRequest{Key: key("k"), RangeEnd: key("l")}, stream)
	wants{codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"}.check(t, err)
}

type fakeRangeStream struct {
	pb.KV_RangeStreamServer
	ctx    context.Context
	onSend func()
	merged pb.RangeResponse
}

func (s *fakeRangeStream) Context() context.Context { return s.ctx }

func (s *fakeRangeStream) Send(r *pb.RangeStreamResponse) error {
	proto.Merge(&s.merged, r.RangeResponse)
	s.onSend()
	return nil
}
