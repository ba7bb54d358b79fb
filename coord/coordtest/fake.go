package coordtest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/coord-dev/coord/coord/internal/keyspace"
	"github.com/coord-dev/coord/coord/internal/propose"
	"github.com/coord-dev/coord/statemachine"
)

// Fake is a server inside the test's process, for tests of programs that use coord. It is the real server but for two
// things: its log is applied at once, on a file system in memory, so that nothing waits for a disk or for other
// members; and time passes for its leases, and so for sessions, only when the test says so with Advance. Give clients
// its Clock, and the loss of a lock becomes a matter of one line:
//
//	fake := coordtest.NewFake(t)
//	c, err := client.New(client.Config{Endpoints: []string{fake.Endpoint()}, Clock: fake.Clock})
//	...
//	fake.Advance(time.Minute) // every session whose TTL is not longer is lost
//
// Whatever is not measured on that clock, like a deadline of a context or the wait between two attempts to connect,
// goes by real time. All methods are safe for concurrent use.
type Fake struct {
	log      *fakeLog
	replica  *keyspace.Keyspace
	services *keyspace.Server
	listener *fakeListener
	losses   losses

	cancel  context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

// NewFake starts a server that is empty and ready. The test's end stops it.
func NewFake(t testing.TB) *Fake {
	t.Helper()
	f, err := StartFake()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// fakeID names the one member and its cluster.
const fakeID = 1

// fakeElectionTimeout sets etcd's limits: the time a request may take, and the smallest TTL of the Lease API.
const fakeElectionTimeout = 300 * time.Millisecond

// StartFake is NewFake where there is no test, as in an Example. The caller closes the server.
func StartFake() (*Fake, error) {
	return startFake(func(l propose.Log) propose.Log { return l })
}

// startFake is StartFake with another log in front of the fake's.
func startFake(front func(propose.Log) propose.Log, options ...grpc.ServerOption) (f *Fake, err error) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a fake server: %w", err)
	}
	f = &Fake{log: &fakeLog{}, listener: &fakeListener{Listener: port}}
	f.replica = keyspace.New(keyspace.Options{
		Log: front(f.log), Dir: "/coord", FS: vfs.NewMem(), Shard: 1, Member: fakeID, Boot: 1,
		Procedures: []statemachine.Procedure{overwrite{}}, Now: f.Clock, Logger: zap.NewNop(),
	})
	if err = f.log.open(f.replica); err == nil {
		f.services, err = keyspace.NewServer(keyspace.ServerOptions{
			MemberID: fakeID, ElectionTimeout: fakeElectionTimeout, MaxRequestBytes: 1536 << 10, MaxTxnOps: 128,
			GRPC: append(options, grpc.ChainUnaryInterceptor(f.losses.unary),
				grpc.ChainStreamInterceptor(f.losses.stream)),
			Registry: prometheus.NewRegistry(), Logger: zap.NewNop(),
		})
	}
	if err == nil {
		err = f.services.Serve(keyspace.ServicesOptions{
			Backend: &fakeMember{f.replica, f}, Keyspace: f.replica, QuotaBytes: -1,
		})
	}
	if err != nil {
		port.Close()
		f.replica.Close()
		f.log.close()
		return nil, fmt.Errorf("start a fake server: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.running.Go(func() { _ = f.services.API.Run(ctx) })
	f.running.Go(func() { _ = f.services.API.GRPC().Serve(f.services.Listen(f.listener)) })
	return f, nil
}

// Close stops the server: streams end, requests finish, for a second at most. It can be called twice.
func (f *Fake) Close() { f.closing.Do(f.stop) }

func (f *Fake) stop() {
	f.Resume()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	f.services.Drain(ctx)
	f.services.Close()
	f.cancel()
	f.running.Wait()
	f.replica.Close()
	f.log.close()
}

// Endpoint is the server's address for clients, host:port.
func (f *Fake) Endpoint() string { return f.listener.Addr().String() }

// Clock is how much time has passed: what Advance was given, in sum. As a value, fake.Clock, it is a clock for the SDK.
func (f *Fake) Clock() time.Duration { return f.log.clock() }

// Advance lets time pass, all at once: no request, and no renewal of a session, is taken in between. Clients see it on
// their clock before the server gives up what was theirs. When Advance returns, everything that came due has expired,
// in the order in which it would have: sessions whose last renewal is a TTL or more ago are gone, and who waited for
// their locks holds them. Clients hear of it as they do of anything.
//
// A session lives on if its client gets the time to renew it: advance by less than its TTL, and wait for its Deadline
// to move.
func (f *Fake) Advance(d time.Duration) { f.log.advance(d) }

// Pause keeps the server from taking anything in: no write and no renewal has an effect, and no read is answered, until
// Resume. Connections stay. Advance works meanwhile.
func (f *Fake) Pause() { f.log.pause() }

// Resume goes on with what has gathered since Pause. Without a Pause it does nothing.
func (f *Fake) Resume() { f.log.resume() }

// DropConnections breaks all connections there are. Clients can connect again at once.
func (f *Fake) DropConnections() { f.listener.drop() }

// LoseResponses makes the next n answers get lost: the request has its effect, and its client hears Unavailable, as if
// the connection had broken just then. Answers on the native stream are those in one frame; with them the stream
// breaks. Heartbeats and pushes are no answers.
func (f *Fake) LoseResponses(n int) { f.losses.left.Store(int64(n)) }
