package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/config"
	sm "github.com/lni/dragonboat/v4/statemachine"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
	"github.com/coord-dev/coord/coord/internal/logstore"
	"github.com/coord-dev/coord/coord/internal/peer"
)

// What Dragonboat can never change for a directory once written.
const (
	// ExecShards is the number of goroutines over which raft groups are spread.
	ExecShards = 16
	// LogDBShards is recorded by Dragonboat in each directory. Our log store keeps all groups in one database, so that
	// they share their syncs.
	LogDBShards = 4
)

// Queues between members are bounded by bytes; messages over the bound are
// dropped and sent again by raft.
const (
	maxSendQueue    = 32 << 20
	maxReceiveQueue = 32 << 20
)

// joinFile marks the directory of a member that joined a running cluster: it
// must be started without a vote until its log says otherwise.
const joinFile = "JOINED"

// Node is one replica of one group. Its methods are safe for concurrent use.
type Node struct {
	cfg     Config
	log     *zap.Logger
	host    *dragonboat.NodeHost
	book    *peer.Book
	factory *peer.Factory
	machine *machine
	session *client.Session
	unlog   func() // ends the use of cfg.Logger by Dragonboat

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	opened    chan struct{} // closed when the fields above are set for good
	// gone is closed when this member was removed.
	gone     chan struct{}
	goneOnce sync.Once
	// gate is held for reading during calls into Dragonboat, which does not stand
	// calls beside its Close.
	gate sync.RWMutex

	reads      *readLoop
	reaper     *reaper
	events     *eventLoop
	compactor  *compactor
	succession *succession
	refusals   *refusals
}

// Start opens the raft log, starts the replica and returns when its state machine
// is open. The replica may still be replaying its log and have no leader then:
// ReadIndex tells when it can serve. ctx bounds the start alone.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	cfg.ensureDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("raft configuration: %w", err)
	}
	if err := prepare(&cfg); err != nil {
		return nil, err
	}
	n := newNode(cfg)
	n.unlog = useLogger(cfg.Logger, cfg.OnFatal)
	if err := n.open(ctx); err != nil {
		n.closeListeners()
		return nil, errors.Join(err, n.Close())
	}
	close(n.opened)
	n.startLoops()
	return n, nil
}

// prepare checks and repairs what Dragonboat would stumble over.
func prepare(cfg *Config) error {
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := checkSettingsFiles(wd); err != nil {
		return err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	for _, dir := range []string{cfg.Dir, cfg.WALDir} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := adoptHostname(dir, hostname); err != nil {
			return err
		}
	}
	return nil
}

func newNode(cfg Config) *Node {
	n := &Node{cfg: cfg, log: cfg.Logger, book: peer.NewBook(), opened: make(chan struct{}), gone: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.events = newEventLoop(n)
	n.reads = newReadLoop(n)
	n.reaper = newReaper(n)
	n.compactor = newCompactor(n)
	n.succession = newSuccession(n)
	n.refusals = newRefusals(n)
	for id, addr := range cfg.Initial {
		n.book.Set(id, []string{addr})
	}
	for id, addrs := range cfg.Peers {
		n.book.Set(id, addrs)
	}
	n.factory = peer.NewFactory(peer.Options{
		Self: handshake.Identity{
			Cluster: cfg.ClusterID, Member: cfg.Replica, Incarnation: cfg.Incarnation, Boot: cfg.Boot, Start: cfg.Start,
		},
		Listen:      cfg.PeerListen,
		Listeners:   cfg.PeerListeners,
		Book:        n.book,
		Handler:     n.handler(),
		PeerRecords: cfg.PeerRecords,
		Refused:     n.refusals.refused,
		Admitted:    n.refusals.admitted,
		// With the connection it makes less than the two election timeouts that a restart may be delayed.
		ProbeTimeout: cfg.ElectionTimeout * 3 / 2,
		TakeOver:     n.events.takeOver,
		Gone:         n.succession.gone,
		Content:      n.content(),
		TLS:          cfg.TLS,
		Logger:       cfg.Logger,
	})
	return n
}

// open starts Dragonboat and the replica.
func (n *Node) open(ctx context.Context) error {
	host, err := newNodeHost(n.hostConfig())
	if err != nil {
		return fmt.Errorf("open raft log in %s: %w", n.cfg.Dir, err)
	}
	n.host = host
	n.session = host.GetNoOPSession(n.cfg.Shard)
	if err := n.startReplica(); err != nil {
		return fmt.Errorf("start replica %x of shard %d: %w", n.cfg.Replica, n.cfg.Shard, err)
	}
	select {
	case err := <-n.machine.opened:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeListeners closes what the transport was to close but did not live to.
func (n *Node) closeListeners() {
	for _, l := range n.cfg.PeerListeners {
		l.Close()
	}
}

// newNodeHost turns the ways in which Dragonboat fails into errors: a panic with
// a string makes NewNodeHost return neither a NodeHost nor an error.
func newNodeHost(cfg config.NodeHostConfig) (*dragonboat.NodeHost, error) {
	host, err := dragonboat.NewNodeHost(cfg)
	if err == nil && host == nil {
		err = errors.New("the raft library gave up without a reason; the log has it")
	}
	return host, err
}

func (n *Node) hostConfig() config.NodeHostConfig {
	t := n.cfg.timing()
	target := peer.Target(n.cfg.Replica)
	return config.NodeHostConfig{
		NodeHostDir:         n.cfg.Dir,
		WALDir:              n.cfg.WALDir,
		NodeHostID:          target,
		RaftAddress:         target,
		RTTMillisecond:      uint64(t.tick.Milliseconds()),
		MaxSendQueueSize:    maxSendQueue,
		MaxReceiveQueueSize: maxReceiveQueue,
		RaftEventListener:   n.events,
		SystemEventListener: n.events,
		Expert: config.ExpertConfig{
			TransportFactory:    n.factory,
			NodeRegistryFactory: n.book.RegistryFactory(),
			Engine: config.EngineConfig{
				ExecShards: ExecShards, CommitShards: 1, ApplyShards: 4,
				SnapshotShards: 8, CloseShards: 2,
			},
			LogDB:        logDBConfig(),
			LogDBFactory: logstore.Factory{MaxOpenFiles: n.cfg.LogFiles, Logger: n.cfg.Logger, OnFatal: n.cfg.OnFatal},
		},
	}
}

// logDBConfig is what Dragonboat insists on beside a log store of our own, which takes none of its settings.
func logDBConfig() config.LogDBConfig {
	c := config.GetTinyMemLogDBConfig()
	c.Shards = LogDBShards
	return c
}

func (n *Node) replicaConfig(learner bool) config.Config {
	t := n.cfg.timing()
	return config.Config{
		ReplicaID: n.cfg.Replica, ShardID: n.cfg.Shard,
		CheckQuorum: true, PreVote: true, OrderedConfigChange: true,
		ElectionRTT: t.election, HeartbeatRTT: t.heartbeat,
		CompactionOverhead: n.cfg.KeepEntries,
		IsNonVoting:        learner,
	}
}

// startReplica starts the replica as what it is: new, joining, or known here.
func (n *Node) startReplica() error {
	known := n.host.HasNodeInfo(n.cfg.Shard, n.cfg.Replica)
	if !known && !n.cfg.Join && len(n.cfg.Initial) == 0 {
		return fmt.Errorf("the raft log in %s does not know this replica, and neither initial members nor join is given", n.cfg.Dir)
	}
	joined, err := n.joined(known)
	if err != nil {
		return err
	}
	initial := map[uint64]dragonboat.Target{}
	if !known {
		for id := range n.cfg.Initial {
			initial[id] = peer.Target(id)
		}
	}
	create := func(shard, replica uint64) sm.IOnDiskStateMachine { return n.machine }
	n.machine = newMachine(n.cfg.Machine(n.cfg.Shard, n.cfg.Replica), n.hostDir(), func() (dragonboat.ReadonlyLogReader, error) {
		return n.host.GetLogReader(n.cfg.Shard)
	})
	return n.host.StartOnDiskReplica(initial, n.cfg.Join && !known, create, n.replicaConfig(joined))
}

// joined says whether this replica joined a running group, and remembers it. Such
// a replica always starts as a learner, whatever it is by now: its snapshot or
// its log promotes it before it takes part, while the opposite makes Dragonboat
// panic.
func (n *Node) joined(known bool) (bool, error) {
	path := filepath.Join(n.cfg.Dir, joinFile)
	if !known && n.cfg.Join {
		f, err := os.Create(path)
		if err != nil {
			return false, err
		}
		return true, errors.Join(f.Sync(), f.Close(), syncDir(n.cfg.Dir))
	}
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (n *Node) hostDir() string {
	hostname, _ := os.Hostname() // prepare found that it works
	return filepath.Join(n.cfg.Dir, hostname)
}

func (n *Node) startLoops() {
	for _, run := range []func(){n.reads.run, n.reaper.run, n.events.run, n.compactor.run, n.succession.run} {
		n.wg.Go(run)
	}
}

// Close stops the replica and releases its directory. It waits for the node's
// goroutines, and so for a callback that is running; callers of its other methods
// get ErrClosed. It may be called more than once.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.cancel()
		n.gate.Lock()   // those inside leave; nobody enters after cancel
		n.gate.Unlock() //lint:ignore SA2001 the lock is awaited, not held
		if n.host != nil {
			n.host.Close()
		}
		n.unlog()
	})
	n.wg.Wait()
	return nil
}

// enter admits a call into Dragonboat; it is followed by leave if it returned
// true. Calls in between must end soon after n.ctx does.
func (n *Node) enter() bool {
	n.gate.RLock()
	if n.ctx.Err() != nil {
		n.gate.RUnlock()
		return false
	}
	return true
}

func (n *Node) leave() { n.gate.RUnlock() }

// removed says whether this member is known to have been removed.
func (n *Node) removed() bool {
	select {
	case <-n.gone:
		return true
	default:
		return false
	}
}

// Book is where the node looks up the peer addresses of members; it can be
// changed at any time.
func (n *Node) Book() *peer.Book { return n.book }

// Transport gives access to the peers' HTTP side and to traffic counters.
func (n *Node) Transport() *peer.Transport { return n.factory.Transport() }

// PeerAddrs returns the addresses the node listens on for its peers.
func (n *Node) PeerAddrs() []net.Addr { return n.Transport().Addrs() }

// handler serves our own paths on the peer port and leaves the others to the
// caller's handler. Peers may ask before the replica is there.
func (n *Node) handler() http.Handler {
	mux := http.NewServeMux()
	if n.cfg.PeerHandler != nil {
		mux.Handle("/", n.cfg.PeerHandler)
	}
	for pattern, serve := range map[string]http.HandlerFunc{
		"GET " + progressPath:     n.serveProgress,
		"GET " + leaderReportPath: n.serveLeaderReport,
		"POST " + barrierPath:     n.serveBarrier,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-n.opened:
				serve(w, r)
			default:
				http.Error(w, "starting", http.StatusServiceUnavailable)
			}
		})
	}
	return mux
}
