package statemachine_test

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// etcd's clients know an error by its text and retry by its code: both are etcd's own.
func TestRefusalsOfEtcdAreEtcds(t *testing.T) {
	for err, want := range map[error]error{
		statemachine.ErrCompacted:     rpctypes.ErrGRPCCompacted,
		statemachine.ErrFutureRev:     rpctypes.ErrGRPCFutureRev,
		statemachine.ErrKeyNotFound:   rpctypes.ErrGRPCKeyNotFound,
		statemachine.ErrLeaseNotFound: rpctypes.ErrGRPCLeaseNotFound,
		statemachine.ErrLeaseExist:    rpctypes.ErrGRPCLeaseExist,
		statemachine.ErrNoSpace:       rpctypes.ErrGRPCNoSpace,
		statemachine.ErrCorrupt:       rpctypes.ErrGRPCCorrupt,
	} {
		got := statemachine.RefusalOf(fmt.Errorf("step: %w", err))
		if st := status.Convert(want); got.Message != st.Message() || got.Code != uint32(st.Code()) || got.Reason == 0 {
			t.Errorf("%v is told as %v, want %v", err, got, st)
		}
	}
}

// coded is a refusal with a code of its own.
type coded struct{ error }

func (coded) Reason() coordv1.Error_Reason { return coordv1.Error_REASON_TOKEN_MISMATCH }
func (coded) Code() codes.Code             { return codes.Aborted }

func TestRefusalOfAnything(t *testing.T) {
	own := statemachine.NewRefusal(coordv1.Error_REASON_NOT_HOLDER, "not yours")
	for _, c := range []struct {
		err  error
		want *coordv1.Refusal
	}{
		{statemachine.ErrFenced, &coordv1.Refusal{
			Reason: coordv1.Error_REASON_FENCED, Code: uint32(codes.FailedPrecondition),
			Message: statemachine.ErrFenced.Error(),
		}},
		{fmt.Errorf("%w: why", statemachine.ErrInvalid), &coordv1.Refusal{
			Reason: coordv1.Error_REASON_INVALID, Code: uint32(codes.InvalidArgument),
			Message: "etcdserver: invalid command: why",
		}},
		{fmt.Errorf("lock: %w", own), &coordv1.Refusal{
			Reason: coordv1.Error_REASON_NOT_HOLDER, Code: uint32(codes.FailedPrecondition), Message: "not yours",
		}},
		{coded{errors.New("no")}, &coordv1.Refusal{
			Reason: coordv1.Error_REASON_TOKEN_MISMATCH, Code: uint32(codes.Aborted), Message: "no",
		}},
		{errors.New("proto:\u00a0cannot parse"), &coordv1.Refusal{
			Code: uint32(codes.Unknown), Message: "proto: cannot parse",
		}},
	} {
		if got := statemachine.RefusalOf(c.err); !proto.Equal(got, c.want) {
			t.Errorf("%v is told as %v, want %v", c.err, got, c.want)
		}
	}
}
