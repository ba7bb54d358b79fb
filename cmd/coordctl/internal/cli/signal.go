package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/coord-dev/coord/cmd/coordctl/internal/child"
)

// interruptedError is the cause of a context that a signal ended.
type interruptedError struct{ sig os.Signal }

func (e *interruptedError) Error() string { return fmt.Sprintf("stopped by signal: %v", e.sig) }

// UntilSignal returns a context that ends when a signal asks the process to end. The returned function stops listening
// and returns when no signal is consumed any more; it may be called again.
func UntilSignal(parent context.Context, signals <-chan os.Signal) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case sig := <-signals:
				if child.Ends(sig) {
					cancel(&interruptedError{sig})
					return
				}
			case <-quit:
				return
			}
		}
	}()
	var once bool
	return ctx, func() {
		if !once {
			once = true
			close(quit)
		}
		<-done
	}
}

// UntilAsked is untilSignal for a verb that starts no command: any signal that asks the process to end ends the
// context.
func UntilAsked() (context.Context, func()) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, child.Signals()...)
	return UntilSignal(context.Background(), signals)
}
