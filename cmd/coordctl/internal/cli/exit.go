package cli

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/etcd/pkg/v3/cobrautl"
)

// Exit codes of verbs that run a command which are not its own.
const (
	ExitNotAcquired = 75 // EX_TEMPFAIL of sysexits.h: try again later
	ExitLost        = 76
)

// What several commands end with.
var (
	// ErrUnreachable: no member answered within Globals.Reach.
	ErrUnreachable = errors.New("no answer from the cluster")
	// ErrNotCoord: the server knows none of our services.
	ErrNotCoord = errors.New("the server has no locks and elections of its own; is it coordd?")
)

// ExitError ends coordctl with code; err is printed unless it is nil.
type ExitError struct {
	Code int
	err  error
}

func (e *ExitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.err.Error()
}

func (e *ExitError) Unwrap() error { return e.err }

// ExitWith is an error that coordctl ends with code for.
func ExitWith(code int, err error) error { return &ExitError{code, err} }

// BadArgs is an error of the command line, with etcdctl's code for it.
func BadArgs(format string, args ...any) error {
	return ExitWith(cobrautl.ExitBadArgs, fmt.Errorf(format, args...))
}

// ExitCode prints err as one line, where there is something to say, and returns the code to exit with.
func ExitCode(err error) int {
	if err == nil {
		return cobrautl.ExitSuccess
	}
	var exit *ExitError
	if !errors.As(err, &exit) {
		exit = &ExitError{cobrautl.ExitError, err}
	}
	if exit.err != nil {
		fmt.Fprintln(os.Stderr, "Error:", exit.err)
	}
	return exit.Code
}
