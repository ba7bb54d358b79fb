package api

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/machine"
)

const (
	testCluster = 0xc1
	testMember  = 0xa1
	testTerm    = 7
)

// machineBackend is a Backend on a real state machine in memory, with a log that applies each command at once. The
// fields stand in for Raft and the cluster.
type machineBackend struct {
	*machine.Machine
	status    atomic.Pointer[Status]
	proposals [32]atomic.Int64 // by kind
	reads     atomic.Int64     // ReadIndex calls
	readErr   atomic.Pointer[error]
	// intercept, if set, may answer a proposal instead of the machine.
	intercept func(ctx context.Context, kind raftv1.Kind, body []byte) (response any, err error, done bool)
	onApplied func(*statemachine.Applied) // may be nil
	members   []*pb.Member
	down      map[uint64]bool
	changes   []string

	log struct {
		sync.Mutex
		index  uint64
		result statemachine.Result
	}
}

// Applied keeps the result of the one command under way.
func (b *machineBackend) Applied(a *statemachine.Applied) {
	for _, entry := range a.Entries {
		if len(entry.Results) > 0 {
			b.log.result = entry.Results[0]
		}
	}
	if b.onApplied != nil {
		b.onApplied(a)
	}
}

func (b *machineBackend) Recovered(*statemachine.Applied, func(uint64) bool) {}

func (b *machineBackend) Propose(ctx context.Context, kind raftv1.Kind, body []byte) (any, error) {
	b.proposals[kind].Add(1)
	if b.intercept != nil {
		if response, err, done := b.intercept(ctx, kind, body); done {
			return response, err
		}
	}
	b.log.Lock()
	defer b.log.Unlock()
	b.log.index++
	entry := &raftv1.Entry{
		Member: testMember, Boot: 1, Number: b.log.index, Settled: b.log.index - 1,
		Commands: []raftv1.Command{{Kind: kind, Body: body}},
	}
	if _, err := b.Update([]sm.Entry{{Index: b.log.index, Cmd: raftv1.AppendEntry(nil, entry)}}); err != nil {
		return nil, err
	}
	return b.log.result.Response, b.log.result.Err
}

func (b *machineBackend) ReadIndex(context.Context) error {
	b.reads.Add(1)
	if err := b.readErr.Load(); err != nil {
		return *err
	}
	return nil
}

func (b *machineBackend) View(context.Context) (View, error) { return b.Machine.View() }

func (b *machineBackend) Revision() (statemachine.Revision, error) {
	v, err := b.Machine.View()
	if err != nil {
		return 0, err
	}
	defer v.Close()
	return v.Revision(), nil
}

func (b *machineBackend) Lease(_ context.Context, id statemachine.LeaseID) (*statemachine.LeaseInfo, [][]byte, error) {
	info, keys, ok := b.Machine.Lease(id)
	if !ok {
		return nil, nil, nil
	}
	return &info, keys, nil
}

func (b *machineBackend) Leases(context.Context) ([]statemachine.LeaseInfo, error) {
	return b.Machine.Leases(), nil
}

func (b *machineBackend) Status() Status { return *b.status.Load() }

func (b *machineBackend) LeaseRemaining(l statemachine.LeaseInfo) int64 {
	if l.Pending {
		return l.TTL
	}
	return l.DeadlineMS - b.LeaseClockMS()
}

func (b *machineBackend) Members(context.Context, bool) ([]*pb.Member, error) {
	return slices.Clone(b.members), nil
}

func (b *machineBackend) Connected(id uint64) bool { return !b.down[id] }

func (b *machineBackend) AddMember(
	_ context.Context, urls []string, learner bool, check MembersCheck,
) (*pb.Member, error) {
	if err := check(b.members); err != nil {
		return nil, err
	}
	m := &pb.Member{ID: 99, PeerURLs: urls, IsLearner: learner}
	b.members = append(b.members, m)
	b.changes = append(b.changes, "add")
	return m, nil
}

func (b *machineBackend) PromoteMember(_ context.Context, id uint64, check MembersCheck) error {
	if err := check(b.members); err != nil {
		return err
	}
	b.changes = append(b.changes, "promote")
	findMember(b.members, id).IsLearner = false
	return nil
}

func (b *machineBackend) RemoveMember(_ context.Context, id uint64, check MembersCheck) error {
	if err := check(b.members); err != nil {
		return err
	}
	b.changes = append(b.changes, "remove")
	b.members = slices.DeleteFunc(b.members, func(m *pb.Member) bool { return m.ID == id })
	return nil
}

func (b *machineBackend) UpdateMember(_ context.Context, id uint64, urls []string, check MembersCheck) error {
	if err := check(b.members); err != nil {
		return err
	}
	b.changes = append(b.changes, "update")
	findMember(b.members, id).PeerURLs = urls
	return nil
}

func (b *machineBackend) TransferLeader(_ context.Context, id uint64) error {
	b.changes = append(b.changes, "transfer")
	b.setStatus(func(s *Status) { s.Leader = id })
	return nil
}

func (b *machineBackend) setStatus(change func(*Status)) {
	next := b.Status()
	change(&next)
	b.status.Store(&next)
}

func (b *machineBackend) failReads(err error) { b.readErr.Store(&err) }

func newMachineBackend(t testing.TB) *machineBackend {
	t.Helper()
	b := &machineBackend{down: map[uint64]bool{}}
	b.Machine = machine.New(machine.Options{
		Dir: "state", FS: vfs.NewMem(), Shard: 1, Member: testMember, Boot: 1, Observer: b,
	})
	if _, err := b.Open(nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	b.status.Store(&Status{Leader: testMember, Term: testTerm, Committed: 12, Applied: 11})
	b.members = []*pb.Member{{ID: testMember, Name: "a", PeerURLs: []string{"http://10.0.0.1:2380"}}}
	return b
}

// serverOptions are those of a server with one keyspace.
type serverOptions struct {
	Options
	Keyspace
}

func testOptions(b Backend) serverOptions {
	return serverOptions{
		Options{
			MemberID: testMember, ElectionTimeout: 100 * time.Millisecond, MaxRequestBytes: 3 << 19, MaxTxnOps: 128,
			Registry: prometheus.NewRegistry(), Logger: zap.NewNop(),
		},
		Keyspace{
			Shard: 1, Backend: b, Watch: pb.UnimplementedWatchServer{}, History: statemachine.NewHistory(testCluster),
		},
	}
}

func (o serverOptions) server() (*Server, error) {
	s, err := New(o.Options)
	if err == nil {
		err = s.Serve(o.Keyspace)
	}
	return s, err
}

// fixture is a served Server with a connection to it.
type fixture struct {
	*machineBackend
	server *Server
	conn   *grpc.ClientConn
	kv     pb.KVClient
	lease  pb.LeaseClient
}

func serve(t testing.TB, change ...func(*serverOptions)) *fixture {
	t.Helper()
	b := newMachineBackend(t)
	opts := testOptions(b)
	for _, f := range change {
		f(&opts)
	}
	s, err := opts.server()
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.GRPC().Serve(listener) })
	running.Go(func() { _ = s.Run(ctx) })
	conn, err := grpc.NewClient("passthrough:test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.GRPC().Stop()
		cancel()
		running.Wait()
	})
	return &fixture{machineBackend: b, server: s, conn: conn, kv: pb.NewKVClient(conn), lease: pb.NewLeaseClient(conn)}
}

// put puts key=value and returns the revision.
func (f *fixture) put(t testing.TB, key, value string) int64 {
	t.Helper()
	response, err := f.kv.Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return response.Header.Revision
}
