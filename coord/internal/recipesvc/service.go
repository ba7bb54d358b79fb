package recipesvc

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	"github.com/coord-dev/coord/coord/internal/guard"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/principal"
)

// Service serves the recipes on one member. Safe for concurrent use.
type Service struct {
	backend Backend
	reads   Reads
	ctx     context.Context // ends with Close: of what outlives its stream
	cancel  context.CancelFunc

	mu      sync.Mutex // guards closed; nothing is added to running once it is set, so that Close can wait
	closed  bool
	running sync.WaitGroup
}

// New returns a Service. The caller closes it, after the gRPC server has stopped or while its streams end.
func New(backend Backend) *Service {
	// entries of clients that are gone are removed for the cluster's sake
	ctx, cancel := context.WithCancel(principal.Member(context.Background()))
	return &Service{backend: backend, reads: Reads{backend.LeaseAlive}, ctx: ctx, cancel: cancel}
}

// Register adds the services to a gRPC server.
func (s *Service) Register(server grpc.ServiceRegistrar) {
	coordv1.RegisterLockServer(server, s.lockServer())
	coordv1.RegisterElectionServer(server, electionServer{service: s})
	coordv1.RegisterCounterServer(server, counterServer{service: s})
	coordv1.RegisterSequenceServer(server, sequenceServer{service: s})
	coordv1.RegisterLatchServer(server, latchServer{service: s})
	coordv1.RegisterGateServer(server, gateServer{service: s})
	coordv1.RegisterGroupServer(server, groupServer{service: s})
	coordv1.RegisterRegistryServer(server, registryServer{service: s})
	coordv1.RegisterRWLockServer(server, s.rwLockServer())
	coordv1.RegisterSemaphoreServer(server, s.semaphoreServer())
	coordv1.RegisterBarrierServer(server, s.barrierServer())
}

// Close ends all streams with Unavailable, stops what goes on in the background, and waits for the latter. Entries that
// were to be removed may stay; see the package doc. It can be called twice.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
}

// start runs fn on a goroutine that Close waits for; false if it is too late.
func (s *Service) start(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Go(func() {
		defer guard.Recover(s.backend.Logger, "recipes")
		fn()
	})
	return true
}
