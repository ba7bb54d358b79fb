package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

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
		ctx, stop := untilAsked()
		defer stop()
		return fn(ctx, &verbRun{p, cmd, g, c}, args)
	}
}

// withEtcd calls fn with what a verb of ours needs that works by etcd's client, which is closed afterwards.
func withEtcd(cmd *cobra.Command, fn func(g *globals, p *printer, etcd *clientv3.Client) error) error {
	g, err := readGlobals(cmd)
	if err != nil {
		return err
	}
	p, err := newPrinter(cmd)
	if err != nil {
		return err
	}
	etcd, err := g.etcd()
	if err != nil {
		return err
	}
	defer etcd.Close()
	return fn(g, p, etcd)
}

// untilAsked is untilSignal for a verb that starts no command: any signal that asks the process to end ends the context.
func untilAsked() (context.Context, func()) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, child.Signals()...)
	return untilSignal(context.Background(), signals)
}

// bounded ends when the cluster has been tried for long enough.
func (r *verbRun) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, r.g.reach, fmt.Errorf("%w (endpoints %s)", errUnreachable, r.g.endpoints()))
}

// optionalNumber is the second argument, 1 if there is none.
func optionalNumber(args []string) (int64, error) {
	if len(args) < 2 {
		return 1, nil
	}
	return parseNumber("the number", args[1])
}

// told is the error of a request within bounded, in one line.
func told(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
