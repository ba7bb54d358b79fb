package objects

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// GateVerbs are the verbs of barriers that somebody closes and opens.
func GateVerbs() []*cobra.Command {
	list := newObjectList("barriers that are closed", layout.Gate, gateHead,
		func(name string, kv *mvccpb.KeyValue) (gated, []any, error) {
			state, err := objects.Gate(kv)
			if err != nil {
				return gated{}, nil, err
			}
			g := gated{name, state.Closed, state.Reason, state.Since}
			return g, []any{cli.Plain(name), cli.OrDash(state.Reason), state.Since}, nil
		})
	return []*cobra.Command{newBarrierCloseCommand(), newBarrierOpenCommand(), newBarrierWaitCommand(), list}
}

// gated is a barrier as -w json has it.
type gated struct {
	Name   string `json:"name"`
	Closed bool   `json:"closed"`
	Reason string `json:"reason,omitempty"`
	Since  int64  `json:"since,omitempty"` // a revision
}

var gateHead = []any{"NAME", "REASON", "SINCE REVISION"}

func newBarrierCloseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "close NAME [--reason WHY]", Short: "Closes a barrier, until somebody opens it",
		RunE: verb(1, 1, "barrier close takes the name of a barrier",
			func(ctx context.Context, r *cli.Run, args []string) error {
				if err := r.Client.Gate(args[0]).Close(ctx, client.WithReason(reason)); err != nil {
					return err
				}
				return r.Print(gated{Name: args[0], Closed: true, Reason: reason},
					func(w io.Writer) { fmt.Fprintf(w, "barrier %s is closed\n", cli.Plain(args[0])) })
			}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for who waits")
	return cmd
}

func newBarrierOpenCommand() *cobra.Command {
	return &cobra.Command{
		Use: "open NAME", Short: "Opens a barrier: all who wait go on",
		RunE: verb(1, 1, "barrier open takes the name of a barrier",
			func(ctx context.Context, r *cli.Run, args []string) error {
				closed, err := r.Client.Gate(args[0]).Open(ctx)
				if err != nil {
					return err
				}
				text := "barrier %s is open\n"
				if !closed {
					text = "barrier %s was not closed\n"
				}
				return r.Print(gated{Name: args[0]}, func(w io.Writer) { fmt.Fprintf(w, text, cli.Plain(args[0])) })
			}),
	}
}

func newBarrierWaitCommand() *cobra.Command {
	w := &waitFlag{}
	cmd := &cobra.Command{
		Use: "wait NAME [--wait DURATION]", Short: "Waits until a barrier is open",
		RunE: cli.SDKVerb(1, 1, "barrier wait takes the name of a barrier",
			func(ctx context.Context, r *cli.Run, args []string) error {
				first, cancel := r.Bounded(ctx)
				defer cancel()
				state, err := r.Client.Gate(args[0]).State(first)
				if err != nil {
					return objectError(first, err)
				}
				what := "barrier " + args[0]
				if state.Reason != "" {
					what += " (" + cli.Plain(state.Reason) + ")"
				}
				return w.until(ctx, r, what, r.Client.Gate(args[0]).Await)
			}),
	}
	w.addFlag(cmd)
	return cmd
}
