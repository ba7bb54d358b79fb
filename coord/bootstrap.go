package coord

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/datadir"
	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/handshake"
	"github.com/coord-dev/coord/coord/internal/netlimit"
)

// admit finds out who this member is and, if its directory is fresh, has its peers let it in. It returns the peer
// addresses of the founding members, for as long as Raft may not have stored them yet; nil for a member that joins.
func (s *Server) admit(ctx context.Context) (founding map[uint64]string, err error) {
	if s.dir.Fresh() {
		members, err := s.identify(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.dir.Init(s.identity); err != nil {
			return nil, err
		}
		if err := s.introduce(ctx, members); err != nil {
			return nil, err
		}
	}
	s.identity = s.dir.Identity()
	switch {
	case s.dir.Populated():
		return map[uint64]string{}, nil
	case s.cfg.ClusterState == ClusterStateExisting:
		return nil, nil
	}
	founding = make(map[uint64]string)
	for id, addrs := range s.knownPeers() {
		founding[id] = addrs[0]
	}
	return founding, nil
}

// identify sets the identity of a fresh member and returns the members of its cluster, itself included.
func (s *Server) identify(ctx context.Context) ([]datadir.Member, error) {
	initial, err := s.cfg.InitialMembers()
	if err != nil {
		return nil, err
	}
	me, _ := s.cfg.LocalMember()
	s.identity = datadir.Identity{Name: s.cfg.Name, PeerURLs: me.PeerURLs}
	if s.cfg.ClusterState == ClusterStateExisting {
		joined, err := datadir.JoinExisting(ctx, s.joinOptions(initial, me))
		s.identity.ClusterID, s.identity.MemberID = joined.ClusterID, joined.MemberID
		return joined.Members, err
	}
	var members []datadir.Member
	var ids []uint64
	for _, m := range initial {
		members = append(members, datadir.Member{ID: m.ID, PeerURLs: m.PeerURLs, Name: m.Name})
		ids = append(ids, m.ID)
	}
	s.identity.ClusterID, s.identity.MemberID = ClusterID(ids), me.ID
	return members, nil
}

func (s *Server) joinOptions(initial []InitialMember, me InitialMember) datadir.JoinOptions {
	o := datadir.JoinOptions{PeerURLs: me.PeerURLs, Logger: s.log}
	for _, m := range initial {
		o.InitialCluster = append(o.InitialCluster, m.PeerURLs)
		if m.Name != me.Name {
			o.Peers = append(o.Peers, m.PeerURLs...)
		}
	}
	return o
}

// introduce asks the peers of a fresh member whether it may start. The peer port serves the same question of others
// meanwhile, because the members of a new cluster ask each other.
func (s *Server) introduce(ctx context.Context, members []datadir.Member) error {
	handler := s.dir.Handler(datadir.Cluster{
		Members: func() []datadir.Member { return members },
		Removed: func(uint64) bool { return false },
	})
	stop := s.listeners.serveBeforeRaft(s.log, s.ports.peer, handler)
	defer stop()
	return s.dir.Introduce(ctx, datadir.Introduction{Peers: others(members, s.identity.MemberID)})
}

func others(members []datadir.Member, self uint64) []datadir.Peer {
	var peers []datadir.Peer
	for _, m := range members {
		if m.ID != self {
			peers = append(peers, datadir.Peer{ID: m.ID, URLs: m.PeerURLs})
		}
	}
	return peers
}

// pause waits, or until the member stops.
func (s *Server) pause(d time.Duration) {
	select {
	case <-s.ctx.Done():
	case <-time.After(d):
	}
}

// findPeers asks the members that the flags of a joining member name for the addresses of all, until it has them from
// the log. It cannot get the log without: the members that lead may be at addresses that belonged to others.
func (s *Server) findPeers() error {
	initial, err := s.cfg.InitialMembers()
	if err != nil {
		return err
	}
	me, _ := s.cfg.LocalMember()
	for s.ctx.Err() == nil && s.members.none() {
		list, err := datadir.AskMembers(s.ctx, s.joinOptions(initial, me), s.identity.ClusterID)
		if err == nil {
			s.members.found(list)
		}
		s.pause(publishPause)
	}
	return nil
}

// refusedByPeer hears why a peer does not talk to this member. One confused peer, or a stranger at its address, must
// not take a healthy member down: see outcast for what does.
func (s *Server) refusedByPeer(err *handshake.RefusedError) {
	if !s.refused.fresh(err) {
		return
	}
	s.log.Warn("a peer refuses this member, or is refused", zap.Bool("proven", err.Proven), zap.Error(err))
}

// refusalEvery is the time between two lines that say the same of a peer: a refusal is repeated once a second while it
// lasts.
const refusalEvery = 30 * time.Second

// refusalLog remembers what was said last of each peer.
type refusalLog struct {
	mu   sync.Mutex
	last map[uint64]saidOf
}

type saidOf struct {
	reason string
	at     time.Time
}

// fresh reports whether there is something to say, and notes that it is said.
func (l *refusalLog) fresh(err *handshake.RefusedError) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.last[err.Peer]
	if last.reason == err.Error() && time.Since(last.at) < refusalEvery {
		return false
	}
	if l.last == nil || len(l.last) > 1000 { // whoever refuses says which member it is
		l.last = make(map[uint64]saidOf)
	}
	l.last[err.Peer] = saidOf{err.Error(), time.Now()}
	return true
}

// outcast ends the member because a majority of the voters, each proven to be who it says, does not let it in.
func (s *Server) outcast(err *handshake.RefusedError) {
	if err.Kind == handshake.Removed {
		s.fail(ErrRemoved)
		return
	}
	s.fail(fmt.Errorf("a majority of the voters refuses this member and its data directory %q; member %s says: %s",
		s.cfg.DataDir, hex(err.Peer), err.Reason))
}

// knownPeers are the peer addresses to begin with: what the flags say of founding members. The members' rows in the
// store overrule them as soon as it is open.
func (s *Server) knownPeers() map[uint64][]string {
	known := make(map[uint64][]string)
	initial, err := s.cfg.InitialMembers()
	if err != nil || s.cfg.ClusterState == ClusterStateExisting {
		return known // see findPeers
	}
	for _, m := range initial {
		known[m.ID] = addresses(m.PeerURLs)
	}
	return known
}

// addresses are the host:port of URLs that were checked.
func addresses(urls []string) []string {
	var out []string
	for _, raw := range urls {
		if u, err := url.Parse(raw); err == nil {
			out = append(out, u.Host)
		}
	}
	return out
}

// serveBeforeRaft serves HTTP on the peer ports until stop is called, and leaves the listeners open.
func (l *listeners) serveBeforeRaft(log *zap.Logger, port *netlimit.Port, handler http.Handler) (stop func()) {
	var stops []func()
	for _, each := range l.peer {
		borrowed := &borrowedListener{TCPListener: each.(*net.TCPListener)}
		server := &http.Server{
			Handler: guard.HTTP(log, "peer page", handler), ReadTimeout: pageTimeout, WriteTimeout: pageTimeout,
		}
		gone := make(chan struct{})
		go func() {
			defer guard.Recover(log, "peer page")
			defer close(gone)
			server.Serve(port.Listen(borrowed))
		}()
		stops = append(stops, func() {
			server.Close()
			<-gone // Serve closes the listener once more when it returns
			borrowed.giveBack()
		})
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}
