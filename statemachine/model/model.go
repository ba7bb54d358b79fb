// Package model is a reference for package statemachine: the same semantics with slices and loops, no Pebble, no
// caches, no indexes. It exists to be obviously right and is as slow as that makes it; the model test applies one log
// to both and compares whatever can be observed.
//
// The whole history of changes is one slice that nothing is ever removed from. Everything about keys is derived from it
// by walking: the latest state, the past, the keys of a lease. A compaction only moves the revision below which reads
// are refused. Results and refusals are in the words of package statemachine.
package model

import (
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// The work of one tick is bounded: it goes on to a further lease below both.
const (
	tickLeases = 1000
	tickKeys   = 4000
	tickLooks  = 20_000
)

// Model is the state of one keyspace after some entries of the log. Not safe for concurrent use.
type Model struct {
	program statemachine.Program
	denied  []statemachine.Refused // by the operator

	index     uint64 // of the last log entry
	revision  int64  // before the command that is running
	compacted int64
	history   []change
	wrote     int // changes of the running command at revision+1

	leases   []lease // in no order that matters, like streams and sessions
	streams  []stream
	sessions []*session
	notes    map[string]statemachine.Attachment // of the latest versions of keys that are attached to leases
	unixMS   int64                              // the proposer's wall clock, as the running command says
	reacted  int                                // events of the running entry that the reactor has dealt with
	looks    int                                // versions that reactions of the running tick went through
	clock    int64
	tick     uint64
	alarms   []*pb.AlarmMember // by type and member
	members  []*raftv1.Member  // by id
	version  raftv1.Version
	by       raftv1.Principal // who asked for the running command
	identity uint64           // of the history
	broken   []statemachine.BrokenQueue
	running  statemachine.Refused // what is running
	frees    bool                 // the running step gives something back
	origins  []origin

	out *Outcome // of the running entry
}

// Outcome is what one entry did. Results is nil only for a duplicate.
type Outcome struct {
	// Ran is false for an entry without content or that does not parse: it changes nothing and has no result.
	Ran   bool
	Entry statemachine.EntryResult
	// Events, Sessions and Ticks in order.
	Events                        []statemachine.Event
	Sessions                      []statemachine.SessionChange
	Ticks                         []statemachine.Tick
	MembersChanged, AlarmsChanged bool
}

// New returns the model of a fresh store, of a cluster whose operator has refused some commands. Of the program it
// takes all but Since.
func New(p statemachine.Program, refused ...statemachine.Refused) *Model {
	p.EnsureDefaults()
	return &Model{
		program: p, denied: refused, version: 1, revision: 1, compacted: -1,
		notes: map[string]statemachine.Attachment{},
	}
}

// Clone returns a copy that Apply on either does not change.
func (m *Model) Clone() *Model {
	c := *m
	c.history = slices.Clip(m.history)
	c.leases = slices.Clone(m.leases)
	c.streams = slices.Clone(m.streams)
	c.sessions = cloneSessions(m.sessions)
	c.notes = maps.Clone(m.notes)
	c.alarms = slices.Clone(m.alarms)
	c.members = slices.Clone(m.members)
	c.origins = slices.Clone(m.origins)
	for i := range c.origins {
		c.origins[i].ran = slices.Clone(c.origins[i].ran)
	}
	return &c
}

// Index is that of the last applied log entry.
func (m *Model) Index() uint64 { return m.index }

// Revision is the store's, with the writes of the running command.
func (m *Model) Revision() int64 {
	if m.wrote > 0 {
		return m.revision + 1
	}
	return m.revision
}

// Compacted is the compacted revision, -1 if nothing was ever compacted.
func (m *Model) Compacted() int64 { return m.compacted }

// Alarms are the raised alarms, by type and member.
func (m *Model) Alarms() []*pb.AlarmMember { return m.alarms }

// Members are the members, by id.
func (m *Model) Members() []*raftv1.Member { return m.members }

// close ends a revision.
func (m *Model) close() {
	m.revision = m.Revision()
	m.wrote = 0
}

// Apply applies one log entry as it stands in the log.
func (m *Model) Apply(index uint64, data []byte) *Outcome {
	m.index, m.reacted = index, 0
	m.out = &Outcome{}
	e, err := raftv1.DecodeEntry(data)
	if err != nil {
		return m.out
	}
	m.out.Ran = true
	m.out.Entry = statemachine.EntryResult{Member: e.Member, Boot: e.Boot, Start: e.Start, Number: e.Number}
	if m.displaced(e) {
		m.out.Entry.Displaced = true
		return m.out
	}
	if !m.firstTime(e) {
		m.out.Entry.Duplicate = true
		return m.out
	}
	m.out.Entry.Results = []statemachine.Result{}
	for i, c := range e.Commands {
		m.unixMS = 0
		m.running = statemachine.Refused{Index: index, Command: uint32(i + 1)}
		response, err := m.run(c)
		m.out.Entry.Results = append(m.out.Entry.Results, statemachine.Result{Response: response, Err: err})
	}
	return m.out
}

// origin is what is known of the entries of one start of a member.
type origin struct {
	member, boot, start uint64
	settled             uint64   // the highest number that an entry said its proposer waits for no more
	ran                 []uint64 // every number that ran
}

// displaced reports whether another start of the proposer counts: one of a higher boot, or one of the same that came
// first.
func (m *Model) displaced(e *raftv1.Entry) bool {
	for _, o := range m.origins {
		if o.member == e.Member {
			return e.Boot < o.boot || e.Boot == o.boot && e.Start != o.start
		}
	}
	return false
}

// firstTime reports whether an entry is to run: not twice, and not behind its proposer's back.
func (m *Model) firstTime(e *raftv1.Entry) bool {
	for i := range m.origins {
		o := &m.origins[i]
		if o.member != e.Member {
			continue
		}
		if e.Boot > o.boot {
			*o = origin{member: e.Member, boot: e.Boot, start: e.Start}
		}
		if e.Number <= o.settled || slices.Contains(o.ran, e.Number) {
			return false
		}
		o.ran = append(o.ran, e.Number)
		o.settled = max(o.settled, e.Settled)
		return true
	}
	m.origins = append(m.origins, origin{e.Member, e.Boot, e.Start, e.Settled, []uint64{e.Number}})
	return true
}

// Executed reports whether the entry ran, for one that its proposer still waits for; known is false otherwise.
func (m *Model) Executed(member, boot, start, number uint64) (ran, known bool) {
	for _, o := range m.origins {
		if o.member == member && o.boot == boot && o.start == start {
			return slices.Contains(o.ran, number), number > o.settled
		}
	}
	return false, true
}
