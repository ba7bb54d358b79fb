package hold

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	clientv3 "go.etcd.io/etcd/client/v3"

	etcdctl "go.etcd.io/etcd/etcdctl/v3/ctlv3/command"

	"github.com/coord-dev/coord/client"
)

const electUsage = "elect takes the name of an election and a value, and a command behind --; or -l and the name"

// NewElect makes "coordctl elect".
func NewElect() *cobra.Command {
	c := &contention{what: "election"}
	var value string
	c.enter = func(ctx context.Context, s *client.Session, try bool) (held, error) {
		return campaign(ctx, s.Election(c.name), value, try)
	}
	c.env = func(h held, _ int64) []string { return electEnv(h, value) }
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
		RunE: func(cmd *cobra.Command, args []string) error {
			if listen {
				return observe(cmd, args)
			}
			own, argv, err := split(cmd, args, 2, electUsage)
			if err != nil {
				return err
			}
			if cmd.ArgsLenAtDash() < 0 && len(argv) > 0 {
				return cli.BadArgs("%s", electUsage)
			}
			c.name, value, c.argv = own[0], own[1], argv
			return c.run(cmd)
		},
	}
	c.addFlags(cmd)
	c.addTryFlag(cmd)
	cmd.Flags().BoolVarP(&listen, "listen", "l", false, "observe the election instead of taking part")
	return cmd
}

// leadership is a term as a hold.
type leadership struct{ *client.Leadership }

func (l leadership) Token() int64                      { return l.Term() }
func (l leadership) Release(ctx context.Context) error { return l.Resign(ctx) }

func campaign(ctx context.Context, election *client.Election, value string, try bool) (held, error) {
	how := election.Campaign
	if try {
		how = election.TryCampaign
	}
	term, err := how(ctx, []byte(value))
	if err != nil {
		return nil, err
	}
	return leadership{term}, nil
}

func electEnv(h held, value string) []string {
	return []string{
		fmt.Sprintf("COORD_FENCING_TOKEN=%d", h.Token()),
		"COORD_ELECTION_KEY=" + h.Key(),
		"COORD_ELECTION_VALUE=" + value,
	}
}

// observe prints the leader of an election and its successors until a signal.
func observe(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return cli.BadArgs("elect -l takes the name of an election")
	}
	g, err := cli.ReadGlobals(cmd)
	if err != nil {
		return err
	}
	if err := checkOutput(g); err != nil {
		return err
	}
	c, err := g.Connect()
	if err != nil {
		return err
	}
	defer c.Close()
	signalled, stop := cli.UntilAsked()
	defer stop()
	// a signal is how an observer ends
	if err := printLeaders(signalled, c.Election(args[0]), g); err != nil && signalled.Err() == nil {
		return fmt.Errorf("observe election %s: %w", args[0], err)
	}
	return nil
}

// printLeaders prints every leader and value, in order, until ctx ends. The first answer must come within the time that
// an unreachable cluster is given.
func printLeaders(ctx context.Context, election *client.Election, g *cli.Globals) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := time.AfterFunc(g.Reach,
		func() { cancel(fmt.Errorf("%w (endpoints %s)", cli.ErrUnreachable, g.Endpoints())) })
	defer first.Stop()
	printer := etcdctl.NewPrinter(g.Output, g.Hex)
	for seen, err := range election.Observe(ctx) {
		if err != nil {
			return short(ctx, err)
		}
		first.Stop()
		if seen.Leader.Term != 0 {
			printer.Get(asResponse(seen))
		}
	}
	return context.Cause(ctx)
}

// asResponse is an observation in the form that etcdctl prints.
func asResponse(o client.Observation) *clientv3.GetResponse {
	return &clientv3.GetResponse{
		Header: &etcdserverpb.ResponseHeader{Revision: o.Revision},
		Kvs: []*mvccpb.KeyValue{{
			Key: []byte(o.Leader.Key), Value: o.Leader.Value, CreateRevision: o.Leader.Term, ModRevision: o.Revision,
		}},
		Count: 1,
	}
}
