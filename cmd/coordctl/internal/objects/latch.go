package objects

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// latched is a latch as -w json has it.
type latched struct {
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	Count      int64  `json:"count"`
	Remaining  int64  `json:"remaining"`
}

var latchHead = []any{"NAME", "REMAINING", "COUNT", "GENERATION"}

func (l latched) cells() []any { return []any{cli.Plain(l.Name), l.Remaining, l.Count, l.Generation} }

// NewLatch makes "coordctl latch".
func NewLatch() *cobra.Command {
	cmd := &cobra.Command{
		Use: "latch <subcommand>", Short: "Latches that let go on when they were counted down",
		Long: `A latch is set to a number and counted down; at zero, who waits for it goes on, and it can be set again.

Output formats (-w): simple, table, json and yaml.

Exit code: 75 when the latch counts already (set), is in another generation (down), or the wait was over first (wait).`,
	}
	list := newObjectList("latches", layout.Latch, latchHead,
		func(name string, kv *mvccpb.KeyValue) (latched, []any, error) {
			state, err := objects.Latch(kv)
			if err != nil {
				return latched{}, nil, err
			}
			l := latched{name, state.Generation, state.Count, state.Remaining}
			return l, l.cells(), nil
		})
	cmd.AddCommand(cli.Ours(newLatchSetCommand(), newLatchDownCommand(), newLatchWaitCommand(), newLatchShowCommand(),
		list,
		NewRemoval("latch", "who waits is told",
			func(c *client.Client, name string) Deletable { return c.Latch(name) }))...)
	return cmd
}

func newLatchSetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set NAME N", Short: "Sets a latch that does not count, and prints the number of the generation",
		RunE: verb(2, 2, "latch set takes the name of a latch and a number",
			func(ctx context.Context, r *cli.Run, args []string) error {
				n, err := cli.ParseNumber("the number", args[1])
				if err != nil {
					return err
				}
				generation, err := r.Client.Latch(args[0]).Set(ctx, n)
				if err != nil {
					return err
				}
				return printNumber(r, latched{args[0], generation, n, n}, generation)
			}),
	}
}

func newLatchDownCommand() *cobra.Command {
	var generation int64
	cmd := &cobra.Command{
		Use: "down NAME [N]", Short: "Counts a latch down by one, or by N, and prints what remains",
		RunE: verb(1, 2, "latch down takes the name of a latch, and perhaps a number",
			func(ctx context.Context, r *cli.Run, args []string) error {
				n, err := cli.OptionalNumber(args)
				if err != nil {
					return err
				}
				remaining, err := r.Client.Latch(args[0]).In(generation).CountDown(ctx, n)
				if err != nil {
					return err
				}
				return printNumber(r, struct {
					Name      string `json:"name"`
					Remaining int64  `json:"remaining"`
				}{args[0], remaining}, remaining)
			}),
	}
	cmd.Flags().Int64Var(&generation, "generation", 0, "only in this generation (default: whichever there is)")
	return cmd
}

func newLatchWaitCommand() *cobra.Command {
	w, generation := &waitFlag{}, int64(0)
	cmd := &cobra.Command{
		Use: "wait NAME [--wait DURATION]", Short: "Waits until a latch is at zero",
		RunE: cli.SDKVerb(1, 1, "latch wait takes the name of a latch",
			func(ctx context.Context, r *cli.Run, args []string) error {
				latch := r.Client.Latch(args[0]).In(generation)
				first, cancel := r.Bounded(ctx)
				defer cancel()
				if _, err := latch.State(first); err != nil {
					return objectError(first, err)
				}
				return w.until(ctx, r, "latch "+args[0], latch.Await)
			}),
	}
	w.addFlag(cmd)
	cmd.Flags().Int64Var(&generation, "generation", 0,
		"wait for the end of this generation (default: the one there is)")
	return cmd
}

func newLatchShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Shows a latch",
		RunE: verb(1, 1, "latch show takes the name of a latch",
			func(ctx context.Context, r *cli.Run, args []string) error {
				state, err := r.Client.Latch(args[0]).State(ctx)
				if err != nil {
					return err
				}
				l := latched{args[0], state.Generation, state.Count, state.Remaining}
				return r.Print(l, func(w io.Writer) { cli.Table(w, latchHead, l.cells()) })
			}),
	}
}
