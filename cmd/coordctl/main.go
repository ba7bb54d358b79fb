// Command coordctl is the command line of coord: etcdctl's verbs; lock, elect, rwlock, semaphore and barrier enter, which run a
// command for as long as something is held; sessions, locks, elections, why, deadlocks and top, which show who holds and waits;
// counter, sequence, latch, barrier and group; service and cfg, the registry and the shared configuration; and context, which
// keeps clusters by name. docs/coordctl.md is its manual.
//
// The verbs are etcd's own cobra commands, composed, so their flags, output and exit codes are etcdctl's. Global flags can
// be given in the environment, and in a context, which is a cluster by name: a flag beats COORDCTL_<FLAG>, which beats
// ETCDCTL_<FLAG>, which beats the current context.
//
// Exit codes of verbs that run a command: its own code (128+n when signal n killed it), 75 when the lock or whatever it is was
// not acquired, 76 when it was lost while the command ran, 126 and 127 when the command cannot be started, 128 for bad arguments.
package main

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/etcd/pkg/v3/cobrautl"
)

func main() {
	os.Exit(exitCode(newRoot().Execute()))
}

// exitError ends coordctl with code; err is printed unless it is nil.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// badArgs is an error of the command line, with etcdctl's code for it.
func badArgs(format string, args ...any) error {
	return &exitError{cobrautl.ExitBadArgs, fmt.Errorf(format, args...)}
}

// exitCode prints err as one line, where there is something to say, and returns the code to exit with.
func exitCode(err error) int {
	if err == nil {
		return cobrautl.ExitSuccess
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{cobrautl.ExitError, err}
	}
	if exit.err != nil {
		fmt.Fprintln(os.Stderr, "Error:", exit.err)
	}
	return exit.code
}
