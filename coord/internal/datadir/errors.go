package datadir

import (
	"errors"
	"fmt"

	"github.com/coord-dev/coord/coord/internal/handshake"
)

// The reasons for which a member does not start. The errors this package returns have one line of text each, and are
// found with errors.Is.
var (
	// ErrLocked: another process uses the directory. From Open.
	ErrLocked = errors.New("data directory in use")
	// ErrCorrupt: the metadata or a marker cannot be read. From Open and Init.
	ErrCorrupt = errors.New("data directory damaged")
	// ErrOther: the directory belongs to another cluster or member, or was written with other choices. From Open.
	ErrOther = errors.New("data directory of another member")
	// ErrWiped: a part of the directory is missing (Open, Init), or the member's directory was wiped or replaced
	// (Introduce, JoinExisting).
	ErrWiped = errors.New("data directory wiped")
	// ErrRefused: a peer does not let this member in for another reason. From Introduce and JoinExisting.
	ErrRefused = errors.New("refused by the cluster")
)

// fix is what to do about a member whose data is gone.
const fix = handshake.Fix

// refusal is an error of one of the kinds above, with a text of its own.
type refusal struct {
	kind error
	text string
}

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind: kind, text: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (r *refusal) Error() string { return r.text }

// Is makes errors.Is find the kind.
func (r *refusal) Is(target error) bool { return target == r.kind }
