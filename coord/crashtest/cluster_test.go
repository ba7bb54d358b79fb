package crashtest

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/coord-dev/coord/coord/coordtest/loopback"
)

// electionTimeout is what coordd runs with unless it is told otherwise.
const electionTimeout = 300 * time.Millisecond

// patience bounds everything that must happen but has no bound of its own.
const patience = 60 * time.Second

// member is one coordd, running or not.
type member struct {
	name         string
	program      string // what it runs, coordd if empty
	client, peer string // host:port
	dir          string
	initial      string   // --initial-cluster
	flags        []string // beside those that say who it is; later ones win
	wrap         []string // what runs coordd, if not this process
	launch       launch
	log          string
	*process     // the latest run, nil before the first
}

// cluster is some members.
type cluster struct {
	t       testing.TB
	members []*member
	dir     string
	hostile bool // somebody sends the members what no member sends
}

// layOut makes n members that found a cluster, and starts none.
func layOut(t testing.TB, n int, flags ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	t.Cleanup(c.explain)
	t.Cleanup(c.checkNothingRejected)
	addrs := freeAddrs(t, 2*n)
	var initial []string
	for i := range n {
		initial = append(initial, fmt.Sprintf("m%d=http://%s", i, addrs[2*i+1]))
	}
	for i := range n {
		c.members = append(c.members, c.member(fmt.Sprint("m", i), addrs[2*i], addrs[2*i+1], strings.Join(initial, ","),
			flags...))
	}
	return c
}

// explain shows the ends of the members' logs if the test failed.
func (c *cluster) explain() {
	for _, m := range c.members {
		if c.t.Failed() && m.process != nil {
			c.t.Logf("the log of %s ends:\n%s", m.name, m.tail(20))
		}
	}
}

// checkNothingRejected: members take everything that members send.
func (c *cluster) checkNothingRejected() {
	for _, m := range c.members {
		if m.process != nil && !c.hostile && strings.Contains(m.output(), "is not one that a member sends") {
			c.t.Errorf("%s rejected a message of a peer", m.name)
		}
	}
}

func (c *cluster) member(name, client, peer, initial string, flags ...string) *member {
	return &member{
		name: name, client: client, peer: peer, dir: filepath.Join(c.dir, name), initial: initial, flags: flags,
		log: filepath.Join(c.dir, name+".log"),
	}
}

// startCluster starts n members and returns when each can serve a linearizable read.
func startCluster(t testing.TB, n int, flags ...string) *cluster {
	t.Helper()
	c := layOut(t, n, flags...)
	c.start()
	return c
}

// freeAddrs returns n loopback addresses that nothing listens on.
func freeAddrs(t testing.TB, n int) []string {
	t.Helper()
	addrs, err := loopback.Addrs(n)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

func (m *member) argv() []string {
	client, peer := "http://"+m.client, "http://"+m.peer
	argv := append([]string{}, m.wrap...)
	argv = append(argv, cmp.Or(m.program, coordd), "--name="+m.name, "--data-dir="+m.dir, "--initial-cluster="+
		m.initial,
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer)
	return append(argv, m.flags...)
}

// start runs the member with the data it has.
func (m *member) start(t testing.TB) {
	t.Helper()
	m.process = m.launch.start(t, m.log, m.argv()...)
}

// start starts the members that do not run, and returns when each can serve a linearizable read.
func (c *cluster) start() {
	c.t.Helper()
	for _, m := range c.members {
		if m.process == nil || !m.running() {
			m.start(c.t)
		}
	}
	for _, m := range c.members {
		m.waitReady(c.t)
	}
}

// waitReady returns when the member has served a linearizable read.
func (m *member) waitReady(t testing.TB) {
	t.Helper()
	cli := dial(t, m.client)
	defer cli.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := cli.Get(attempt, "ready?")
		cancel()
		if err == nil {
			return
		}
		if !m.running() || ctx.Err() != nil {
			t.Fatalf("%s is not ready: %v; its log ends:\n%s", m.name, err, m.tail(10))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// dial returns etcd's client. It comes back to a member that was down after milliseconds, because tests that restart
// servers measure the server's time and not the client's default back-off.
func dial(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 5 * time.Millisecond, Multiplier: 1.3, MaxDelay: 25 * time.Millisecond,
			},
			MinConnectTimeout: time.Second,
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}

func (c *cluster) endpoints() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, m.client)
	}
	return all
}

// dial returns a client that knows all members.
func (c *cluster) dial() *clientv3.Client { return dial(c.t, c.endpoints()...) }

// within is a context for one step of the test.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// leader returns the member that says it leads, once there is one.
func (c *cluster) leader() *member {
	c.t.Helper()
	cli := c.dial()
	defer cli.Close()
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(20 * time.Millisecond) {
		for _, m := range c.members {
			if m.running() && leads(cli, m) {
				return m
			}
		}
	}
	c.t.Fatalf("no leader after %v", patience)
	return nil
}

func leads(cli *clientv3.Client, m *member) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	st, err := cli.Status(ctx, m.client)
	return err == nil && st.Leader == st.Header.MemberId
}

// follower returns a member other than the leader.
func (c *cluster) follower() *member {
	c.t.Helper()
	leader := c.leader()
	for _, m := range c.members {
		if m != leader {
			return m
		}
	}
	c.t.Fatal("the leader is alone")
	return nil
}

// killAll kills members at the same moment and returns when all are gone.
func killAll(members ...*member) {
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(m.kill)
	}
	wg.Wait()
}

// checkEqual waits until all members have what is there now, and compares their hashes of all of it.
func (c *cluster) checkEqual() {
	c.t.Helper()
	cli := c.dial()
	defer cli.Close()
	got, err := cli.Get(within(c.t, patience), "revision?")
	if err != nil {
		c.t.Fatal(err)
	}
	var want *clientv3.HashKVResponse
	for _, m := range c.members {
		hash := c.hash(cli, m, got.Header.Revision)
		if want == nil {
			want = hash
		}
		if hash.Hash != want.Hash || hash.CompactRevision != want.CompactRevision ||
			hash.HashRevision != want.HashRevision {
			c.t.Errorf("members differ at revision %d: %s has %v, %s has %v", got.Header.Revision, c.members[0].name,
				want, m.name, hash)
		}
	}
}

// hash is a member's hash of all revisions up to rev, once it has them.
func (c *cluster) hash(cli *clientv3.Client, m *member, rev int64) *clientv3.HashKVResponse {
	c.t.Helper()
	var err error
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		var hash *clientv3.HashKVResponse
		hash, err = cli.HashKV(ctx, m.client, rev)
		cancel()
		if err == nil {
			return hash
		}
	}
	c.t.Fatalf("%s did not reach revision %d: %v; its log ends:\n%s", m.name, rev, err, m.tail(10))
	return nil
}

// sameState waits until the hashes of the members' whole states are the same, leases, sessions and outcomes included.
// They are of one moment only by chance, while ticks pass: members that differ have no such moment.
func (c *cluster) sameState() error {
	hashes := make([]uint32, len(c.members))
	clients := make([]*clientv3.Client, len(c.members))
	for i, m := range c.members {
		clients[i] = dial(c.t, m.client)
		defer clients[i].Close()
	}
	for begin := time.Now(); time.Since(begin) < patience; {
		var asked sync.WaitGroup
		for i, cli := range clients {
			asked.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				hashes[i] = 0
				if resp, err := pb.NewMaintenanceClient(cli.ActiveConnection()).Hash(ctx,
					&pb.HashRequest{}); err == nil {
					hashes[i] = resp.Hash
				}
			})
		}
		asked.Wait()
		if hashes[0] != 0 && len(slices.Compact(slices.Clone(hashes))) == 1 {
			return nil
		}
	}
	return fmt.Errorf("the members' states never were the same in %v; the last hashes are %x", patience, hashes)
}
