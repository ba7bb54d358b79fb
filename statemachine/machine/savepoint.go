package machine

import (
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// A refusal leaves no trace. What an entry does is done in steps, each of which happens as a whole or not at all: one
// command, or one request of those that a command carries, or one lease that a tick expires, or what follows from a
// deletion for one queue. While a step is open, whatever it changes can be taken back: rows and revision by mvcc,
// leases, sessions and outcomes by notes in Machine.undo, and what is below by its value. Outside of steps, so never
// taken back, are the note that an entry ran, the watermark and the outcomes of a session, and log time.

// savepoint is the state at the begin of a step.
type savepoint struct {
	kv                                  mvcc.Savepoint
	notes                               int
	alarms                              alarms
	members                             []*raftv1.Member
	broken                              broken
	version                             raftv1.Version
	history                             uint64
	compacted                           statemachine.Revision
	events, sessions, reacted           int
	renewals, outcomes                  uint32
	membersChanged, alarmsChanged, hash bool
}

// begin opens a step. The caller ends it.
func (b *batch) begin() savepoint {
	return savepoint{
		kv: b.kv.Begin(), notes: b.m.undo.Begin(),
		alarms: b.m.alarms, members: b.m.members, broken: b.m.broken, version: b.m.version, history: b.m.history,
		compacted: b.compacted,
		events:    len(b.applied.Events), sessions: len(b.applied.Sessions), reacted: b.reacted,
		renewals: b.renewals, outcomes: b.outcomes,
		membersChanged: b.applied.MembersChanged, alarmsChanged: b.applied.AlarmsChanged, hash: b.toHash,
	}
}

// rollback takes back what was done since the savepoint. The step stays open.
func (b *batch) rollback(s savepoint) {
	b.kv.Rollback(s.kv)
	b.m.undo.Rollback(s.notes)
	b.m.alarms, b.m.members, b.m.broken = s.alarms, s.members, s.broken
	b.m.version, b.m.history, b.compacted = s.version, s.history, s.compacted
	b.applied.Events, b.applied.Sessions, b.reacted = b.applied.Events[:s.events], b.applied.Sessions[:s.sessions],
		s.reacted
	b.renewals, b.outcomes, b.again = s.renewals, s.outcomes, changedAgain{}
	b.applied.MembersChanged, b.applied.AlarmsChanged, b.toHash = s.membersChanged, s.alarmsChanged, s.hash
}

// end closes the step that was opened last.
func (b *batch) end() {
	b.kv.EndSavepoint()
	b.m.undo.End()
}

// attempt does what can be refused, and takes it back if it is.
func (b *batch) attempt(do func() error) error {
	s := b.begin()
	err := do()
	if err != nil {
		b.rollback(s)
	}
	b.end()
	return err
}

// step does one step of an entry, with the reactions to what it deletes, and closes its revision.
func (b *batch) step(do func() error) error {
	b.frees = false
	err := b.attempt(func() error {
		if err := do(); err != nil {
			return err
		}
		return b.react()
	})
	b.kv.End()
	return err
}
