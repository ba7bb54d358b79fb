package recipes

import (
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// deleteObject deletes what stays under a name; coordv1's service Introspection is its contract. Refusals are those of
// part.remains.
func deleteObject(step statemachine.Step, req *coordv1.DeleteObjectRequest) (proto.Message, error) {
	if err := CheckName(req.Name); err != nil {
		return nil, err
	}
	var remains func(statemachine.Step, string) (key string, err error)
	for _, p := range parts() {
		if p.remains != nil && p.object == req.Kind {
			remains = p.remains
		}
	}
	if remains == nil {
		return nil, invalid("objects of kind %d cannot be deleted", req.Kind)
	}
	key, err := remains(step, req.Name)
	if err != nil {
		return nil, err
	}
	resp := &coordv1.DeleteObjectResponse{Revision: step.Revision()}
	if resp.Deleted, err = step.Delete([]byte(key)); err != nil {
		return nil, err
	}
	if resp.Deleted {
		resp.Revision++
	}
	return resp, nil
}

// always is what remains of a thing that is one key, whoever uses it.
func always(of layout.Kind) func(statemachine.Step, string) (string, error) {
	return func(_ statemachine.Step, name string) (string, error) { return of.Key(name), nil }
}

// anybody says whether a queue has an entry.
func anybody(step statemachine.Step, queue string) (found bool) {
	eachEntry(step, queue, func(Entry) bool {
		found = true
		return false
	})
	return found
}
