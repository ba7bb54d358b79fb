package service_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/recipes/internal/memstore"
	"github.com/coord-dev/coord/recipes/service"
)

// cluster is several servers in front of one store, each behind a wire that can be cut or go silent. It is what the SDK
// needs of a cluster; the real one is tested elsewhere.
type cluster struct {
	*testing.T
	member *memstore.Member
	leases *leaseServer
	wires  []*wire
}

func startCluster(t *testing.T, members int) *cluster {
	t.Helper()
	m := memstore.NewMember()
	c := &cluster{T: t, member: m, leases: newLeaseServer(m)}
	t.Cleanup(func() {
		c.leases.close()
		m.Close()
	})
	for range members {
		c.wires = append(c.wires, c.serve())
	}
	return c
}

func (c *cluster) serve() *wire {
	c.Helper()
	backend := backendOf(c.T, c.member)
	svc := service.New(backend)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.Fatal(err)
	}
	server := grpc.NewServer()
	svc.Register(server)
	pb.RegisterLeaseServer(server, c.leases)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	w := newWire(c.T, listener.Addr().String())
	c.Cleanup(func() {
		w.close()
		svc.Close()
		backend.Lines.Close()
		server.Stop()
		<-served
	})
	return w
}

// client returns a client that starts with the first wire given.
func (c *cluster) client(wires ...*wire) *client.Client {
	c.Helper()
	var endpoints []string
	for _, w := range wires {
		endpoints = append(endpoints, w.listener.Addr().String())
	}
	cl, err := client.New(client.Config{Endpoints: endpoints, SessionTTL: 3 * time.Second})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = cl.Close() })
	return cl
}

// wire forwards connections to a server.
type wire struct {
	t        *testing.T
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu    sync.Mutex
	quiet *sync.Cond
	mute  bool
	shut  bool
	conns map[net.Conn]struct{}
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, listener: listener, to: to, conns: map[net.Conn]struct{}{}}
	w.quiet = sync.NewCond(&w.mu)
	w.running.Go(w.accept)
	return w
}

func (w *wire) accept() {
	for {
		from, err := w.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = from.Close()
			continue
		}
		w.mu.Lock()
		w.conns[from], w.conns[to] = struct{}{}, struct{}{}
		w.mu.Unlock()
		w.running.Go(func() { w.copy(from, to) })
		w.running.Go(func() { w.copy(to, from) })
	}
}

func (w *wire) copy(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		for w.mute && !w.shut {
			w.quiet.Wait()
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// silence lets connections live and nothing through.
func (w *wire) silence(mute bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute = mute
	w.quiet.Broadcast()
}

// cut breaks the connections there are.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

func (w *wire) close() {
	_ = w.listener.Close()
	w.mu.Lock()
	w.shut = true
	w.quiet.Broadcast()
	w.mu.Unlock()
	w.cut()
	w.running.Wait()
	w.cut()
}

// leaseServer is the Lease service over a memstore, in real time.
type leaseServer struct {
	pb.UnimplementedLeaseServer
	member *memstore.Member
	stop   chan struct{}
	done   sync.WaitGroup

	mu       sync.Mutex
	last     int64
	ttl      map[int64]time.Duration
	deadline map[int64]time.Time
	expired  map[int64]time.Time
}

func newLeaseServer(m *memstore.Member) *leaseServer {
	ls := &leaseServer{member: m, stop: make(chan struct{}), last: 100, ttl: map[int64]time.Duration{}, deadline: map[int64]time.Time{}, expired: map[int64]time.Time{}}
	ls.done.Go(ls.expire)
	return ls
}

func (ls *leaseServer) close() {
	close(ls.stop)
	ls.done.Wait()
}

func (ls *leaseServer) expire() {
	for {
		select {
		case <-ls.stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		ls.mu.Lock()
		for id, at := range ls.deadline {
			if time.Now().After(at) {
				ls.end(id)
			}
		}
		ls.mu.Unlock()
	}
}

// end ends a lease; the caller holds the lock.
func (ls *leaseServer) end(id int64) {
	ls.expired[id] = time.Now()
	delete(ls.deadline, id)
	ls.member.Do(func(s *memstore.Store) { s.Revoke(id) })
}

// revoke ends a lease from outside.
func (ls *leaseServer) revoke(id int64) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.end(id)
}

// expiredAt is when a lease ended; the zero time if it has not.
func (ls *leaseServer) expiredAt(id int64) time.Time {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.expired[id]
}

func (ls *leaseServer) LeaseGrant(_ context.Context, req *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.last++
	id, ttl := ls.last, time.Duration(req.TTL)*time.Second
	ls.ttl[id], ls.deadline[id] = ttl, time.Now().Add(ttl)
	ls.member.Do(func(s *memstore.Store) { s.Leases[id] = true })
	return &pb.LeaseGrantResponse{ID: id, TTL: req.TTL}, nil
}

func (ls *leaseServer) LeaseRevoke(_ context.Context, req *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if _, ok := ls.deadline[req.ID]; !ok {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	ls.end(req.ID)
	return &pb.LeaseRevokeResponse{}, nil
}

func (ls *leaseServer) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		resp := &pb.LeaseKeepAliveResponse{ID: req.ID}
		ls.mu.Lock()
		if _, ok := ls.deadline[req.ID]; ok {
			ls.deadline[req.ID] = time.Now().Add(ls.ttl[req.ID])
			resp.TTL = int64(ls.ttl[req.ID] / time.Second)
		}
		ls.mu.Unlock()
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}
