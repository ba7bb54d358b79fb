package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
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

// Host is the process' part in raft. Its methods are safe for concurrent use.
type Host struct {
	cfg      Config
	log      *zap.Logger
	nodeHost *dragonboat.NodeHost
	book     *peer.Book
	factory  *peer.Factory
	refusals *refusals
	replicas replicas
	unlog    func() // ends the use of cfg.Logger by Dragonboat

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	closeOnce sync.Once
	outcast   sync.Once // the others do not let this member in
	// gate is held for reading during calls into Dragonboat, which does not stand
	// calls beside its Close.
	gate sync.RWMutex
}

// Start opens the raft log and the peer port. No replica runs until it is attached and started, see package group.
func Start(cfg Config) (*Host, error) {
	cfg.ensureDefaults()
	h := newHost(cfg)
	err := h.start()
	if err != nil {
		for _, l := range cfg.PeerListeners {
			l.Close() // what the transport was to close and did not live to
		}
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *Host) start() error {
	if err := h.cfg.Validate(); err != nil {
		return fmt.Errorf("raft configuration: %w", err)
	}
	if err := prepare(&h.cfg); err != nil {
		return err
	}
	h.unlog = useLogger(h.cfg.Logger, h.cfg.OnFatal)
	var err error
	if h.nodeHost, err = newNodeHost(h.nodeHostConfig()); err != nil {
		return fmt.Errorf("open raft log in %s: %w", h.cfg.Dir, err)
	}
	return nil
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
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	return adoptHostname(cfg.Dir, hostname)
}

func newHost(cfg Config) *Host {
	h := &Host{cfg: cfg, log: cfg.Logger, book: peer.NewBook(), unlog: func() {}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.refusals = newRefusals(h)
	for id, addrs := range cfg.Peers {
		h.book.Set(id, addrs)
	}
	h.factory = peer.NewFactory(peer.Options{
		Self: handshake.Identity{
			Cluster: cfg.ClusterID, Member: cfg.Member, Incarnation: cfg.Incarnation, Boot: cfg.Boot, Start: cfg.Start,
		},
		Listen:      cfg.PeerListen,
		Listeners:   cfg.PeerListeners,
		Book:        h.book,
		Handler:     h.handler(),
		PeerRecords: cfg.PeerRecords,
		Refused:     h.refusals.refused,
		Admitted:    h.refusals.admitted,
		// With the connection it makes less than the two election timeouts that a restart may be delayed.
		ProbeTimeout: cfg.ElectionTimeout * 3 / 2,
		TakeOver:     h.replicas.takeOver,
		Gone:         h.replicas.memberGone,
		Groups:       h.replicas.peerGroup,
		Room:         cfg.Room,
		TLS:          cfg.TLS,
		Logger:       cfg.Logger,
	})
	return h
}

// newNodeHost turns the ways in which Dragonboat fails into errors: a panic with
// a string makes NewNodeHost return neither a NodeHost nor an error.
func newNodeHost(cfg config.NodeHostConfig) (*dragonboat.NodeHost, error) {
	nh, err := dragonboat.NewNodeHost(cfg)
	if err == nil && nh == nil {
		err = errors.New("the raft library gave up without a reason; the log has it")
	}
	return nh, err
}

func (h *Host) nodeHostConfig() config.NodeHostConfig {
	target := peer.Target(h.cfg.Member)
	return config.NodeHostConfig{
		NodeHostDir:         h.cfg.Dir,
		NodeHostID:          target,
		RaftAddress:         target,
		RTTMillisecond:      uint64(h.cfg.timing().Tick.Milliseconds()),
		MaxSendQueueSize:    maxSendQueue,
		MaxReceiveQueueSize: maxReceiveQueue,
		RaftEventListener:   listener{&h.replicas},
		SystemEventListener: listener{&h.replicas},
		Expert: config.ExpertConfig{
			TransportFactory:    h.factory,
			NodeRegistryFactory: h.book.RegistryFactory(h.cfg.Voters),
			Engine: config.EngineConfig{
				ExecShards: ExecShards, CommitShards: 1, ApplyShards: 4,
				SnapshotShards: 8, CloseShards: 2,
			},
			LogDB:        logDBConfig(),
			LogDBFactory: logstore.Factory{MaxOpenFiles: h.cfg.LogFiles, Logger: h.cfg.Logger, OnFatal: h.cfg.OnFatal},
		},
	}
}

// logDBConfig is what Dragonboat insists on beside a log store of our own, which takes none of its settings.
func logDBConfig() config.LogDBConfig {
	c := config.GetTinyMemLogDBConfig()
	c.Shards = LogDBShards
	return c
}

// Close stops all replicas and releases the directory. Callers of other methods, and of those of replicas, learn that
// it is closed. It may be called more than once.
func (h *Host) Close() error {
	h.closeOnce.Do(func() {
		h.cancel()
		h.gate.Lock()   // those inside leave; nobody enters after cancel
		h.gate.Unlock() //lint:ignore SA2001 the lock is awaited, not held
		if h.nodeHost != nil {
			h.nodeHost.Close()
		}
		h.unlog()
	})
	return nil
}

// Enter admits a call into Dragonboat, which is nil where it does not; it is followed by Leave where it does. Calls in
// between must end soon after Context does.
func (h *Host) Enter() *dragonboat.NodeHost {
	h.gate.RLock()
	if h.ctx.Err() != nil {
		h.gate.RUnlock()
		return nil
	}
	return h.nodeHost
}

// Leave ends a call that Enter admitted.
func (h *Host) Leave() { h.gate.RUnlock() }

// Context ends with Close.
func (h *Host) Context() context.Context { return h.ctx }

// ClusterID is that of the configuration.
func (h *Host) ClusterID() uint64 { return h.cfg.ClusterID }

// Timing is that of all replicas.
func (h *Host) Timing() Timing { return h.cfg.timing() }

// Heartbeat and ElectionTimeout are those of the configuration.
func (h *Host) Heartbeat() time.Duration       { return h.cfg.Heartbeat }
func (h *Host) ElectionTimeout() time.Duration { return h.cfg.ElectionTimeout }

// Dir is where the raft log is.
func (h *Host) Dir() string { return h.cfg.Dir }

// SnapshotDir is where Dragonboat keeps what belongs to this machine's name, below Dir.
func (h *Host) SnapshotDir() string {
	hostname, _ := os.Hostname() // prepare found that it works
	return filepath.Join(h.cfg.Dir, hostname)
}

// Book is where the peer addresses of members are looked up; it can be changed at any time.
func (h *Host) Book() *peer.Book { return h.book }

// Transport gives access to the peers' HTTP side and to traffic counters.
func (h *Host) Transport() *peer.Transport { return h.factory.Transport() }
