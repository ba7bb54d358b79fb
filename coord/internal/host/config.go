package host

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
	"github.com/coord-dev/coord/coord/internal/peer"
)

// Config configures a Host. The zero value of a field with a default means the default.
type Config struct {
	// ClusterID is the same for all members of a cluster and different for others. Member is this member's id, not
	// zero.
	ClusterID, Member uint64
	// Incarnation is the random number made together with the data directory. Boot and Start name the start of this
	// process.
	Incarnation handshake.Incarnation
	Boot, Start uint64
	// Dir holds the raft log; the directory must be locked by the caller and is created.
	Dir string
	// LogFiles is how many files the log may keep open; 0: logstore's default.
	LogFiles int
	// PeerListen are the addresses (host:port) to listen on for the other members.
	PeerListen []string
	// PeerListeners, when set, are used instead of PeerListen.
	PeerListeners []net.Listener
	// Peers maps members to their peer addresses: what is known at the start. It can be changed later through
	// Host.Book.
	Peers map[uint64][]string

	// Heartbeat and ElectionTimeout mean what etcd's flags of these names mean: a follower stands for election after
	// one to two times ElectionTimeout without a leader. Defaults are 50 ms and 300 ms. All groups share them.
	Heartbeat, ElectionTimeout time.Duration

	// Room returns why there is no room on disk for a snapshot from a peer. Nil: there always is.
	Room func() error
	// PeerHandler serves HTTP requests on the peer port outside of PathPrefix.
	PeerHandler http.Handler
	// PeerRecords and Refused are those of peer.Options. What the PeerRecords has on record must outlive the process.
	PeerRecords handshake.PeerRecords
	Refused     func(*handshake.RefusedError)
	// Outcast is called once, when a majority of the voters of Voters' shard refuses this member for good. It must not
	// block. Nil is not called.
	Outcast func(*handshake.RefusedError)
	// Voters is the shard whose voters decide together whether this member is one of the cluster: who is removed from
	// it is removed from the cluster, and who is removed from another one is not. Default 1.
	Voters uint64
	// TLS encrypts traffic between members; nil does not.
	TLS *peer.TLS
	// OnFatal is called with one line, logged before, when Dragonboat or the log store cannot go on: they panic in
	// goroutines that nobody can recover. It should end the process; where it returns, or is nil, the panic does. The
	// hooks of all Hosts of the process are called, because it is not known which one is meant.
	OnFatal func(msg string)
	// Logger receives our own and Dragonboat's messages. Nil is silent.
	Logger *zap.Logger
}

const (
	defaultHeartbeat = 50 * time.Millisecond
	defaultElection  = 300 * time.Millisecond
	// minTick bounds what the timers cost an idle server, maxTick how coarse they
	// may be: election timeouts are random, but only in whole ticks.
	minTick = 5 * time.Millisecond
	maxTick = 20 * time.Millisecond
)

func (c *Config) ensureDefaults() {
	c.Heartbeat = cmp.Or(c.Heartbeat, defaultHeartbeat)
	c.ElectionTimeout = cmp.Or(c.ElectionTimeout, defaultElection)
	c.Voters = cmp.Or(c.Voters, 1)
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.OnFatal == nil {
		c.OnFatal = func(string) {}
	}
	if c.Refused == nil {
		c.Refused = func(*handshake.RefusedError) {}
	}
	if c.Outcast == nil {
		c.Outcast = func(*handshake.RefusedError) {}
	}
}

// Validate returns what is wrong with the configuration.
func (c *Config) Validate() error {
	switch {
	case c.Member == 0:
		return errors.New("the member's id must not be zero")
	case c.Dir == "":
		return errors.New("no directory for the raft log")
	case len(c.PeerListen) == 0 && len(c.PeerListeners) == 0:
		return errors.New("no address to listen on for peers")
	}
	return CheckTiming(c.Heartbeat, c.ElectionTimeout)
}

// CheckTiming returns why replicas cannot run with these times, which are not zero.
func CheckTiming(heartbeat, election time.Duration) error {
	if heartbeat < minTick {
		return fmt.Errorf("heartbeat interval %v is shorter than %v", heartbeat, minTick)
	}
	c := Config{Heartbeat: heartbeat, ElectionTimeout: election}
	if t := c.timing(); t.Election <= 2*t.Heartbeat {
		return fmt.Errorf("election timeout %v must be more than twice the heartbeat interval %v", election, heartbeat)
	}
	return nil
}

// Timing is Heartbeat and ElectionTimeout in ticks of raft.
type Timing struct {
	Tick                time.Duration
	Heartbeat, Election uint64
}

// timing chooses the tick: a fifth of the heartbeat interval within bounds, so
// that random election timeouts spread over many ticks.
func (c *Config) timing() Timing {
	tick := min(max(c.Heartbeat/5, minTick), maxTick).Truncate(time.Millisecond)
	ticks := func(d time.Duration) uint64 { return uint64(max(1, (d+tick/2)/tick)) }
	return Timing{tick, ticks(c.Heartbeat), ticks(c.ElectionTimeout)}
}
