package raftv1

import "fmt"

// Version is that of a cluster: what its log, its rows and its snapshots may hold, and what they mean. All members of a cluster are at
// the same version, which the log raises by one once every member has announced that its release knows the next: until then the
// cluster does nothing that a member might not understand, and members can go back to the release before.
//
// A release that brings something new to the log raises MaxVersion and lets what is new wait for that version: a kind of command in
// since, anything else by asking the machine. What an older version means never changes.
type Version uint32

const (
	// MinVersion is the lowest version at which a member of this release takes part, and what a new cluster starts with.
	MinVersion Version = 1
	// MaxVersion is the highest that this release knows.
	MaxVersion Version = 1
)

// since has the kinds of commands that came later than with version 1.
var since = map[Kind]Version{}

// CheckVersion says whether a cluster at version v may have commands of this kind. The error wraps ErrEarly.
func (k Kind) CheckVersion(v Version) error {
	if from := since[k]; from > v {
		return fmt.Errorf("%w: %v needs version %d, and the cluster is at version %d until all members run a release that knows it", ErrEarly, k, from, v)
	}
	return nil
}

// Knows says whether a member that has announced its range takes part at version v.
func (m *Member) Knows(v Version) bool {
	return Version(m.GetMinVersion()) <= v && v <= Version(m.GetMaxVersion())
}
