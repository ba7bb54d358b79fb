package peer

import (
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// starts knows of each peer the start of its process that this member talks to. Two processes that run from copies of
// one directory prove the same identity; together they could vote twice, so at most one of them is let in: the one that
// is there already and answers a probe at that moment. A half-open connection does not answer, so that a restart after
// a lost machine waits no longer than the probe. A start of a lower boot is never let in after one of a higher boot.
//
// This is kept in memory, so it holds for as long as this process runs.
type starts struct {
	patience time.Duration // for the answer to a probe
	log      *zap.Logger
	spawn    func(func()) bool // runs what may block
	member   func(uint64) bool // says whether there is such a member, for all that is known

	mu sync.Mutex
	of map[uint64]*start
	// probes are under way, by the random number that an answer repeats.
	probes map[uint64]chan<- struct{}
}

// start is one start of a peer's process and its connections.
type start struct {
	boot, number uint64
	conns        map[*presence]struct{}
}

// presence is one connection of a start.
type presence struct {
	// probe asks for an answer with that number, nil for a connection that cannot be asked. It may block as long as a
	// write does.
	probe func(number uint64)
	close func()
}

// maxStarts is how many starts are remembered before those of unknown members go: a cluster has a few, more are made
// up.
const maxStarts = 1024

func newStarts(patience time.Duration, log *zap.Logger, spawn func(func()) bool, member func(uint64) bool) *starts {
	return &starts{
		patience: patience, log: log, spawn: spawn, member: member,
		of: make(map[uint64]*start), probes: make(map[uint64]chan<- struct{}),
	}
}

// contend lets a start in, or refuses it because another one of the same directory is there. It waits for a probe if it
// has to.
func (s *starts) contend(h handshake.Hello) error {
	for {
		now, conns, err := s.look(h)
		if now == nil {
			return err
		}
		if s.answers(now, conns) {
			return handshake.Refuse(handshake.Copy, "another process runs from a copy of the data directory of member "+
				"%x and answers: boot %d, start %x is connected here, this is boot %d, start %x; stop one of the "+
				"two, and never start a copy of a member's directory",
				h.Member, now.boot, now.number, h.Boot, h.Start)
		}
		s.displace(h.Member, now)
	}
}

// look lets a start in that nothing stands against. Otherwise it returns an error, or the start that must be probed
// with its connections.
func (s *starts) look(h handshake.Hello) (*start, []*presence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.of[h.Member]
	switch {
	case now == nil:
	case now.boot == h.Boot && now.number == h.Start:
		return nil, nil, nil
	case h.Boot < now.boot:
		return nil, nil, handshake.Refuse(handshake.Copy, "member %x has been seen here with boot %d, start %x, and "+
			"this is boot %d, start %x: its data directory is an older copy; "+handshake.Fix,
			h.Member, now.boot, now.number, h.Boot, h.Start)
	case len(now.conns) > 0:
		conns := make([]*presence, 0, len(now.conns))
		for c := range now.conns {
			conns = append(conns, c)
		}
		return now, conns, nil
	}
	if len(s.of) >= maxStarts {
		for member, each := range s.of {
			if len(each.conns) == 0 && !s.member(member) {
				delete(s.of, member)
			}
		}
	}
	s.of[h.Member] = &start{boot: h.Boot, number: h.Start, conns: make(map[*presence]struct{})}
	return nil, nil, nil
}

// displace ends the connections of a start that did not answer.
func (s *starts) displace(member uint64, old *start) {
	s.mu.Lock()
	conns := old.conns
	old.conns = nil
	s.mu.Unlock()
	for c := range conns {
		c.close()
	}
	if len(conns) > 0 {
		s.log.Info("a start of a member that did not answer makes way for another", inHex("member", member),
			zap.Uint64("boot", old.boot))
	}
}

// attach adds a connection to the start that was let in, false if another start has come since.
func (s *starts) attach(h handshake.Hello, p *presence) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.of[h.Member]
	if now == nil || now.boot != h.Boot || now.number != h.Start || now.conns == nil {
		return false
	}
	now.conns[p] = struct{}{}
	return true
}

func (s *starts) detach(h handshake.Hello, p *presence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.of[h.Member]; now != nil {
		delete(now.conns, p)
	}
}

// drop ends all connections of a peer.
func (s *starts) drop(member uint64) {
	s.mu.Lock()
	var conns []*presence
	if now := s.of[member]; now != nil {
		for c := range now.conns {
			conns = append(conns, c)
		}
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
}

// goneCheck is how often a probe looks whether the connections that it was made on are gone: those of a process that
// ended a moment ago end while it waits.
const goneCheck = 10 * time.Millisecond

// answers says whether one of a start's connections answers a probe made now.
func (s *starts) answers(probed *start, conns []*presence) bool {
	number, answered := rand.Uint64()|1, make(chan struct{}, 1)
	s.mu.Lock()
	s.probes[number] = answered
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.probes, number)
	}()
	for _, c := range conns {
		if c.probe != nil {
			s.spawn(func() { c.probe(number) })
		}
	}
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	gone := time.NewTicker(goneCheck)
	defer gone.Stop()
	for {
		select {
		case <-answered:
			return true
		case <-timer.C:
			return false
		case <-gone.C:
			if !s.connected(probed) {
				return false
			}
		}
	}
}

func (s *starts) connected(one *start) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(one.conns) > 0
}

// answered is told of each answer to a ping.
func (s *starts) answered(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answered := s.probes[number]; answered != nil {
		delete(s.probes, number)
		answered <- struct{}{} // it has room for the one that is sent
	}
}
