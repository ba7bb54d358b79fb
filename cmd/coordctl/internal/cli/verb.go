package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
)

// Run is one run of a verb of ours that works with the SDK.
type Run struct {
	*Printer
	Cmd    *cobra.Command // of which the flags are read
	g      *Globals
	Client *client.Client // closed when the verb returns
}

// RunE is what cobra calls for a command.
type RunE = func(*cobra.Command, []string) error

// SDKVerb makes a verb of fn, which gets at least low and at most high arguments, the first of them not empty. ctx ends
// with a signal that asks the process to end.
func SDKVerb(low, high int, usage string,
	fn func(ctx context.Context, r *Run, args []string) error) RunE {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high || len(args) > 0 && args[0] == "" {
			return BadArgs("%s", usage)
		}
		g, p, err := readCommand(cmd)
		if err != nil {
			return err
		}
		c, err := g.Connect()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, stop := UntilAsked()
		defer stop()
		return fn(ctx, &Run{p, cmd, g, c}, args)
	}
}

// readCommand reads what all verbs of ours have: how to connect, and how to print.
func readCommand(cmd *cobra.Command) (*Globals, *Printer, error) {
	g, err := ReadGlobals(cmd)
	if err != nil {
		return nil, nil, err
	}
	p, err := NewPrinter(cmd)
	return g, p, err
}

// WithEtcd calls fn with what a verb of ours needs that works by etcd's client, which is closed afterwards.
func WithEtcd(cmd *cobra.Command, fn func(g *Globals, p *Printer, etcd *clientv3.Client) error) error {
	g, p, err := readCommand(cmd)
	if err != nil {
		return err
	}
	etcd, err := g.Etcd()
	if err != nil {
		return err
	}
	defer etcd.Close()
	return fn(g, p, etcd)
}

// Bounded ends when the cluster has been tried for long enough.
func (r *Run) Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, r.g.Reach, fmt.Errorf("%w (endpoints %s)", ErrUnreachable, r.g.Endpoints()))
}

// OptionalNumber is the second argument, 1 if there is none.
func OptionalNumber(args []string) (int64, error) {
	if len(args) < 2 {
		return 1, nil
	}
	return ParseNumber("the number", args[1])
}

// Told is the error of a request within bounded, in one line.
func Told(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// ParseNumber is an argument that is a number.
func ParseNumber(what, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, BadArgs("%s %s does not fit into 64 bits", what, text)
	case err != nil:
		return 0, BadArgs("%s %q is not a number", what, text)
	}
	return n, nil
}
