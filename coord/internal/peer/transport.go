package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/handshake"
)

// Factory makes Dragonboat use a Transport. A factory is good for one NodeHost.
type Factory struct {
	opt Options

	mu        sync.Mutex
	transport *Transport
}

// NewFactory returns a factory for a transport with these options.
func NewFactory(opt Options) *Factory {
	opt.ensureDefaults()
	return &Factory{opt: opt}
}

// Create implements config.TransportFactory.
func (f *Factory) Create(
	cfg config.NodeHostConfig, batches raftio.MessageHandler, chunks raftio.ChunkHandler,
) raftio.ITransport {
	t := newTransport(f.opt, cfg.GetDeploymentID(), batches, chunks)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.transport = t
	return t
}

// Validate implements config.TransportFactory: it accepts targets and addresses.
func (f *Factory) Validate(addr string) bool {
	if _, err := ParseTarget(addr); err == nil {
		return true
	}
	_, _, err := net.SplitHostPort(addr)
	return err == nil
}

// Transport returns the transport once Dragonboat created it, nil before.
func (f *Factory) Transport() *Transport {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.transport
}

// Transport is the connections of one member to its peers. It is created by
// Dragonboat through a Factory and is safe for concurrent use.
type Transport struct {
	opt        Options
	deployment uint64
	batches    raftio.MessageHandler
	chunks     raftio.ChunkHandler
	validator  validator
	rejections map[string]*atomic.Uint64
	overdue    atomic.Uint64
	strays     atomic.Uint64

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	http   *http.Server
	handed *handedListener
	// peerHTTP asks the HTTP side of the peers.
	peerHTTP *http.Client
	starts   *starts

	mu struct {
		sync.Mutex
		closed    bool
		listeners []net.Listener
		links     map[uint64]*link
		conns     map[net.Conn]struct{}
		inbound   map[uint64]*inbound
		intakes   map[source]*intake
	}
}

var _ raftio.ITransport = (*Transport)(nil)

func newTransport(
	opt Options, deployment uint64, batches raftio.MessageHandler, chunks raftio.ChunkHandler,
) *Transport {
	t := &Transport{
		opt: opt, deployment: deployment, batches: batches, chunks: chunks,
		validator: validator{
			self: opt.Self.Member, deployment: deployment,
		},
		rejections: make(map[string]*atomic.Uint64),
	}
	for _, reason := range reasons {
		t.rejections[reason] = &atomic.Uint64{}
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.mu.listeners = opt.Listeners
	t.mu.links = make(map[uint64]*link)
	t.mu.conns = make(map[net.Conn]struct{})
	t.mu.inbound = make(map[uint64]*inbound)
	t.mu.intakes = make(map[source]*intake)
	t.peerHTTP = t.newClient()
	t.starts = newStarts(opt.ProbeTimeout, opt.Logger, t.spawn, func(id uint64) bool {
		return len(opt.Book.Addrs(id)) > 0
	})
	return t
}

// Name implements raftio.ITransport.
func (t *Transport) Name() string { return "coord-peer" }

// Start listens and begins to connect to every member of the book.
func (t *Transport) Start() error {
	if err := t.listen(); err != nil {
		return err
	}
	t.serve()
	stop := t.opt.Book.watch(t.moved)
	context.AfterFunc(t.ctx, stop)
	for _, id := range t.opt.Book.Members() {
		if id != t.opt.Self.Member {
			t.link(id)
		}
	}
	return nil
}

func (t *Transport) listen() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.listeners) > 0 {
		return nil
	}
	for _, addr := range t.opt.Listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen for peers on %s: %w", addr, err)
		}
		t.mu.listeners = append(t.mu.listeners, l)
	}
	if len(t.mu.listeners) == 0 {
		return errors.New("no address to listen on for peers")
	}
	return nil
}

// Addrs returns the addresses the transport listens on.
func (t *Transport) Addrs() []net.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	addrs := make([]net.Addr, len(t.mu.listeners))
	for i, l := range t.mu.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Close stops listening, closes every connection and waits for the goroutines.
// HTTP requests in progress are cut off. It may be called more than once.
func (t *Transport) Close() error {
	t.cancel()
	t.mu.Lock()
	t.mu.closed = true
	for _, l := range t.mu.listeners {
		l.Close()
	}
	for c := range t.mu.conns {
		c.Close()
	}
	t.mu.Unlock()
	if t.http != nil {
		t.http.Close()
	}
	t.peerHTTP.CloseIdleConnections()
	t.wg.Wait()
	return nil
}

// spawn runs f until it returns, unless the transport is closed already; Close
// waits for it.
func (t *Transport) spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.spawnLocked(f)
}

func (t *Transport) spawnLocked(f func()) bool {
	if t.mu.closed {
		return false
	}
	t.wg.Add(1)
	go func() {
		defer t.wg.Done()
		guard.Loop(t.ctx, t.opt.Logger, "peer", f)
	}()
	return true
}

// link returns the link to a peer and starts it on first use.
func (t *Transport) link(peer uint64) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.mu.links[peer]
	if !ok {
		l = newLink(t, peer)
		t.mu.links[peer] = l
		t.spawnLocked(func() { l.run(t.ctx) })
	}
	return l
}

// linked returns the link to a peer if there is one.
func (t *Transport) linked(peer uint64) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.links[peer]
}

// moved is told by the book that a member's addresses changed, or that it was removed: then its connections end, and it
// hears why when it comes back.
func (t *Transport) moved(member uint64) {
	if member == t.opt.Self.Member {
		return
	}
	if t.opt.Book.Removed(member) {
		t.starts.drop(member)
	}
	l := t.link(member)
	select {
	case l.redial <- struct{}{}:
	default:
	}
}

// stillAt says whether remote is one of the member's addresses. A name in the
// book equals no remote address, so that a change of it always means to redial.
func (t *Transport) stillAt(member uint64, remote net.Addr) bool {
	return slices.Contains(t.opt.Book.Addrs(member), remote.String())
}

// party is this member's side of a handshake.
func (t *Transport) party() handshake.Party {
	return handshake.Party{
		Self: t.opt.Self, PeerRecords: peerRecords{t.opt.PeerRecords, t.opt.Book}, Contend: t.starts.contend,
	}
}

// peerRecords refuses those whom raft has removed, beside those whom the PeerRecords refuses.
type peerRecords struct {
	handshake.PeerRecords
	book *Book
}

// Judge implements handshake.PeerRecords.
func (k peerRecords) Judge(h handshake.Hello) error {
	if k.book.Removed(h.Member) {
		return handshake.RefuseRemoved(h.Member)
	}
	return k.PeerRecords.Judge(h)
}

// connect dials a peer and shakes hands with it. The connection is attached to the start that answered; whoever got it
// closes it by leave.
func (t *Transport) connect(
	ctx context.Context, peer uint64, p handshake.Purpose, probe func(*wire, uint64),
) (w *wire, leave func(), err error) {
	idle := t.opt.IdleTimeout
	if p == handshake.Snapshot {
		idle *= snapshotPatience
	}
	w, err = dial(ctx, t.opt.Book.Addrs(peer), t.opt.TLS, idle)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to member %x: %w", peer, err)
	}
	conn := w // a return of nil must not reach the one who closes it
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var from handshake.Hello
	err = t.handshake(w, func() (err error) {
		if _, err = w.Write(magic[:]); err == nil {
			from, err = handshake.Dial(w, t.party(), p, peer)
		}
		return err
	})
	if err != nil {
		w.Close()
		return nil, nil, fmt.Errorf("connect to member %x at %s: %w", peer, w.RemoteAddr(), err)
	}
	leave, ok := t.attach(from, w, probe)
	if !ok {
		return nil, nil, fmt.Errorf("connect to member %x at %s: it was started again meanwhile", peer, w.RemoteAddr())
	}
	return w, leave, nil
}

// attach makes w a connection of the start that said from. Leave closes it. It closes it at once if another start of
// that member has been let in since.
func (t *Transport) attach(from handshake.Hello, w *wire, probe func(*wire, uint64)) (leave func(), ok bool) {
	p := &presence{close: func() { w.Close() }}
	if probe != nil {
		p.probe = func(number uint64) { probe(w, number) }
	}
	if !t.starts.attach(from, p) {
		w.Close()
		return nil, false
	}
	return func() {
		w.Close()
		t.starts.detach(from, p)
	}, true
}

// unreachable tells raft that messages to peer may have been lost, so that it
// stops streaming to it until it answers again.
func (t *Transport) unreachable(peer uint64, shards map[uint64]struct{}) {
	if len(shards) == 0 {
		return
	}
	batch := pb.MessageBatch{DeploymentId: t.deployment, BinVer: raftio.TransportBinVersion}
	for shard := range shards {
		batch.Requests = append(batch.Requests, pb.Message{
			Type: pb.Unreachable, From: peer, To: t.opt.Self.Member, ShardID: shard,
		})
	}
	t.batches(batch)
}

// CampaignNow makes this member's replica of the shard stand for election at its
// next tick, as if the leader had handed over to it. It is always safe, and
// disturbs a leader that is well; a sole voter uses it to skip its timeout.
func (t *Transport) CampaignNow(shard uint64) {
	self := t.opt.Self.Member
	t.batches(pb.MessageBatch{
		DeploymentId: t.deployment, BinVer: raftio.TransportBinVersion,
		Requests: []pb.Message{{Type: pb.TimeoutNow, From: self, To: self, ShardID: shard}},
	})
}

// Gone says that a member's process seems to have ended: its host says that nobody
// listens at its address, and none of its connections is left. It is false when
// the host vanished with the process.
func (t *Transport) Gone(member uint64) bool {
	if t.ctx.Err() != nil {
		return false
	}
	t.mu.Lock()
	l := t.mu.links[member]
	t.mu.Unlock()
	return l != nil && l.gone.Load() && t.inbound(member).raft.Load() == 0
}

// GetConnection implements raftio.ITransport. It neither blocks nor fails for a
// peer that cannot be reached.
func (t *Transport) GetConnection(ctx context.Context, target string) (raftio.IConnection, error) {
	peer, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	// Dragonboat ends ctx when it closes, and then waits for its senders before it
	// closes the transport: one blocked in a write must be let go by then.
	return &raftConn{ctx: ctx, link: t.link(peer), stop: context.AfterFunc(ctx, t.cancel)}, nil
}

// raftConn is Dragonboat's hold on a link. The link outlives it.
type raftConn struct {
	ctx  context.Context
	link *link
	stop func() bool
}

// Close lets go of the link, which stays connected.
func (c *raftConn) Close() { c.stop() }

// SendMessageBatch sends or drops the batch; it never fails.
func (c *raftConn) SendMessageBatch(batch pb.MessageBatch) error {
	c.link.send(c.ctx, batch)
	return nil
}

// GetSnapshotConnection implements raftio.ITransport.
func (t *Transport) GetSnapshotConnection(ctx context.Context, target string) (raftio.ISnapshotConnection, error) {
	peer, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	w, leave, err := t.connect(ctx, peer, handshake.Snapshot, nil)
	if err != nil {
		return nil, err
	}
	c := &snapshotConn{t: t, w: w, link: t.link(peer), leave: leave}
	c.stop = context.AfterFunc(ctx, func() { w.Close() })
	t.opt.Logger.Info("snapshot connection opened", inHex("member", peer))
	return c, nil
}

// hear returns the counters of what a peer sends over a connection that begins. They end with its last connection if it
// is not in the book: it may be an id that somebody made up.
func (t *Transport) hear(peer uint64) (in *inbound, release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in = t.inboundLocked(peer)
	in.users++
	return in, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if in.users--; in.users == 0 && len(t.opt.Book.Addrs(peer)) == 0 {
			delete(t.mu.inbound, peer)
		}
	}
}

// inbound returns the counters of what a member sent.
func (t *Transport) inbound(peer uint64) *inbound {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inboundLocked(peer)
}

func (t *Transport) inboundLocked(peer uint64) *inbound {
	in, ok := t.mu.inbound[peer]
	if !ok {
		in = &inbound{}
		t.mu.inbound[peer] = in
	}
	return in
}
