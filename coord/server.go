package coord

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/coord-dev/coord/coord/internal/assembly"
	"github.com/coord-dev/coord/coord/internal/datadir"
	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/leaseclock"
	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/coord/internal/logstore"
	"github.com/coord-dev/coord/coord/internal/node"
	"github.com/coord-dev/coord/proto/principal"
	"github.com/coord-dev/coord/statemachine/mvcc"

	sm "github.com/lni/dragonboat/v4/statemachine"
)

// Shard is the raft group of the one keyspace there is.
const Shard = 1

// ErrRemoved: the member was removed from the cluster. From Server.Err.
var ErrRemoved = errors.New("the member has been permanently removed from the cluster; its data directory is of no further use")

// Server is one running member.
type Server struct {
	cfg Config
	log *zap.Logger

	dir       *datadir.Dir
	identity  datadir.Identity
	files     files
	listeners *listeners
	ports     *ports
	replica   *assembly.Replica
	node      *node.Node
	services  *assembly.Services
	members   *members
	refused   refusalLog
	registry  *prometheus.Registry

	group   *errgroup.Group
	ctx     context.Context // of everything that runs until Stop
	cancel  context.CancelFunc
	ready   chan struct{}
	fate    chan error    // why the member must stop by itself
	diskLow chan struct{} // signalled when the disk runs low
	room    func() error  // nil if the disk is not watched
	done    chan struct{}
	err     error // set before done is closed
	stop    sync.Once
}

// Start starts a member. It returns when the member's store is open and its ports are served; Ready tells when it can
// serve linearizable reads. Cancelling ctx makes it give up; afterwards ctx has no meaning. The errors have one line each.
func Start(ctx context.Context, cfg Config, log *zap.Logger) (*Server, error) {
	cfg.EnsureDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: log, registry: prometheus.NewRegistry(),
		diskLow: make(chan struct{}, 1), ready: make(chan struct{}), fate: make(chan error, 1), done: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(principal.Member(context.Background()))
	s.group = &errgroup.Group{}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	go s.run()
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	if s.files, err = raiseFileLimit(); err != nil {
		return err
	}
	if s.listeners, err = listen(&s.cfg); err != nil {
		return err
	}
	s.ports = newPorts(s.files, s.log)
	s.log.Info("limit of open files", zap.Int("limit", s.files.limit), zap.Int("clients", s.files.clients), zap.Int("peers", s.files.peers))
	if s.dir, err = s.openDir(); err != nil {
		return err
	}
	founding, err := s.admit(ctx)
	if err != nil {
		return err
	}
	disk, err := s.newWatchdog() // before the stores open: it makes room if the disk is full
	if err != nil {
		return err
	}
	if disk != nil {
		s.room = disk.Room
	}
	if err := s.assemble(); err != nil {
		return err
	}
	if err := s.startNode(ctx, founding); err != nil {
		return err
	}
	if err := s.dir.MarkPopulated(); err != nil {
		return err
	}
	if err := s.keepRefusals(); err != nil {
		return err
	}
	if err := s.startServices(); err != nil {
		return err
	}
	if disk != nil {
		s.spawn(func() error { return disk.Run(s.ctx) })
		s.spawn(s.watchDisk)
	}
	return nil
}

// openDir opens the data directory with the choices that can never change.
func (s *Server) openDir() (*datadir.Dir, error) {
	return datadir.Open(datadir.Options{
		DataDir: s.cfg.DataDir, WALDir: s.cfg.WALDir, Logger: s.log,
		Expect: s.cfg.ExpectedIdentity(),
		Choices: map[string]string{
			"log store":          logstore.Factory{}.Name(),
			"log store shards":   fmt.Sprint(node.LogDBShards),
			"execution shards":   fmt.Sprint(node.ExecShards),
			"member addresses":   "book.v1",
			"store comparer":     mvcc.Comparer.Name,
			"state machine type": "on-disk.v1",
		},
	})
}

// assemble makes the parts that hear from the state machine. None of them does anything before the node runs.
func (s *Server) assemble() error {
	began := time.Now()
	memory, err := limit.NewMember(s.cfg.ClientMemoryBytes, s.registry)
	if err != nil {
		return err
	}
	refused, err := s.refusals()
	if err != nil {
		return err
	}
	s.members = newMembers(s)
	s.replica = assembly.NewReplica(assembly.ReplicaOptions{
		Log: lateRaft{s}, Retry: 2 * s.cfg.ElectionTimeout,
		Dir: s.dir.DBPath(), MaxOpenFiles: s.files.store, Shard: Shard, Member: s.identity.MemberID, Boot: s.dir.Boot(), Start: s.dir.Start(),
		Displaced: s.fail,
		Now:       func() time.Duration { return time.Since(began) }, Nonce: rand.Uint64(),
		Members: s.members, Memory: memory, End: func(string) { os.Exit(1) }, Refused: refused, Logger: s.log,
	})
	return nil
}

// startNode starts raft. founding are the members of a cluster that is being founded.
func (s *Server) startNode(ctx context.Context, founding map[uint64]string) (err error) {
	s.node, err = node.Start(ctx, node.Config{
		ClusterID: s.identity.ClusterID, Shard: Shard, Replica: s.identity.MemberID,
		Incarnation: s.dir.Incarnation(), Boot: s.dir.Boot(), Start: s.dir.Start(),
		Dir: s.dir.WALPath(), LogFiles: s.files.log, PeerListeners: s.ports.peers(s.listeners.peer),
		Initial: founding, Join: founding == nil, Peers: s.knownPeers(),
		Heartbeat: s.cfg.HeartbeatInterval, ElectionTimeout: s.cfg.ElectionTimeout, SnapshotEntries: s.cfg.SnapshotCount,
		Machine:      func(_, _ uint64) sm.IOnDiskStateMachine { return s.replica.Machine },
		CheckCommand: judge(s.replica.Machine.CheckCommand, s.replica.Machine.Version), CheckSnapshot: checkSnapshot, Room: s.room,
		PeerHandler: s.dir.Handler(s.members.cluster()),
		PeerRecords:      s.dir.PeerRecords(s.members.cluster()), Refused: s.refusedByPeer,
		Events: node.Events{
			Leader:     s.leaderChanged,
			Membership: s.members.changed,
			Dropped:    s.replica.Proposer.LeaderChanged,
			Removed:    func() { s.fail(ErrRemoved) },
			Outcast:    s.outcast,
		},
		Logger: s.log.Named("raft"),
	})
	if err != nil {
		return err
	}
	s.listeners.peer = nil // the node's now
	s.members.attach(s.node.Book())
	return nil
}

// startServices starts what clients see, and what keeps the member's affairs in order.
func (s *Server) startServices() (err error) {
	s.services, err = assembly.NewServices(assembly.ServicesOptions{
		Backend: &backend{s.replica, s}, Replica: s.replica,
		MemberID:        s.identity.MemberID,
		ElectionTimeout: s.cfg.ElectionTimeout,
		MaxRequestBytes: int(s.cfg.MaxRequestBytes), MaxTxnOps: int(s.cfg.MaxTxnOps),
		QuotaBytes: s.cfg.QuotaBackendBytes, SpoolDir: s.dir.DBPath(), Streams: s.cfg.StreamLimits,
		ProgressInterval: s.cfg.WatchProgressNotifyInterval, CheckProbe: s.cfg.probePolicy().CheckTarget,
		Registry: s.registry, Logger: s.log,
	})
	if err != nil {
		return err
	}
	if err := s.registerMetrics(); err != nil {
		return err
	}
	runner := &leaseclock.Runner{
		Clock: s.replica.Clock, Leads: s.node.IsLeader,
		Propose: s.replica.Proposer.Propose, Patience: 2 * s.cfg.ElectionTimeout,
	}
	s.spawn(func() error { runner.Run(s.ctx); return nil })
	s.startRegistry()
	s.spawn(func() error { return s.services.API.Run(s.ctx) })
	s.spawn(s.members.refresh)
	if s.cfg.ClusterState == ClusterStateExisting {
		s.spawn(s.findPeers)
	}
	s.spawn(s.publish)
	s.listeners.servePages(s.log, s.services.API.HTTP())
	for _, l := range s.listeners.client {
		s.spawn(func() error {
			return serveClients(s.log, s.ports.client.Listen(l), s.services, s.listeners.pages)
		})
	}
	return nil
}

// spawn runs f until it returns, again where it panics; an error ends the member. Errors that only say that the member is
// stopping do not count.
func (s *Server) spawn(f func() error) {
	s.group.Go(func() error {
		guard.Loop(s.ctx, s.log, "member", func() {
			if err := f(); err != nil && s.ctx.Err() == nil {
				s.fail(err)
			}
		})
		return nil
	})
}

// fail makes the member stop by itself; the first reason counts.
func (s *Server) fail(err error) {
	select {
	case s.fate <- err:
	default:
	}
}

// run waits for a reason to stop by itself.
func (s *Server) run() {
	select {
	case err := <-s.fate:
		s.log.Error("stopping", zap.Error(err))
		s.finish(context.Background(), err)
	case <-s.ctx.Done():
	}
}

// Ready is closed when the member can serve linearizable reads for the first time.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Done is closed when the member has stopped, by itself or by Stop.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the member stopped by itself, nil after Stop. It waits for Done.
func (s *Server) Err() error {
	<-s.done
	return s.err
}

// Stop hands over leadership, lets requests finish, ends the streams and closes the store. It returns when the member is
// gone. When ctx ends, requests are cut off instead of finished.
func (s *Server) Stop(ctx context.Context) error {
	s.finish(ctx, nil)
	<-s.done
	return nil
}

func (s *Server) finish(ctx context.Context, why error) {
	s.stop.Do(func() {
		if why == nil {
			s.handOver(ctx)
		}
		s.drain(ctx)
		s.err = why
		if err := s.close(); err != nil {
			s.log.Warn("closing", zap.Error(err))
		}
		close(s.done)
	})
}

// handOver gives leadership to the voter that is furthest, so that a stop costs the cluster no election.
func (s *Server) handOver(ctx context.Context) {
	if s.node == nil || !s.node.IsLeader() {
		return
	}
	// A target that does not take over soon is stopping too; then an election is all there is left.
	ctx, cancel := context.WithTimeout(ctx, time.Second+2*s.cfg.ElectionTimeout)
	defer cancel()
	if err := s.node.HandOver(ctx, s.replica.Proposer.Hold); err != nil {
		s.log.Warn("leadership was not handed over", zap.Error(err))
	}
}

// drainTimeout bounds the wait for requests that clients have under way.
const drainTimeout = 5 * time.Second

// drain ends the streams, each with a status that says why, and lets the other requests finish.
func (s *Server) drain(ctx context.Context) {
	if s.services == nil {
		return
	}
	s.listeners.closeClients()
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	s.services.Drain(ctx)
}

// close stops what runs and releases everything, as far as start got.
func (s *Server) close() error {
	s.cancel()
	var errs []error
	if s.listeners != nil {
		s.listeners.close()
	}
	if s.replica != nil {
		s.replica.Close()
	}
	errs = append(errs, s.group.Wait())
	if s.services != nil {
		s.services.Close()
	}
	if s.node != nil {
		errs = append(errs, s.node.Close())
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	return errors.Join(errs...)
}

// Config is the configuration that the member runs with, defaults filled in and port 0 replaced by the port it got.
func (s *Server) Config() Config { return s.cfg }

// Leads reports whether this member believes that it leads.
func (s *Server) Leads() bool { return s.node.IsLeader() }
