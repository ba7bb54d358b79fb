package machine

import (
	"fmt"
	"strings"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
	"github.com/coord-dev/coord/statemachine/mvcc"
)

// The cluster's version is a fact of the state: every member has it at the same entry of the log. See raftv1.Version.

// metaVersion is the row of the version; absent: raftv1.MinVersion of the release that made the store, which is 1.
var metaVersion = mvcc.MetaKey("version")

// ErrRelease is wrapped by errors about a store, or a snapshot, of a cluster whose version this release does not know.
var ErrRelease = fmt.Errorf("this release knows the versions %d to %d of a cluster", raftv1.MinVersion,
	raftv1.MaxVersion)

// checkRelease refuses a state at a version that this release does not know.
func checkRelease(v raftv1.Version) error {
	if v < raftv1.MinVersion || v > raftv1.MaxVersion {
		return fmt.Errorf("the cluster is at version %d, and %w: start a release that knows it", v, ErrRelease)
	}
	return nil
}

// Version is the cluster's version in the latest published state; 0 before Open and after Close.
func (m *Machine) Version() raftv1.Version {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mu.state == nil {
		return 0
	}
	return m.mu.state.version
}

// raiseVersion raises the cluster's version by one, if the rows of all members say that they know it.
func (b *batch) raiseVersion(r *raftv1.VersionRaise) statemachine.Result {
	to := raftv1.Version(r.GetVersion())
	if to != b.m.version+1 {
		return refuse(fmt.Errorf("%w: the cluster is at version %d, it cannot be raised to %d", statemachine.ErrInvalid,
			b.m.version, to))
	}
	var not []string
	for _, m := range b.m.members {
		if !m.Knows(to) {
			not = append(not, fmt.Sprintf("%x (%s)", m.Id, m.Name))
		}
	}
	switch {
	case len(b.m.members) == 0:
		return refuse(fmt.Errorf("%w: no member has announced what its release knows", statemachine.ErrInvalid))
	case len(not) > 0:
		return refuse(fmt.Errorf("%w: not all members have announced that they know version %d: %s",
			statemachine.ErrInvalid, to, strings.Join(not, ", ")))
	}
	b.fail(checkRaise(to)) // this member runs an older release than its row says
	b.m.version = to
	b.kv.Rows().Set(metaVersion, []byte{byte(to)})
	return statemachine.Result{Response: statemachine.VersionRaised{Version: to}}
}

// checkRaise is the error of a raise at which this release ends.
func checkRaise(to raftv1.Version) error {
	if to > raftv1.MaxVersion {
		return fmt.Errorf("%w: it raises the cluster to version %d, and %w", raftv1.ErrUnknown, to, ErrRelease)
	}
	return nil
}

// CheckProposal returns a command that this member wants in the log as it may get there: without fields that the
// cluster's version does not have, or that nobody knows. The history must have begun, so that the command which begins
// it is the first of the log. The error is that of CheckCommand, or wraps raftv1.ErrEarly or ErrNoHistory.
func (m *Machine) CheckProposal(c raftv1.Command) (raftv1.Command, error) {
	v := m.Version()
	if err := m.schema.Check(c, v); err != nil {
		return c, err
	}
	if err := m.CheckCommand(c); err != nil {
		return c, err
	}
	if m.told.ID() == 0 && c.Kind != raftv1.KindHistoryBegin {
		return c, statemachine.ErrNoHistory
	}
	return m.schema.Strip(c, v), nil
}

// CheckRequest says whether the cluster's version has requests of a kind. The error wraps raftv1.ErrEarly.
func (m *Machine) CheckRequest(k coordv1.Kind) error { return m.schema.CheckRequest(k, m.Version()) }
