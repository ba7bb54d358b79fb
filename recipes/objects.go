package recipes

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
	"github.com/coord-dev/coord/statemachine"
)

// What the procedures of counters, sequences, latches, gates and groups share. What their keys mean is package
// objects'.

// object returns the key of a named object.
func object(kind layout.Kind, name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return []byte(kind.Key(name)), nil
}

// ObjectError is the refusal that an error of package objects about name is.
func ObjectError(name string, err error) error {
	switch {
	case errors.Is(err, objects.ErrNotSet):
		return refuse(ErrNotSet, "%q", name)
	case errors.Is(err, objects.ErrForeign):
		return refuse(ErrWrongKind, "%v", err)
	}
	return err
}

// putObject writes an object's key, of a lease or none, and returns the revision.
func putObject(
	step statemachine.Step, key []byte, value proto.Message, lease statemachine.LeaseID,
) (statemachine.Revision, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(value)
	if err != nil {
		return 0, invalid("%q: %v", key, err)
	}
	return step.Put(key, data, lease)
}

// sessionFor is the session that a step is for: its own, or, outside of sessions, the one that the request names.
func sessionFor(step statemachine.Step, lease int64) (statemachine.LeaseID, error) {
	own := step.Session()
	switch {
	case own != 0 && lease != 0 && lease != own:
		return 0, invalid("lease %d is not that of the session", lease)
	case own != 0:
		return own, nil
	case lease <= 0:
		return 0, invalid("lease %d: a session's lease is positive", lease)
	case !step.LeaseAlive(lease):
		return 0, statemachine.ErrLeaseNotFound
	}
	return lease, nil
}
