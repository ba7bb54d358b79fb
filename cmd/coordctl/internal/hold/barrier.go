package hold

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
	"github.com/coord-dev/coord/cmd/coordctl/internal/inspect"
	"github.com/coord-dev/coord/cmd/coordctl/internal/objects"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// NewBarrier makes "coordctl barrier", of which enter holds; objects has the rest.
func NewBarrier() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "barrier <subcommand>",
		Short: "Barriers that hold up who comes, until somebody opens them or all are there",
		Long: `A barrier that somebody closes holds up all who come until somebody opens it: close, open, wait and ls.

A double barrier lets its parties in when all are there, and lets them go when all have left: enter and show. It has nothing to do
with a barrier of the same name that somebody closes.

Output formats (-w): simple, table, json and yaml.

Exit code: 75 when the wait was over first (wait, enter), 76 when a party was lost (enter).`,
	}
	cmd.AddCommand(cli.Ours(objects.GateVerbs()...)...)
	cmd.AddCommand(cli.Ours(newBarrierEnterCommand(),
		inspect.NewShow("Shows how many parties of a double barrier are there, and who",
			coordv1.QueueKind_QUEUE_BARRIER),
		objects.NewRemoval("barrier",
			"the generations of a double barrier are counted from 1 again; not while it is in use",
			func(c *client.Client, name string) objects.Deletable { return c.Barrier(name, 1) }))...)
	return cmd
}

const barrierUsage = "barrier enter takes the name of a double barrier and for how many parties it is, and a " +
	"command behind --"

func newBarrierEnterCommand() *cobra.Command {
	c := &contention{what: "barrier", got: "entered"}
	var parties int64
	c.enter = func(ctx context.Context, s *client.Session, _ bool) (held, error) {
		inside, err := s.Barrier(c.name, parties).Enter(ctx)
		if err != nil {
			return nil, err // not a nil *client.Party
		}
		return inside, nil
	}
	c.env = func(h held, _ int64) []string {
		return []string{fmt.Sprintf("COORD_FENCING_TOKEN=%d", h.Token()), "COORD_BARRIER_KEY=" + h.Key()}
	}
	c.leave = func(ctx context.Context, h held) error { return h.(*client.Party).Leave(ctx) }
	cmd := &cobra.Command{
		Use:   "enter NAME N [--ttl DURATION] [--wait DURATION] -- CMD...",
		Short: "Runs a command when all N parties are there, and waits for all to leave",
		Long: `Enters the double barrier NAME as one of N parties, waits until all are there, runs CMD, leaves, and waits until all have left.
A party that dies before all are there is not counted; one that dies inside has left.

CMD has coordctl's standard streams and gets its signals. Its environment holds COORD_FENCING_TOKEN and COORD_BARRIER_KEY, the
key of the party's entry and its create revision, for as long as it is inside. When the party is lost, CMD and all it started get
TERM and, after --grace, KILL.

Exit code: that of CMD (128+n when signal n killed it), 75 when not all came, or not all left before a signal, 76 when the party
was lost.

DURATION is a number of seconds, or like 1500ms or 2m.`,
		Example: "  coordctl barrier enter load-test 3 -- ./run-phase.sh 1",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			own, argv, err := split(cmd, args, 2, barrierUsage)
			if err != nil {
				return err
			}
			if len(argv) == 0 {
				return cli.BadArgs(barrierUsage)
			}
			if parties, err = cli.ParseNumber("the number of parties", own[1]); err != nil {
				return err
			}
			if parties < 1 {
				return cli.BadArgs("%d parties: it takes at least one", parties)
			}
			c.name, c.argv = own[0], argv
			return c.run(cmd)
		},
	}
	c.addFlags(cmd)
	return cmd
}
