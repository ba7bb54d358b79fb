package handshake

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Kind says why one side refuses the other. Values are appended, never reordered; one that is not known refuses.
type Kind uint8

const (
	// Admitted is no refusal.
	Admitted Kind = 0
	// Later: the answer may be another one later.
	Later Kind = 1
	// OtherCluster: the other side belongs to another cluster, or is another member than the one wanted.
	OtherCluster Kind = 2
	// Wiped: the member is known with another incarnation: its directory was wiped or replaced.
	Wiped Kind = 3
	// Removed: the member was removed from the cluster.
	Removed Kind = 4
	// Copy: another process runs from a copy of the same directory, and answers.
	Copy Kind = 5
	// Unproven: the other side could not prove who it is.
	Unproven Kind = 6
	// Refused is any other reason.
	Refused Kind = 7
	// OtherRefusals: the operator made the two refuse different commands of the log.
	OtherRefusals Kind = 8
	// OtherVersion: the release of one side does not know the version that the cluster is at.
	OtherVersion Kind = 9
	// OtherHistory: the two have applied the logs of two histories.
	OtherHistory Kind = 10
)

// Reason is the error of a side that refuses.
type Reason struct {
	Kind Kind
	// Text is for the operator on the other side.
	Text string
}

// Error implements error.
func (r *Reason) Error() string { return r.Text }

// Refuse makes a reason.
func Refuse(k Kind, format string, args ...any) error {
	return &Reason{Kind: k, Text: fmt.Sprintf(format, args...)}
}

// reasonOf is what to tell the other side of err.
func reasonOf(err error) Reason {
	var r *Reason
	switch {
	case err == nil:
		return Reason{}
	case errors.As(err, &r):
		return *r
	}
	return Reason{Kind: Later, Text: err.Error()} // a disk that is full, for example
}

// RefusedError is a refusal by one side of a connection.
type RefusedError struct {
	// Local is true when this member refused the peer.
	Local bool
	// Proven is true for a refusal by a peer that proved cluster, member and the incarnation that was on record before.
	Proven bool
	// Peer is the member on the other side: the one wanted if Proven, else the one that it claims to be.
	Peer uint64
	// Kind and Reason are what the refusing side said.
	Kind   Kind
	Reason string
}

func (e *RefusedError) Error() string {
	switch {
	case e.Local:
		return fmt.Sprintf("refused member %x: %s", e.Peer, e.Reason)
	case !e.Proven:
		return fmt.Sprintf("refused by who claims to be member %x: %s", e.Peer, e.Reason)
	}
	return fmt.Sprintf("refused by member %x: %s", e.Peer, e.Reason)
}

// printable makes one line of text from anywhere.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), maxText)]), " "))
}

// Fix is what to do about a member whose data is gone.
const Fix = "remove the member from the cluster, add it again as a learner under a new ID with an empty data " +
	"directory, then promote it"

// RefuseRemoved is the refusal of a member that was removed.
func RefuseRemoved(member uint64) error {
	return Refuse(Removed, "member %x was removed from the cluster and its ID cannot return: add it again as a "+
		"learner under a new ID with an empty data directory, then promote it", member)
}
