package client

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// TestReasons: each reason of a refusal has its meaning, is sent again, or is known by its text.
func TestReasons(t *testing.T) {
	for number, name := range coordv1.Error_Reason_name {
		reason := coordv1.Error_Reason(number)
		err := fmt.Errorf("outer: %w",
			refused(&coordv1.Refusal{Reason: reason, Code: uint32(codes.FailedPrecondition), Message: "no"}))
		if want := reasons[reason]; want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v is not %v", name, err, want)
		}
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: code %v", name, status.Code(err))
		}
		st, _ := status.New(codes.FailedPrecondition, "no").WithDetails(&coordv1.Error{Reason: reason})
		if want := reasons[reason]; want != nil && !errors.Is(fromWire(st.Err()), want) {
			t.Errorf("%s over the wire: %v", name, fromWire(st.Err()))
		}
	}
	compacted := fmt.Errorf("outer: %w", refused(&coordv1.Refusal{
		Reason: coordv1.Error_REASON_COMPACTED, Code: uint32(codes.OutOfRange),
		Message: rpctypes.ErrorDesc(rpctypes.ErrGRPCCompacted),
	}))
	if !errors.Is(compacted, rpctypes.ErrCompacted) || errors.Is(compacted, rpctypes.ErrFutureRev) {
		t.Errorf("compacted: %v", compacted)
	}
	plain := errors.New("plain")
	if fromWire(plain) != plain || fromWire(nil) != nil {
		t.Error("fromWire changed what is no status")
	}
}

func TestConfig(t *testing.T) {
	for what, c := range map[string]Config{
		"no endpoints": {}, "empty endpoint": {Endpoints: []string{""}},
		"negative TTL":     {Endpoints: []string{"x:1"}, SessionTTL: -1},
		"short TTL":        {Endpoints: []string{"x:1"}, SessionTTL: 99_999_999},
		"negative timeout": {Endpoints: []string{"x:1"}, DialTimeout: -1},
	} {
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
