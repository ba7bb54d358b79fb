package peer

import (
	"sync"
	"sync/atomic"
	"time"
)

// Stats describes the traffic with one peer since the transport started.
type Stats struct {
	// Member is the peer.
	Member uint64
	// Connected says whether the link to the peer is up.
	Connected bool
	// Connects counts the connections made to the peer, Refused the refusals.
	Connects, Refused uint64
	// Sent and Received count raft messages, SentBytes and ReceivedBytes the bytes
	// of raft batches and snapshots with their frames.
	Sent, Received, SentBytes, ReceivedBytes uint64
	// Dropped counts messages not sent because the link was down, Failed those
	// lost with a connection that broke.
	Dropped, Failed uint64
	// RTT is the latest round trip time of a ping, zero before the first.
	RTT time.Duration
}

type linkStats struct {
	connects, refused, sent, sentBytes, dropped, failed atomic.Uint64
	pinged, rtt                                         atomic.Int64
}

// inbound counts what came from one peer.
type inbound struct {
	messages, bytes atomic.Uint64
	// raft counts the connections for raft messages that are open.
	raft atomic.Int64
	// rejected is when a rejection was last logged.
	rejected  atomic.Int64
	proposals proposals
	// users are the connections that count here, under the transport's mu.
	users int
	mu    struct {
		sync.Mutex
		conns []*peerConn // oldest first
	}
}

// Overdue returns how many proposals of peers were dropped because too many bytes of the peer's waited for raft.
func (t *Transport) Overdue() uint64 { return t.overdue.Load() }

// Strays returns how many messages of peers were dropped because this member has no replica of their shard.
func (t *Transport) Strays() uint64 { return t.strays.Load() }

// Rejected returns how many messages of peers were not taken, by reason.
func (t *Transport) Rejected() map[string]uint64 {
	counts := make(map[string]uint64)
	for reason, n := range t.rejections {
		counts[reason] = n.Load()
	}
	return counts
}

// Hears says whether a connection is open over which a peer sends raft messages.
func (t *Transport) Hears(peer uint64) bool { return t.inbound(peer).raft.Load() > 0 }

// Stats returns the traffic with each peer known, in ascending order of member.
func (t *Transport) Stats() []Stats {
	var all []Stats
	for _, id := range t.opt.Book.Members() {
		if id == t.opt.Self.Member {
			continue
		}
		all = append(all, t.statsOf(id))
	}
	return all
}

func (t *Transport) statsOf(id uint64) Stats {
	s := Stats{Member: id}
	in := t.inbound(id)
	s.Received, s.ReceivedBytes = in.messages.Load(), in.bytes.Load()
	t.mu.Lock()
	l := t.mu.links[id]
	t.mu.Unlock()
	if l == nil {
		return s
	}
	l.mu.Lock()
	s.Connected = l.mu.w != nil
	l.mu.Unlock()
	s.Connects, s.Refused = l.stats.connects.Load(), l.stats.refused.Load()
	s.Sent, s.SentBytes = l.stats.sent.Load(), l.stats.sentBytes.Load()
	s.Dropped, s.Failed = l.stats.dropped.Load(), l.stats.failed.Load()
	s.RTT = time.Duration(l.stats.rtt.Load())
	return s
}
