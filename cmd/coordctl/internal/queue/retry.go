package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// attemptTimeout is how long a silent member is given before the request goes to the next one.
	attemptTimeout = 3 * time.Second
	// retryPause is the time between attempts that fail at once.
	retryPause = 100 * time.Millisecond
	// revokeTimeout bounds the clean-up, because somebody waits for the process to end.
	revokeTimeout = 5 * time.Second
)

// retry calls f, which must be safe to repeat, until it succeeds, is refused, or ctx ends. Then the error is the cause of
// ctx with what the last attempt said.
func retry(ctx context.Context, f func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := f(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && !transient(err) {
			return err
		}
		if !sleep(ctx, retryPause) {
			return told(context.Cause(ctx), err)
		}
	}
}

// told adds the last attempt's error to cause, unless it says no more than that the time was up.
func told(cause, last error) error {
	if c := code(last); c == codes.DeadlineExceeded || c == codes.Canceled {
		return cause
	}
	return fmt.Errorf("%w: %s", cause, message(last))
}

// transient reports whether another member or another time may answer differently.
func transient(err error) bool {
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted:
		return true
	}
	return false
}

// code is the gRPC code of what clientv3 returns: an etcd error, a context error or a status.
func code(err error) codes.Code {
	var refused rpctypes.EtcdError
	switch {
	case errors.As(err, &refused):
		return refused.Code()
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	return status.Code(err)
}

// message is an error without gRPC's wrapping.
func message(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
