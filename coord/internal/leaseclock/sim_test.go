package leaseclock

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/lease"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

var seeds = flag.Int("leaseclock.seeds", 4000, "number of simulated runs")

// The simulation: some members share a log. Proposals take any time to get into it, overtake each other, or are lost;
// members apply it late, stand still for a long time and go on as if nothing had happened; any number of them believe
// to lead. Time is virtual, the clocks and tables are the real ones.
type simulation struct {
	rng     *rand.Rand
	now     time.Duration
	events  []event // by time, then by number
	counter int
	log     []entry
	members []*member
	held    map[lease.ID]*held
	early   []string
	expired int
	latest  time.Duration // greatest lateness of an expiry
	// mutate breaks one rule of the clock, to see the simulation find it.
	mutate func(*raftv1.Tick)
}

type event struct {
	at     time.Duration
	number int
	run    func()
}

type entry struct {
	tick   *raftv1.Tick
	renew  lease.ID
	ttl    int64  // > 0: a grant
	stream uint64 // > 0: attach the lease to it, or renew all of it where there is no lease
}

type member struct {
	clock   *Clock
	table   *lease.Table
	applied int
	until   time.Duration // stands still until then
	leads   bool
}

// held is what the outside knows of a lease.
type held struct {
	ttl     time.Duration
	renewed time.Duration // when its last effective grant or renewal was applied anywhere first: no ack is earlier
	index   int           // of that one in the log
	gone    bool
}

func newSimulation(seed uint64) *simulation {
	s := &simulation{rng: rand.New(rand.NewPCG(seed, 1)), held: map[lease.ID]*held{}}
	for i := range 1 + s.rng.IntN(5) {
		s.members = append(s.members, &member{
			table: lease.NewTable(nil),
			clock: New(uint64(i)<<32, func() time.Duration { return s.now }),
		})
	}
	return s
}

func (s *simulation) after(d time.Duration, run func()) {
	s.counter++
	e := event{s.now + d, s.counter, run}
	at, _ := slices.BinarySearchFunc(s.events, e, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.number, b.number))
	})
	s.events = slices.Insert(s.events, at, e)
}

func (s *simulation) ms(n int) time.Duration {
	return time.Duration(s.rng.IntN(n*1000)) * time.Microsecond
}

// delay is mostly short and sometimes very long.
func (s *simulation) delay() time.Duration {
	switch s.rng.IntN(20) {
	case 0:
		return s.ms(5000)
	case 1, 2:
		return s.ms(300)
	}
	return s.ms(5)
}

// propose gets an entry into the log some time, or never.
func (s *simulation) propose(e entry) {
	if s.rng.IntN(15) == 0 {
		return
	}
	s.after(s.delay(), func() {
		s.log = append(s.log, e)
		for _, m := range s.members {
			s.after(s.ms(3), func() { s.catchUp(m) })
		}
	})
}

func (s *simulation) catchUp(m *member) {
	if s.now < m.until {
		s.after(m.until-s.now, func() { s.catchUp(m) })
		return
	}
	for m.applied < len(s.log) {
		m.applied++
		s.apply(m, m.applied, s.log[m.applied-1])
	}
}

// apply does what the state machine does with the entry.
func (s *simulation) apply(m *member, index int, e entry) {
	a := &statemachine.Applied{Index: uint64(index)}
	switch {
	case e.tick != nil:
		if _, ok := m.table.Tick(e.tick.Number, e.tick.DeltaMs, e.tick.Seen); ok {
			a.Ticks = []statemachine.Tick{{Number: e.tick.Number, Nonce: e.tick.Nonce}}
			for _, id := range m.table.Due(10) {
				m.table.Remove(id)
				s.expire(id)
			}
		}
	case e.ttl > 0:
		if _, ok := m.table.Grant(e.renew, e.ttl, uint64(index), ""); ok {
			s.effective(e.renew, index)
		}
	case e.stream > 0 && e.renew != 0:
		if _, ok := m.table.Attach(e.renew, e.stream, uint64(index)); ok {
			s.effective(e.renew, index)
		}
	case e.stream > 0:
		m.table.RenewStream(e.stream, uint64(index))
		for id := range s.held {
			if l, ok := m.table.Get(id); ok && l.Stream == e.stream {
				s.effective(id, index)
			}
		}
	default:
		if m.table.Renew(e.renew, uint64(index)) > 0 {
			s.effective(e.renew, index)
		}
	}
	f := m.table.Facts()
	clock, tick := m.table.Clock()
	a.Leases = statemachine.LeaseFacts{
		Count: f.Count, MinTTL: f.MinTTL, LastTick: tick, ClockMS: clock, Overdue: f.Overdue,
	}
	m.clock.Applied(a)
}

// effective notes a grant or renewal where it is applied first.
func (s *simulation) effective(id lease.ID, index int) {
	if h := s.held[id]; h.index < index {
		h.index, h.renewed = index, s.now
	}
}

// expire checks an expiry where it is applied first: never before the TTL since the last grant or renewal.
func (s *simulation) expire(id lease.ID) {
	h := s.held[id]
	if h.gone {
		return
	}
	h.gone = true
	s.expired++
	if since := s.now - h.renewed; since < h.ttl {
		s.early = append(s.early, fmt.Sprintf("lease %d with TTL %s expired %s after it was renewed", id, h.ttl, since))
	} else {
		s.latest = max(s.latest, since-h.ttl)
	}
}

func (s *simulation) anyone() *member { return s.members[s.rng.IntN(len(s.members))] }

// lead makes a member propose ticks while it believes to lead.
func (s *simulation) lead(m *member) {
	if s.now < m.until {
		s.after(m.until-s.now, func() { s.lead(m) })
		return
	}
	facts := m.clock.Facts()
	if m.leads && facts.Count > 0 {
		tick := m.clock.Measure()
		if s.mutate != nil {
			s.mutate(tick)
		}
		if s.rng.IntN(10) == 0 { // it measured, and then stood still before it sent
			s.after(s.delay(), func() { s.propose(entry{tick: tick}) })
		} else {
			s.propose(entry{tick: tick})
		}
	}
	s.after(Interval(facts.MinTTL), func() { s.lead(m) })
}

func (s *simulation) run(length time.Duration) {
	for _, m := range s.members {
		s.lead(m)
	}
	s.after(0, s.changeLeaders)
	s.after(s.ms(1000), s.pause)
	for id := lease.ID(1); id <= 5; id++ {
		ttl := int64(50 + s.rng.IntN(3000))
		s.held[id] = &held{ttl: time.Duration(ttl) * time.Millisecond}
		s.after(s.ms(2000), func() {
			s.propose(entry{renew: id, ttl: ttl})
			s.renew(id)
		})
	}
	for stream := range uint64(streams) {
		s.heartbeat(stream + 1)
	}
	for len(s.events) > 0 && s.events[0].at <= length {
		e := s.events[0]
		s.events = s.events[1:]
		s.now = e.at
		e.run()
	}
}

func (s *simulation) changeLeaders() {
	for _, m := range s.members {
		m.leads = s.rng.IntN(2) == 0
	}
	s.anyone().leads = true
	s.after(s.ms(2000), s.changeLeaders)
}

func (s *simulation) pause() {
	s.anyone().until = s.now + s.delay()
	s.after(s.ms(1000), s.pause)
}

// streams is how many streams there are, beside leases that are attached to none.
const streams = 2

// heartbeat renews a stream for a while.
func (s *simulation) heartbeat(stream uint64) {
	s.after(s.ms(1000), func() {
		s.propose(entry{stream: stream})
		if s.rng.IntN(30) > 0 {
			s.heartbeat(stream)
		}
	})
}

// renew keeps a lease alive for a while; its holder may be late or stop. Sometimes it moves the lease to a stream.
func (s *simulation) renew(id lease.ID) {
	s.after(s.ms(int(s.held[id].ttl.Milliseconds())), func() {
		if s.rng.IntN(4) == 0 {
			s.propose(entry{renew: id, stream: 1 + s.rng.Uint64N(streams)})
		} else {
			s.propose(entry{renew: id})
		}
		if s.rng.IntN(10) > 0 {
			s.renew(id)
		}
	})
}

// S1: no lease expires before its TTL has passed since it was renewed last, by itself or by the stream it is attached
// to.
func TestS1LeasesNeverExpireEarly(t *testing.T) {
	expired := 0
	for seed := range uint64(*seeds) {
		s := newSimulation(seed)
		s.run(15 * time.Second)
		for _, e := range s.early {
			t.Errorf("seed %d: %s", seed, e)
		}
		expired += s.expired
	}
	if expired < *seeds {
		t.Errorf("%d leases expired in %d runs: the simulation shows nothing", expired, *seeds)
	}
}

// Without one of its rules the clock expires leases early, and the simulation finds it.
func TestSimulationFindsABrokenClock(t *testing.T) {
	for name, mutate := range map[string]func(*raftv1.Tick){
		"seen is ignored":        func(t *raftv1.Tick) { t.Seen = 1 << 60 },
		"more time than passed":  func(t *raftv1.Tick) { t.DeltaMs += 3 },
		"time beyond cap counts": func(t *raftv1.Tick) { t.DeltaMs *= 2 },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(500) {
				s := newSimulation(seed)
				s.mutate = mutate
				s.run(15 * time.Second)
				if len(s.early) > 0 {
					return
				}
			}
			t.Error("not found in 500 runs")
		})
	}
}

// S2: a quiet cluster expires a lease that nobody renews, or whose stream nobody renews, within its TTL and two
// intervals.
func TestS2LeasesExpireInTime(t *testing.T) {
	for i, ttl := range []int64{50, 50, 200, 200, 1000, 1000, 10_000, 10_000, 60_000, 60_000} {
		s := newSimulation(1)
		s.members = s.members[:1]
		m := s.members[0]
		m.leads = true
		s.held[1] = &held{ttl: time.Duration(ttl) * time.Millisecond}
		s.log = []entry{{renew: 1, ttl: ttl}}
		if i%2 == 1 {
			s.log = append(s.log, entry{renew: 1, stream: 1}, entry{stream: 1})
		}
		s.catchUp(m)
		for s.now < 2*s.held[1].ttl && !s.held[1].gone {
			s.now += Interval(ttl)
			s.log = append(s.log, entry{tick: m.clock.Measure()})
			s.catchUp(m)
		}
		if limit := 2*Interval(ttl) + time.Millisecond; !s.held[1].gone || s.latest > limit {
			t.Errorf("TTL %d ms: expired %v, %s late, want at most %s", ttl, s.held[1].gone, s.latest, limit)
		}
	}
}

func TestRemainingNeverExceedsWhatIsLeft(t *testing.T) {
	now := time.Duration(0)
	c := New(1, func() time.Duration { return now })
	c.Applied(&statemachine.Applied{Leases: statemachine.LeaseFacts{Count: 1, MinTTL: 1000}})
	l := statemachine.LeaseInfo{TTL: 1000, DeadlineMS: 1500}
	if got := c.Remaining(l, 500); got != 1000 {
		t.Errorf("remaining %d at once", got)
	}
	now = 150 * time.Millisecond
	if got := c.Remaining(l, 500); got != 850 {
		t.Errorf("remaining %d after 150 ms", got)
	}
	now = time.Hour
	if got := c.Remaining(l, 500); got != 800 {
		t.Errorf("remaining %d after an hour without a tick, want the cap of two intervals off", got)
	}
	l.Pending = true
	if got := c.Remaining(l, 500); got != 1000 {
		t.Errorf("remaining %d while pending", got)
	}
}
