package refusal

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/statemachine"
)

// TestStatus: a refusal has its reason and code, whatever it is wrapped in; anything else leaves the outcome open, but
// for the end of the call's own time.
func TestStatus(t *testing.T) {
	if err := Status(nil); err != nil || Is(nil) {
		t.Errorf("of nil: %v", err)
	}
	for _, c := range []struct {
		err    error
		code   codes.Code
		reason coordv1.Error_Reason
		is     bool
	}{
		{recipes.ErrNoLeader, codes.NotFound, coordv1.Error_REASON_NO_LEADER, true},
		{recipes.ErrSuperseded, codes.Aborted, coordv1.Error_REASON_SUPERSEDED, true},
		{statemachine.ErrInvalid, codes.InvalidArgument, coordv1.Error_REASON_INVALID, true},
		{statemachine.ErrNoSpace, codes.ResourceExhausted, coordv1.Error_REASON_NO_SPACE, true},
		{statemachine.ErrCorrupt, codes.DataLoss, coordv1.Error_REASON_CORRUPT, true},
		{statemachine.NewQueueBroken("q", errors.New("why")), codes.FailedPrecondition,
			coordv1.Error_REASON_QUEUE_BROKEN, true},
		{context.Canceled, codes.Canceled, 0, false},
		{context.DeadlineExceeded, codes.DeadlineExceeded, 0, false},
		{errors.New("no answer"), codes.Unavailable, coordv1.Error_REASON_OUTCOME_UNKNOWN, false},
	} {
		err := fmt.Errorf("a call: %w", c.err)
		st := status.Convert(Status(err))
		var reason coordv1.Error_Reason
		for _, detail := range st.Details() {
			if e, ok := detail.(*coordv1.Error); ok {
				reason = e.Reason
			}
		}
		if st.Code() != c.code || reason != c.reason || Is(err) != c.is {
			t.Errorf("%v: %v, %v", c.err, st, reason)
		}
	}
}
