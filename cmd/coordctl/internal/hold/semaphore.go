package hold

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
	"github.com/coord-dev/coord/cmd/coordctl/internal/inspect"
	"github.com/coord-dev/coord/cmd/coordctl/internal/objects"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

const semaphoreUsage = "semaphore takes the name of a semaphore, and a command behind --"

// NewSemaphore makes "coordctl semaphore", which runs a command and has subcommands.
func NewSemaphore() *cobra.Command {
	c := &contention{what: "semaphore"}
	var permits, limit int64
	c.enter = func(ctx context.Context, s *client.Session, try bool) (held, error) {
		return enterSemaphore(ctx, s.Semaphore(c.name, limit), permits, try)
	}
	c.env = func(h held, _ int64) []string {
		return []string{
			fmt.Sprintf("COORD_FENCING_TOKEN=%d", h.Token()), "COORD_SEMAPHORE_KEY=" + h.Key(),
			fmt.Sprintf("COORD_SEMAPHORE_PERMITS=%d", permits),
		}
	}
	c.form = func(h held) grantForm {
		return grantForm{Name: c.name, Key: h.Key(), Token: h.Token(), Permits: permits}
	}
	cmd := &cobra.Command{
		Use:   "semaphore NAME [-n PERMITS] [--limit N] [--ttl DURATION] [--wait DURATION | --try] [-- CMD...]",
		Short: "Runs a command while holding permits of a semaphore, or holds them until a signal",
		Long: `Acquires PERMITS of the semaphore NAME, waiting behind those who asked before, runs CMD and gives them back.

How many permits there are in all belongs to the name. --limit sets it if it was never set, and else does nothing: "semaphore
resize" changes it.

CMD has coordctl's standard streams and gets its signals. Its environment holds COORD_FENCING_TOKEN, which grows with every holder
(several hold together, so it orders nothing), COORD_SEMAPHORE_KEY, the key of the holder's entry, and COORD_SEMAPHORE_PERMITS.
When the permits are lost, CMD and all it started get TERM and, after --grace, KILL. Without CMD the key is printed and the permits
are held until INT or TERM.

A name that a subcommand has, or the beginning of one, is given with --name: semaphore --name ls -- CMD.

Exit code: that of CMD (128+n when signal n killed it), 75 when the permits were not acquired, 76 when they were lost.

DURATION is a number of seconds, or like 1500ms or 2m.`,
		Example: "  coordctl semaphore exports --limit 4 -- ./export.sh\n  coordctl semaphore exports -n 2 --try -- " +
			"./big-export.sh",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.takeArgs(cmd, args, semaphoreUsage); err != nil {
				return err
			}
			if permits < 1 || limit < 0 {
				return cli.BadArgs("-n is at least 1, and --limit not below 0")
			}
			return c.run(cmd)
		},
	}
	c.addFlags(cmd)
	c.addTryFlag(cmd)
	c.addNameFlag(cmd)
	cmd.Flags().Int64VarP(&permits, "permits", "n", 1, "how many permits")
	cmd.Flags().Int64Var(&limit, "limit", 0, "how many permits there are in all, if that was never set")
	cmd.AddCommand(besideRun(
		inspect.NewList("Lists the semaphores of which somebody holds permits, of those whose names begin with PREFIX",
			coordv1.QueueKind_QUEUE_SEMAPHORE),
		inspect.NewShow("Shows the limit of a semaphore, who holds permits and who waits",
			coordv1.QueueKind_QUEUE_SEMAPHORE),
		inspect.NewRelease("Takes permits away from a holder", coordv1.QueueKind_QUEUE_SEMAPHORE),
		newResizeCommand(),
		objects.NewRemoval("semaphore", "it has no limit then; not while it is in use",
			func(c *client.Client, name string) objects.Deletable { return c.Semaphore(name, 0) }),
	)...)
	return cmd
}

func enterSemaphore(ctx context.Context, semaphore *client.Semaphore, permits int64, try bool) (held, error) {
	how := semaphore.Acquire
	if try {
		how = semaphore.TryAcquire
	}
	h, err := how(ctx, permits)
	if err != nil {
		return nil, err // not a nil *client.Permits
	}
	return h, nil
}

// resized is a semaphore that was resized as -w json has it.
type resized struct {
	Name   string `json:"name"`
	Limit  int64  `json:"limit"`
	Before int64  `json:"before"` // 0: it was never set
	Held   int64  `json:"held"`
}

func newResizeCommand() *cobra.Command {
	var drain bool
	cmd := &cobra.Command{
		Use: "resize NAME N [--drain]", Short: "Changes how many permits a semaphore has in all",
		Long: `Sets the limit to N; what more there is goes to those who wait at once. Nothing is taken from who holds: fewer than are held are
refused, or with --drain come about as permits are given back, and nobody gets any until then. Fewer than somebody waits for are
refused always.`,
		RunE: cli.SDKVerb(2, 2, "semaphore resize takes the name of a semaphore and a number",
			func(ctx context.Context, r *cli.Run, args []string) error {
				limit, err := cli.ParseNumber("the number", args[1])
				if err != nil {
					return err
				}
				ctx, cancel := r.Bounded(ctx)
				defer cancel()
				resize := r.Client.Semaphore(args[0], 0).Resize
				if drain {
					resize = r.Client.Semaphore(args[0], 0).Drain
				}
				done, err := resize(ctx, limit)
				if err != nil {
					return cli.Told(ctx, err)
				}
				form := resized{args[0], limit, done.Before, done.Held}
				return r.Print(form, func(w io.Writer) {
					fmt.Fprintf(w, "semaphore %s has %d permits, of which %d are held\n", cli.Plain(args[0]), limit,
						done.Held)
				})
			}),
	}
	cmd.Flags().BoolVar(&drain, "drain", false, "also to less than is held: until that fits, nobody gets more")
	return cmd
}
