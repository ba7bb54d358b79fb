package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	etcdctl "go.etcd.io/etcd/etcdctl/v3/ctlv3/command"

	"github.com/coord-dev/coord/cmd/coordctl/internal/child"
	"github.com/coord-dev/coord/cmd/coordctl/internal/queue"
)

const electUsage = "elect takes the name of an election and a value, and a command behind --; or -l and the name"

func newElectCommand() *cobra.Command {
	c := &contention{what: "election"}
	c.env = func(held *queue.Held) []string { return electEnv(held, c.value) }
	var listen bool
	cmd := &cobra.Command{
		Use:   "elect NAME VALUE [--ttl DURATION] [--wait DURATION | --try] [-- CMD...]",
		Short: "Runs a command while being the leader, leads until a signal, or observes an election",
		Long: `Campaigns in the election NAME with VALUE, waiting behind the candidates who came before, runs CMD as the leader and
resigns when it ends.

CMD has coordctl's standard streams and gets its signals. Its environment holds COORD_FENCING_TOKEN, a number that grows
with every leader, COORD_ELECTION_KEY and COORD_ELECTION_VALUE. When the leadership is lost, CMD and all it started get
TERM and, after --grace, KILL. Without CMD the key and the value are printed and the leadership is held until INT or TERM.
With -l the leaders are printed as they come.

Exit code: that of CMD (128+n when signal n killed it), 75 when the leadership was not won, 76 when it was lost.

DURATION is a number of seconds, or like 1500ms or 2m.`,
		Example: "  coordctl elect scheduler $HOSTNAME -- ./scheduler\n  coordctl elect -l scheduler",
		GroupID: groupConcurrency,
		RunE: func(cmd *cobra.Command, args []string) error {
			if listen {
				return observe(cmd, args)
			}
			own, argv, err := split(cmd, args, 2, electUsage)
			if err != nil {
				return err
			}
			if cmd.ArgsLenAtDash() < 0 && len(argv) > 0 {
				return badArgs("%s", electUsage)
			}
			c.name, c.value, c.argv = own[0], own[1], argv
			return c.run(cmd)
		},
	}
	c.addFlags(cmd)
	cmd.Flags().BoolVarP(&listen, "listen", "l", false, "observe the election instead of taking part")
	return cmd
}

func electEnv(held *queue.Held, value string) []string {
	return []string{
		fmt.Sprintf("COORD_FENCING_TOKEN=%d", held.Token()),
		"COORD_ELECTION_KEY=" + held.Key(),
		"COORD_ELECTION_VALUE=" + value,
	}
}

// observe prints the leader of an election and its successors until a signal.
func observe(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return badArgs("elect -l takes the name of an election")
	}
	g, err := readGlobals(cmd)
	if err != nil {
		return err
	}
	if err := checkOutput(g); err != nil {
		return err
	}
	client, err := g.connect()
	if err != nil {
		return err
	}
	defer client.Close()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, child.Signals()...)
	ctx, stop := untilSignal(context.Background(), signals)
	defer stop()

	printer := etcdctl.NewPrinter(g.output, g.hex)
	err = queue.Observe(ctx, client, args[0], g.reach, func(leader *clientv3.GetResponse) { printer.Get(leader) })
	switch {
	case ctx.Err() != nil: // a signal is how an observer ends
		return nil
	case errors.Is(err, queue.ErrUnreachable):
		return fmt.Errorf("observe election %s: %w (endpoints %s)", args[0], err, g.endpoints())
	}
	return fmt.Errorf("observe election %s: %w", args[0], err)
}
