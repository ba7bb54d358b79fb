package recipes

import (
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// proclaim gives the leader's entry a new value.
func proclaim(step statemachine.Step, req *coordv1.Proclaim) (proto.Message, error) {
	rev, err := setValue(step, req.Entry.GetName(), req.Entry.GetKey(), req.Entry.GetToken(), req.Value)
	if err != nil {
		return nil, err
	}
	return &coordv1.Proclaimed{Revision: rev}, nil
}

// setValue gives the leader's entry a new value and returns the revision of the write.
func setValue(step statemachine.Step, name, key string, term int64, value []byte) (statemachine.Revision, error) {
	queue, err := checkEntry(name, key, term)
	if err != nil {
		return 0, err
	}
	if err := checkValue(value); err != nil {
		return 0, err
	}
	e, ok := entryOf(queue, step.Get([]byte(key)))
	if !ok || !holds(step, queue, e, term) {
		return 0, refuse(ErrNotHolder, "%q in term %d", key, term)
	}
	note := step.Attachment(e.Lease, []byte(key))
	if HasIdentity(coordv1.QueueKind(notedKind(step, queue, e))) {
		return 0, refuse(ErrWrongKind, "%q is no election", name)
	}
	if ByPriority(queue) {
		value = encodeCandidate(e, value)
	}
	return putNoted(step, key, value, e.Lease, note)
}

func checkValue(value []byte) error {
	if len(value) > MaxValueLen {
		return invalid("value has %d bytes, more than %d", len(value), MaxValueLen)
	}
	return nil
}

// putNoted writes an entry again with what was noted of it. Of an etcd client's entry nothing was.
func putNoted(
	step statemachine.Step, key string, value []byte, lease statemachine.LeaseID, note statemachine.Attachment,
) (statemachine.Revision, error) {
	if note.Kind == 0 {
		return step.Put([]byte(key), value, lease)
	}
	return step.PutEntry([]byte(key), value, lease, note)
}
