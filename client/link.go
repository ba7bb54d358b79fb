package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/url"
	"path"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

const (
	// gRPC does not ping more often than every ten seconds; heartbeats find a silent member sooner.
	pingTime    = 10 * time.Second
	pingTimeout = 3 * time.Second
	// connectPatience is how long a member may take to welcome us; it doubles while none does.
	connectPatience = 500 * time.Millisecond
	maxPatience     = 5 * time.Second
	// Fixed windows, wide enough for some large frames: gRPC need not find out.
	streamWindow     = 4 << 20
	connectionWindow = 8 << 20
	protocol         = 1
	library          = "coord-go/1"
)

// frames is the stream of a link.
type frames interface {
	Send(*coordv1.ClientFrame) error
	Recv() (*coordv1.ServerFrame, error)
}

// link is one connection and its stream, from the welcome to the end.
type link struct {
	endpoint string
	stream   frames
	welcome  *coordv1.Welcome
	close    func() // frees the connection

	ctx  context.Context // ends with the stream
	fail context.CancelCauseFunc

	// The rest belongs to the transport's mutex.
	beat       bool          // a heartbeat is due
	heartbeats uint64        // number of the last one
	beats      []beat        // without an answer, oldest first
	lastBeat   time.Duration // on the clock: when one was due last
	worked     bool          // it answered a heartbeat or a request
}

// beat is a heartbeat and when it was sent.
type beat struct {
	number uint64
	sent   time.Duration
}

var errSilent = errors.New("the member is silent")

// open connects to an endpoint and waits for the welcome, for as long as ctx allows.
func (t *transport) open(ctx context.Context, endpoint string) (_ *link, err error) {
	conn, err := t.connect(endpoint)
	if err != nil {
		return nil, err
	}
	l := &link{endpoint: endpoint, close: func() { _ = conn.Close() }}
	l.ctx, l.fail = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			l.fail(err)
			l.close()
		}
	}()
	defer context.AfterFunc(ctx, func() { l.fail(context.Cause(ctx)) })()
	opening, err := t.authenticate(l.ctx, conn)
	if err != nil {
		return nil, err
	}
	stream, err := coordv1.NewStreamClient(conn).Open(opening)
	if err != nil {
		return nil, err
	}
	hello := &coordv1.Hello{Protocol: protocol, Client: library,
		Features: append([]string{coordv1.FeatureRecipes}, t.config.Features...)}
	if err := stream.Send(&coordv1.ClientFrame{Hello: hello}); err != nil {
		_, err = stream.Recv()
		return nil, fromWire(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, fromWire(err)
	}
	if first.Welcome == nil {
		return nil, errors.New("the server's first frame has no welcome")
	}
	l.stream, l.welcome = stream, first.Welcome
	return l, nil
}

// connect makes a connection that nothing has been tried on yet.
func (t *transport) connect(endpoint string) (*grpc.ClientConn, error) {
	target, encrypt := targetOf(endpoint)
	creds := insecure.NewCredentials()
	if t.config.TLS != nil || encrypt {
		config := t.config.TLS
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		creds = credentials.NewTLS(config)
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
		grpc.WithStaticStreamWindowSize(streamWindow), grpc.WithStaticConnWindowSize(connectionWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingTime, Timeout: pingTimeout,
			PermitWithoutStream: true}),
	}, t.config.DialOptions...)
	return grpc.NewClient(target, options...)
}

// targetOf is gRPC's name for an endpoint: host:port, http(s)://host:port, or unix(s)://path.
func targetOf(endpoint string) (target string, encrypt bool) {
	u, err := url.Parse(endpoint)
	if err != nil || !strings.Contains(endpoint, "://") {
		return "passthrough:///" + endpoint, false
	}
	switch u.Scheme {
	case "http", "https":
		return "passthrough:///" + u.Host, u.Scheme == "https"
	case "unix", "unixs":
		return "unix:" + path.Join(u.Host, u.Path), u.Scheme == "unixs"
	}
	return endpoint, false
}

// authenticate returns a context whose calls carry a token, where a user is configured and the server knows users.
func (t *transport) authenticate(ctx context.Context, conn *grpc.ClientConn) (context.Context, error) {
	if t.config.Username == "" {
		return ctx, nil
	}
	resp, err := pb.NewAuthClient(conn).Authenticate(ctx,
		&pb.AuthenticateRequest{Name: t.config.Username, Password: t.config.Password})
	if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled) {
		return ctx, nil
	}
	if err != nil {
		return nil, fmt.Errorf("authenticate %q: %w", t.config.Username, rpctypes.Error(err))
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, resp.Token), nil
}

// run connects whenever somebody needs a link, to one endpoint after the other, and reads from it.
func (t *transport) run(order []string) {
	pause, patience := time.Duration(0), connectPatience
	for at := 0; t.waitForNeed(); at = (at + 1) % len(order) {
		if !sleep(t.ctx, pause) {
			return
		}
		worked, err := t.serve(order[at], patience)
		switch {
		case t.ctx.Err() != nil:
			return
		case worked:
			pause, patience = 0, connectPatience
		case at == len(order)-1: // nobody answers
			pause, patience = min(max(2*pause, minPause), maxPause), min(2*patience, maxPatience)
		}
		if worked && len(order) == 1 {
			pause = minPause
		}
		t.log.Info("coord: connection ended", "endpoint", order[at], "error", err)
		if hook := t.config.Hooks.OnDisconnect; hook != nil {
			t.notify(func() { hook(order[at], err) })
		}
		if hopeless(err) {
			t.refuseAll(err)
		}
	}
}

// waitForNeed waits until something cannot do without a link; false if the transport was closed.
func (t *transport) waitForNeed() bool {
	for {
		t.lock()
		needed := len(t.mu.sessions) > 0 || len(t.mu.plain.pending) > 0 || len(t.mu.channels) > 0
		t.unlock()
		if needed {
			return true
		}
		select {
		case <-t.need:
		case <-t.ctx.Done():
			return false
		}
	}
}

// serve connects and lives with a link until it ends. worked says that it answered something.
func (t *transport) serve(endpoint string, patience time.Duration) (worked bool, err error) {
	ctx, cancel := context.WithTimeoutCause(t.ctx, patience, errSilent)
	l, err := t.dial(ctx, endpoint)
	silent := ctx.Err() != nil && t.ctx.Err() == nil
	cancel()
	if err != nil {
		if silent {
			err = errSilent
		}
		return false, err
	}
	defer context.AfterFunc(t.ctx, func() { l.fail(context.Cause(t.ctx)) })()
	t.attach(l)
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		t.write(l)
	}()
	err = t.read(l)
	if l.ctx.Err() != nil {
		err = context.Cause(l.ctx)
	}
	worked = t.detach(l)
	l.fail(err)
	l.close()
	<-writer
	return worked, err
}

// attach makes l the link that everything goes over: sessions first.
func (t *transport) attach(l *link) {
	t.lock()
	defer t.unlock()
	t.mu.link = l
	t.welcome.Store(l.welcome)
	l.lastBeat = t.clock()
	t.requeue(&t.mu.plain)
	for _, s := range t.mu.sessions {
		t.reattach(s)
	}
	for _, ch := range t.mu.channels {
		ch.list()
	}
	if hook := t.config.Hooks.OnConnect; hook != nil {
		t.notify(func() { hook(l.endpoint) })
	}
	signal(t.look)
	signal(t.kick)
}

// detach takes a link away and puts back what was under way. Sessions wait for the next one, until their deadline.
func (t *transport) detach(l *link) (worked bool) {
	t.lock()
	defer t.unlock()
	t.mu.link = nil
	for _, o := range t.mu.ready {
		o.listed = false
	}
	t.mu.ready, t.mu.sendable = nil, nil
	t.mu.lanes = [lanesCount]lane{}
	for id, ch := range t.mu.channels {
		ch.listed = false
		if ch.opened || ch.err != nil { // those that were not wait for the next link
			ch.fail(errLinkLost)
			delete(t.mu.channels, id)
		}
	}
	t.takeBack(&t.mu.plain)
	for _, s := range t.mu.sessions {
		t.takeBack(&s.box)
		s.attached, s.attaching = false, nil
	}
	return l.worked
}

// requeue lets everything in an outbox go, in order.
func (t *transport) requeue(o *outbox) {
	o.queue = o.queue[:0]
	for _, c := range o.live() {
		c.waits = true
		o.queue = append(o.queue, c)
		t.offer(c)
	}
}

// takeBack makes an outbox forget the link: what somebody waits for is sent again over the next one.
func (t *transport) takeBack(o *outbox) {
	for _, c := range o.live() {
		c.waits, c.frame = false, 0
		switch {
		case c.abandoned && !c.stubborn:
			o.remove(c)
		case o.session == nil && c.sends > 0 && !repeatable(c.kind):
			o.remove(c)
			c.settle(nil, unknown(errLinkLost))
		}
	}
}

// refuseAll tells those who wait that no server will do what they want.
func (t *transport) refuseAll(err error) {
	t.lock()
	defer t.unlock()
	for _, c := range t.mu.plain.live() {
		t.mu.plain.remove(c)
		c.settle(nil, err)
	}
	for id, ch := range t.mu.channels {
		ch.fail(err)
		delete(t.mu.channels, id)
	}
}
