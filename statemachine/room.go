package statemachine

import (
	"fmt"

	"google.golang.org/grpc/codes"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Room bounds what all sessions together make every member hold in memory. DefaultRoom is a constant of the cluster's
// version: two replicas with other ones would come to other states. Others are for tests.
//
// At a bound whoever holds more than a fair share is refused first, and others go on: see OutcomeBytes and
// SessionBytes. What frees always runs: its outcome has a quarter more of the room, and where that does not suffice
// either the outcome is not kept, see outcomes. Acknowledging and ending a session need no room at all.
type Room struct {
	// OutcomeBytes bounds the outcomes that are not acknowledged, each with OutcomeOverhead. Beyond half of it a
	// session gets a request executed only if with the outcome it holds at most the other half, divided by the sessions
	// that hold any.
	OutcomeBytes int
	// SessionBytes bounds the sessions: each counts SessionOverhead and its identity. Beyond three quarters of it a
	// stream gets another session only if it has at most the last quarter, divided by the streams that have any.
	SessionBytes int
}

// DefaultRoom is the room of this version.
var DefaultRoom = Room{OutcomeBytes: 48 << 20, SessionBytes: 96 << 20}

const (
	// OutcomeOverhead is what an outcome costs in memory beside its bytes: its place in a map, its row, and what
	// allocation rounds up. So many tiny ones are not for nothing.
	OutcomeOverhead = 192
	// SessionOverhead is what a session costs beside its identity: itself and its lease, in the tables, and on the
	// member that serves it.
	SessionOverhead = 768
	// MaxSessionTTL is the longest TTL of a session, in milliseconds: a day. Who cannot send one heartbeat a day is
	// dead, and what it held is not to be kept from others, nor its outcomes in everybody's memory, until the end of
	// time. Leases have etcd's bound.
	MaxSessionTTL = 24 * 60 * 60 * 1000
	// MaxIdentity is the longest encoding of a session's identity, in bytes.
	MaxIdentity = 8 << 10
	// RefusalSize is what a refusal counts, whatever its text is: a bound of it.
	RefusalSize = 512
	// freedOutcome is the largest outcome for which a quarter more room is kept for what frees.
	freedOutcome = 1 << 10
	// fewOutcomes is how many outcomes of what it frees a session may hold in any case, if they are no larger than
	// tinyOutcome, as the answers of releases are: who acknowledges what it gets is told on a retry, too, whatever
	// others leave.
	fewOutcomes = 2
	tinyOutcome = 64
)

// FreesKind reports whether requests of a kind, beside those whose Procedure says so, only give something back.
func FreesKind(kind coordv1.Kind) bool {
	switch kind {
	case coordv1.Kind_KIND_DELETE_RANGE, coordv1.Kind_KIND_LEASE_REVOKE, coordv1.Kind_KIND_WITHDRAW:
		return true
	}
	return false
}

// Held is what counts for a bound: what one session or stream holds, what all do, and how many they are.
type Held struct{ Own, All, Holders int }

// with is h when the own part is n more.
func (h Held) with(n int) Held {
	if h.Own == 0 {
		h.Holders++
	}
	return Held{h.Own + n, h.All + n, h.Holders}
}

// KeepsFreed reports whether an outcome of n bytes, of what only frees, is kept for a session that has so many outcomes
// already.
func (r Room) KeepsFreed(h Held, outcomes, n int) bool {
	if n <= tinyOutcome && outcomes < fewOutcomes || n <= freedOutcome && h.All <= r.OutcomeBytes+r.OutcomeBytes/4 {
		return true
	}
	return r.CheckOutcome(h, n) == nil
}

// CheckOutcome refuses an outcome of n bytes, -1 for one that is not known yet. It wraps ErrBacklog.
func (r Room) CheckOutcome(h Held, n int) error {
	cost := OutcomeOverhead
	if n > 0 {
		cost += n
	}
	after := h.with(cost)
	share := r.OutcomeBytes / 2 / after.Holders
	if after.All <= r.OutcomeBytes/2 || after.All <= r.OutcomeBytes && after.Own <= share {
		return nil
	}
	return roomError{ErrBacklog, coordv1.Error_REASON_BACKLOG, codes.ResourceExhausted, fmt.Sprintf(
		"%v: those of all sessions have %d of at most %d bytes, those of this one %d, and its share is %d: "+
			"acknowledge some, or read less in a session's request",
		ErrBacklog, h.All, r.OutcomeBytes, h.Own, share)}
}

// CheckSession refuses a session with an identity of n bytes to a stream. It wraps ErrTooManySessions.
func (r Room) CheckSession(h Held, n int) error {
	after := h.with(SessionOverhead + n)
	share := r.SessionBytes / 4 / after.Holders
	if after.All <= r.SessionBytes/4*3 || after.All <= r.SessionBytes && after.Own <= share {
		return nil
	}
	return roomError{ErrTooManySessions, coordv1.Error_REASON_TOO_MANY_SESSIONS, codes.ResourceExhausted, fmt.Sprintf(
		"%v: all have %d of at most %d bytes, those of this stream %d, and its share is %d: end some, or share one "+
			"among many locks",
		ErrTooManySessions, h.All, r.SessionBytes, h.Own, share)}
}

// The outcomes of a session that are not acknowledged are bounded. At either bound its new requests are refused, and
// nothing is forgotten; but what frees runs, and leaves no outcome where there is no room for one. Room bounds those of
// all sessions.
const (
	MaxOutcomes     = 65_536
	MaxOutcomeBytes = 4 << 20
	// MaxSequenceLead is how far a sequence number may be ahead of the last acknowledged one.
	MaxSequenceLead = 100_000
)

// MaxAlarms bounds the alarms that are raised, whatever types and ids clients choose. Those that members raise for
// themselves have room beyond it: nothing that a client has raised keeps a full disk from being told. Disarming always
// works.
const MaxAlarms = 1000
