package client

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func TestFromWire(t *testing.T) {
	for reason := range coordv1.Error_Reason_name {
		st, err := status.New(codes.FailedPrecondition, "no").WithDetails(&coordv1.Error{Reason: coordv1.Error_Reason(reason)})
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Errorf("outer: %w", fromWire(st.Err()))
		if want := sentinels[coordv1.Error_Reason(reason)]; want != nil && !errors.Is(got, want) {
			t.Errorf("reason %d: %v is not %v", reason, got, want)
		}
		if status.Code(got) != codes.FailedPrecondition || retryable(got) {
			t.Errorf("reason %d: code %v, retryable %v", reason, status.Code(got), retryable(got))
		}
	}
	for code, want := range map[codes.Code]error{codes.Canceled: context.Canceled, codes.DeadlineExceeded: context.DeadlineExceeded} {
		if got := fromWire(status.Error(code, "x")); !errors.Is(got, want) || !retryable(got) {
			t.Errorf("%v: %v", code, got)
		}
	}
	if got := fromWire(status.Error(codes.Unavailable, "x")); !retryable(got) || retryable(gone{ErrNotAcquired}) {
		t.Errorf("unavailable: %v", got)
	}
	plain := errors.New("plain")
	if fromWire(plain) != plain || fromWire(nil) != nil {
		t.Error("fromWire changed what is no status")
	}
}

func TestConfig(t *testing.T) {
	for what, c := range map[string]Config{
		"no endpoints": {}, "empty endpoint": {Endpoints: []string{""}}, "negative": {Endpoints: []string{"x:1"}, SessionTTL: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
