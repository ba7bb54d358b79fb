package raftv1

import "fmt"

// Version is that of a cluster: what its log, its rows and its snapshots may hold, and what they mean. All members of a
// cluster are at the same version, which the log raises by one once every member has announced that its release knows
// the next: until then the cluster does nothing that a member might not understand, and members can go back to the
// release before.
//
// A release that brings something new to the log raises MaxVersion and lets what is new wait for that version: by a
// line in Since, or, where the same request shall do something else, by asking the machine. What an older version means
// never changes.
type Version uint32

const (
	// MinVersion is the lowest version at which a member of this release takes part, and what a new cluster starts
	// with.
	MinVersion Version = 1
	// MaxVersion is the highest that this release knows.
	MaxVersion Version = 1
)

// Since has what came later than with version 1, by its name: a kind of command ("StateHash"), a procedure
// ("acquire.v1"), a kind of request ("KIND_ACQUIRE"), or a field of what they carry ("coord.v1.Acquire.try").
// Before that version a kind or a procedure is refused, and a field is not there. See Schema.
var Since = map[string]Version{}

// Knows says whether a member that has announced its range takes part at version v.
func (m *Member) Knows(v Version) bool {
	return Version(m.GetMinVersion()) <= v && v <= Version(m.GetMaxVersion())
}

// needs is the error of what came with version from, in a cluster at version v.
func needs(what string, from, v Version) error {
	return fmt.Errorf("%w: %s needs version %d of the cluster, which is at version %d: upgrade all members first",
		ErrEarly, what, from, v)
}

// CheckFeatures says whether a cluster at version v has the features that a client names, of those that this release
// knows. The error wraps ErrEarly.
func CheckFeatures(named []string, known map[string]uint32, v Version) error {
	for _, name := range named {
		from, ok := known[name]
		switch {
		case !ok:
			return fmt.Errorf("%w: the release of this member does not know the feature %q: upgrade all members first",
				ErrEarly, name)
		case Version(from) > v:
			return needs(fmt.Sprintf("the feature %q", name), Version(from), v)
		}
	}
	return nil
}
