package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/cmd/coordctl/internal/child"
)

// verbRun is one run of a verb of ours that works with the SDK.
type verbRun struct {
	*printer
	cmd *cobra.Command
	g   *globals
	c   *client.Client
}

// sdkVerb makes a verb of fn, which gets at least low and at most high arguments, the first of them not empty. ctx ends with
// a signal that asks the process to end.
func sdkVerb(low, high int, usage string, fn func(ctx context.Context, r *verbRun, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high || len(args) > 0 && args[0] == "" {
			return badArgs("%s", usage)
		}
		g, err := readGlobals(cmd)
		if err != nil {
			return err
		}
		p, err := newPrinter(cmd)
		if err != nil {
			return err
		}
		c, err := g.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		signals := make(chan os.Signal, 16)
		signal.Notify(signals, child.Signals()...)
		ctx, stop := untilSignal(context.Background(), signals)
		defer stop()
		return fn(ctx, &verbRun{p, cmd, g, c}, args)
	}
}

// bounded ends when the cluster has been tried for long enough.
func (r *verbRun) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, r.g.reach, fmt.Errorf("%w (endpoints %s)", errUnreachable, r.g.endpoints()))
}

// told is the error of a request within bounded, in one line.
func told(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
