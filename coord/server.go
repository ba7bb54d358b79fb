package coord

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/coord-dev/coord/coord/internal/datadir"
	"github.com/coord-dev/coord/coord/internal/group"
	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/host"
	"github.com/coord-dev/coord/coord/internal/keyspace"
	"github.com/coord-dev/coord/coord/internal/limit"
	"github.com/coord-dev/coord/coord/internal/logstore"
	"github.com/coord-dev/coord/proto/principal"
	"github.com/coord-dev/coord/statemachine/machine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// ErrRemoved: the member was removed from the cluster. From Server.Err.
var ErrRemoved = errors.New("the member has been permanently removed from the cluster; its data directory is of no " +
	"further use")

// Server is one running member.
type Server struct {
	cfg Config
	log *zap.Logger

	dir       *datadir.Dir
	identity  datadir.Identity
	files     files
	listeners *listeners
	ports     *ports
	memory    *limit.Member
	caches    *machine.Caches // of the stores of all keyspaces
	host      *host.Host
	system    *servedKeyspace // of SystemShard
	members   *members
	services  *keyspace.Server // what clients connect to
	refused   refusalLog
	registry  *prometheus.Registry

	lastEntries lastEntries

	running *errgroup.Group
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
// serve linearizable reads. Cancelling ctx makes it give up; afterwards ctx has no meaning. The errors have one line
// each.
func Start(ctx context.Context, cfg Config, log *zap.Logger) (*Server, error) {
	cfg.EnsureDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: log, registry: prometheus.NewRegistry(),
		diskLow: make(chan struct{}, 1), ready: make(chan struct{}), fate: make(chan error, 1),
		done: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(principal.Member(context.Background()))
	s.running = &errgroup.Group{}
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
	s.log.Info("limit of open files", zap.Int("limit", s.files.limit), zap.Int("clients", s.files.clients),
		zap.Int("peers", s.files.peers))
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
	s.caches = machine.NewCaches(machine.DefaultCacheBytes, s.files.store)
	if s.memory, err = limit.NewMember(s.cfg.ClientMemoryBytes, s.registry); err != nil {
		return err
	}
	if err := s.makeSystem(); err != nil {
		return err
	}
	if err := s.startHost(); err != nil {
		return err
	}
	if err := s.system.open(ctx, s, founding); err != nil {
		return err
	}
	s.members.attach(s.host.Book())
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
			"log store shards":   fmt.Sprint(host.LogDBShards),
			"execution shards":   fmt.Sprint(host.ExecShards),
			"member addresses":   "book.v1",
			"store comparer":     mvcc.Comparer.Name,
			"state machine type": "on-disk.v1",
		},
	})
}

// makeSystem makes the keyspace in which the members stand. Nothing of it does anything before it is opened.
func (s *Server) makeSystem() error {
	refused, err := s.refusals()
	if err != nil {
		return err
	}
	s.members = newMembers(s)
	s.system = s.newKeyspace(keyspaceOptions{
		shard: SystemShard, refused: refused, members: s.members,
		events: group.Events{
			Leader:     func(_, _ uint64) { s.members.changed() }, // a new leader has rows to sweep
			Membership: s.members.changed,
			Removed:    func() { s.fail(ErrRemoved) },
		},
	})
	return nil
}

// startHost opens the raft log and the peer port.
func (s *Server) startHost() (err error) {
	s.host, err = host.Start(host.Config{
		ClusterID: s.identity.ClusterID, Member: s.identity.MemberID,
		Incarnation: s.dir.Incarnation(), Boot: s.dir.Boot(), Start: s.dir.Start(),
		Dir: s.dir.WALPath(), LogFiles: s.files.log, PeerListeners: s.ports.peers(s.listeners.peer),
		Peers: s.knownPeers(), Heartbeat: s.cfg.HeartbeatInterval, ElectionTimeout: s.cfg.ElectionTimeout,
		Room: s.room, PeerHandler: s.dir.Handler(s.members.cluster()),
		PeerRecords: s.dir.PeerRecords(s.members.cluster()), Refused: s.refusedByPeer, Outcast: s.outcast,
		Voters:  SystemShard,
		OnFatal: s.cfg.onFatal(), Logger: s.log.Named("raft"),
	})
	if err != nil {
		return err
	}
	s.listeners.peer = nil // the host's now
	return nil
}

// startServices starts what clients see, and what keeps the member's affairs in order.
func (s *Server) startServices() (err error) {
	s.services, err = keyspace.NewServer(keyspace.ServerOptions{
		MemberID: s.identity.MemberID, ElectionTimeout: s.cfg.ElectionTimeout,
		MaxRequestBytes: int(s.cfg.MaxRequestBytes), MaxTxnOps: int(s.cfg.MaxTxnOps),
		ProgressInterval: s.cfg.WatchProgressNotifyInterval, Streams: s.cfg.StreamLimits,
		CheckProbe: s.cfg.probePolicy().CheckTarget, Memory: s.memory, Registry: s.registry, Logger: s.log,
	})
	if err != nil {
		return err
	}
	err = s.services.Serve(keyspace.ServicesOptions{
		Backend: &backend{s.system.Keyspace, s}, Keyspace: s.system.Keyspace,
		QuotaBytes: s.cfg.QuotaBackendBytes, SpoolDir: s.dir.DBPath(),
	})
	if err != nil {
		return err
	}
	if err := s.registerMetrics(); err != nil {
		return err
	}
	s.spawn(func() error { s.system.tick(s.ctx, 2*s.cfg.ElectionTimeout); return nil })
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

// spawn runs f until it returns, again where it panics; an error ends the member. Errors that only say that the member
// is stopping do not count.
func (s *Server) spawn(f func() error) {
	s.running.Go(func() error {
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

// Stop hands over leadership, lets requests finish, ends the streams and closes the store. It returns when the member
// is gone. When ctx ends, requests are cut off instead of finished.
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
	if s.system == nil || !s.system.group.IsLeader() {
		return
	}
	// A target that does not take over soon is stopping too; then an election is all there is left.
	ctx, cancel := context.WithTimeout(ctx, time.Second+2*s.cfg.ElectionTimeout)
	defer cancel()
	if err := s.system.group.HandOver(ctx, s.system.Proposer.Hold); err != nil {
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
	if s.system != nil {
		s.system.Close()
	}
	errs = append(errs, s.running.Wait())
	if s.services != nil {
		s.services.Close()
	}
	if s.host != nil {
		errs = append(errs, s.host.Close())
	}
	if s.system != nil {
		errs = append(errs, s.system.release())
	}
	if s.caches != nil {
		s.caches.Close()
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	return errors.Join(errs...)
}

// Config is the configuration that the member runs with, defaults filled in and port 0 replaced by the port it got.
func (s *Server) Config() Config { return s.cfg }

// Leads reports whether this member believes that it leads.
func (s *Server) Leads() bool { return s.system.group.IsLeader() }
