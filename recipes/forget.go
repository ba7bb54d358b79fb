package recipes

import (
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// deleteObject deletes what stays under a name; coordv1's service Introspection is its contract. ErrLimitBelowHeld,
// ErrBarrierFull.
func deleteObject(step statemachine.Step, req *coordv1.DeleteObjectRequest) (proto.Message, error) {
	if err := CheckName(req.Name); err != nil {
		return nil, err
	}
	var key string
	switch req.Kind {
	case coordv1.DeleteObjectRequest_COUNTER:
		key = layout.Counter.Key(req.Name)
	case coordv1.DeleteObjectRequest_SEQUENCE:
		key = layout.Sequence.Key(req.Name)
	case coordv1.DeleteObjectRequest_LATCH:
		key = layout.Latch.Key(req.Name)
	case coordv1.DeleteObjectRequest_SEMAPHORE:
		queue := layout.QueueOf(coordv1.QueueKind_QUEUE_SEMAPHORE, req.Name)
		if anybody(step, queue) {
			return nil, refuse(ErrLimitBelowHeld, "semaphore %q is in use", req.Name)
		}
		key = byPermits.limitKey(queue)
	case coordv1.DeleteObjectRequest_BARRIER:
		queue := layout.QueueOf(coordv1.QueueKind_QUEUE_BARRIER, req.Name)
		if anybody(step, queue) {
			return nil, refuse(ErrBarrierFull, "barrier %q is in use", req.Name)
		}
		key = allTogether.Record(queue)
	default:
		return nil, invalid("objects of kind %d cannot be deleted", req.Kind)
	}
	resp := &coordv1.DeleteObjectResponse{Revision: step.Revision()}
	var err error
	if resp.Deleted, err = step.Delete([]byte(key)); err != nil {
		return nil, err
	}
	if resp.Deleted {
		resp.Revision++
	}
	return resp, nil
}

// anybody says whether a queue has an entry.
func anybody(step statemachine.Step, queue string) (found bool) {
	eachEntry(step, queue, func(Entry) bool {
		found = true
		return false
	})
	return found
}
