package peer

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// TLS is the pair of configurations of a transport that encrypts. Server is
// used for accepted connections, Client for dialled ones (ServerName is filled
// in from the address when it is empty).
type TLS struct {
	Server, Client *tls.Config
}

// Options configures a transport.
type Options struct {
	// Self is what this member shows to its peers.
	Self handshake.Identity
	// Listen are the addresses (host:port) to listen on.
	Listen []string
	// Listeners, when set, are used instead of Listen. The transport closes them.
	Listeners []net.Listener
	// Book says where the peers are. It must not be nil.
	Book *Book
	// Handler serves what is not raft traffic on the listeners. Nil answers 404.
	Handler http.Handler
	// PeerRecords has the incarnations of the peers on record and judges them. Nil keeps them in memory.
	PeerRecords handshake.PeerRecords
	// Refused is called with each refusal by a peer that was dialled (or by this member of such a peer), about once a
	// second while it lasts, Admitted when a peer that was dialled let this member in. They must not block. Nil is not
	// called.
	Refused  func(*handshake.RefusedError)
	Admitted func(member uint64)
	// TakeOver is called when a leader told this member to take over from it. It
	// must not block. Nil is not called.
	TakeOver func(shard uint64)
	// Gone is called when Transport.Gone becomes true for a member. It must not
	// block. Nil is not called.
	Gone func(member uint64)
	// Groups returns a raft group of this member, by which the messages for it are judged, or nil if it has none of
	// that number: its messages are dropped and counted, as the peer may have started it a moment earlier. It is asked
	// for each message, and must be fast. Nil: all shards are one group of which nothing is known.
	Groups func(shard uint64) *Group
	// Room returns why there is no room on disk for more of a snapshot. Nil: there always is.
	Room func() error
	// TLS encrypts the connections; nil does not.
	TLS *TLS
	// Patience is how long a message waits for a connection that was not tried
	// yet or broke only now, before it is dropped. Zero means 100 ms.
	Patience time.Duration
	// MaxBackoff bounds the pause between two attempts to connect. Zero means
	// 200 ms.
	MaxBackoff time.Duration
	// IdleTimeout is how long a peer may leave pings unanswered, or not take any
	// bytes, before its connection is given up. Zero means 3 s.
	IdleTimeout time.Duration
	// ProbeTimeout is how long the start of a peer's process that is connected may take to answer when another start of
	// the same directory wants in. Zero means 450 ms.
	ProbeTimeout time.Duration
	// Logger receives connects, losses and refusals. Nil is silent.
	Logger *zap.Logger
}

const (
	minBackoff = 10 * time.Millisecond
	// settled is how long an attempt must have lasted for the next to come soon
	// after it: it was a connection that worked, or waited long enough.
	settled          = 100 * time.Millisecond
	refusedBackoff   = time.Second
	dialTimeout      = time.Second
	handshakeTimeout = 2 * time.Second
	// httpIdle is how long an HTTP connection is kept between two requests.
	httpIdle = 2 * time.Minute
	// httpRead bounds the time in which a request comes whole: bodies are small.
	httpRead = 10 * time.Second
	// writeStep is how many bytes are written under one deadline.
	writeStep = 256 << 10
	// snapshotIdle is how long a connection for a snapshot may bring no chunk.
	snapshotIdle = 10 * time.Minute
	// maxConns is how many connections a member may have to this one: two are in use, and some may have been lost
	// without notice.
	maxConns = 8
	// rejectedPause lies between two log lines about rejected messages of one peer.
	rejectedPause = 10 * time.Second
	// keepBuffer bounds the buffer a connection keeps between two messages.
	keepBuffer = 1 << 20
)

func (o *Options) ensureDefaults() {
	if o.Handler == nil {
		o.Handler = http.NotFoundHandler()
	}
	if o.Refused == nil {
		o.Refused = func(*handshake.RefusedError) {}
	}
	if o.Admitted == nil {
		o.Admitted = func(uint64) {}
	}
	if o.PeerRecords == nil {
		o.PeerRecords = &handshake.Memory{}
	}
	if o.ProbeTimeout == 0 {
		o.ProbeTimeout = 450 * time.Millisecond
	}
	if o.Groups == nil {
		o.Groups = anyGroup()
	}
	if o.Room == nil {
		o.Room = func() error { return nil }
	}
	if o.TakeOver == nil {
		o.TakeOver = func(uint64) {}
	}
	if o.Gone == nil {
		o.Gone = func(uint64) {}
	}
	if o.Patience == 0 {
		o.Patience = 100 * time.Millisecond
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = 200 * time.Millisecond
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 3 * time.Second
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
}
