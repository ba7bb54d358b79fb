package cfg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/client/config"
)

// New makes "coordctl cfg".
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cfg <subcommand>",
		Short: "Shared configuration: bundles of documents with versions, schemas and a history",
		Long: `A bundle is a named set of documents that are published together, as one version at one revision. Each version says who
published it and why; the last ones are kept and can be brought back.

Output formats (-w): simple, table, json and yaml.

Exit code: 75 when another version was published than the expected one.`,
	}
	cmd.AddCommand(cli.Ours(
		newCfgGetCommand(), newCfgPutCommand(), newCfgHistoryCommand(), newCfgDiffCommand(),
		newCfgRollbackCommand(), newCfgRemoveCommand(), newCfgWatchCommand(), newCfgStatusCommand())...)
	schema := &cobra.Command{Use: "schema <subcommand>",
		Short: "The JSON Schemas that documents must obey when they are published"}
	schema.AddCommand(cli.Ours(newCfgSchemaGetCommand(), newCfgSchemaSetCommand(), newCfgSchemaRemoveCommand())...)
	cmd.AddCommand(cli.Ours(schema)...)
	return cmd
}

// cfgRun is one run of a verb of cfg.
type cfgRun struct {
	*cli.Printer
	ctx  context.Context // ends when the cluster has been tried for long enough
	cmd  *cobra.Command
	g    *cli.Globals
	etcd *clientv3.Client
	conn grpc.ClientConnInterface
}

// cfgVerb makes a verb of fn, which gets at least low and at most high arguments, the first of them the name of a
// bundle.
func cfgVerb(low, high int, usage string, fn func(r *cfgRun, args []string) error) cli.RunE {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high || args[0] == "" {
			return cli.BadArgs("%s", usage)
		}
		return cli.WithEtcd(cmd, func(g *cli.Globals, p *cli.Printer, etcd *clientv3.Client) error {
			ctx, cancel := context.WithTimeout(context.Background(), g.Reach)
			defer cancel()
			return cfgError(fn(&cfgRun{p, ctx, cmd, g, etcd, etcd.ActiveConnection()}, args), g)
		})
	}
}

var errPublishedUnknown = errors.New("it is not known whether the version was published, see cfg history")

// notKnown marks an error of a publication that leaves its outcome open.
func notKnown(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errPublishedUnknown, err)
	}
	return err
}

// cfgError turns an error of package config into the one line that coordctl ends with.
func cfgError(err error, g *cli.Globals) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, config.ErrConflict):
		return cli.ExitWith(cli.ExitNotAcquired, err)
	case errors.Is(err, errPublishedUnknown):
		return fmt.Errorf("%w (endpoints %s): %w", cli.ErrUnreachable, g.Endpoints(), errPublishedUnknown)
	case errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.Unavailable:
		return fmt.Errorf("%w (endpoints %s)", cli.ErrUnreachable, g.Endpoints())
	case status.Code(err) == codes.Unimplemented:
		return cli.ErrNotCoord
	}
	if st, ok := status.FromError(err); ok {
		return errors.New(st.Message())
	}
	return err
}

func newCfgPutCommand() *cobra.Command {
	var w cfgWrite
	var keep int
	cmd := &cobra.Command{
		Use:   "put NAME FILE... --reason R",
		Short: "Publishes files as the next version of a bundle",
		Long: `Publishes the files as the documents of the bundle NAME, in place of all that it had. A document has the name of its
file without folders; DOCUMENT=FILE gives it another one, and DOCUMENT=- is standard input.`,
		Example: "  coordctl cfg put svc/a limits.json routes.yaml --reason 'more connections' --expect 3",
		RunE: cfgVerb(2, 1<<16, "cfg put takes the name of a bundle and files", func(r *cfgRun, args []string) error {
			if err := w.check(); err != nil {
				return err
			}
			documents, err := readDocuments(args[1:], r.cmd.InOrStdin())
			if err != nil {
				return err
			}
			var opts []config.PutOption
			for _, opt := range w.options(r.cmd) {
				opts = append(opts, opt)
			}
			if keep != 0 {
				opts = append(opts, config.Keep(keep))
			}
			v, err := config.Put(r.ctx, r.conn, args[0], documents, w.reason, opts...)
			if err != nil {
				return notKnown(err)
			}
			return r.printPublished(args[0], v)
		}),
	}
	w.addFlags(cmd)
	cmd.Flags().IntVar(&keep, "keep", 0, "versions to keep from now on, 1 to 1000 (default: as before, at first 100)")
	return cmd
}

func newCfgRemoveCommand() *cobra.Command {
	var w cfgWrite
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "Deletes a bundle: all its versions, its schemas and what its clients reported",
		RunE: cfgVerb(1, 1, "cfg rm takes the name of a bundle", func(r *cfgRun, args []string) error {
			if err := cli.Confirm(r.cmd, "this deletes all versions of "+cli.Plain(args[0])); err != nil {
				return err
			}
			var opts []config.DeleteOption
			if w.expects(r.cmd) {
				opts = append(opts, config.Expect(w.expected))
			}
			return notKnown(config.Delete(r.ctx, r.conn, args[0], opts...))
		}),
	}
	cmd.Flags().Int64Var(&w.expected, "expect", 0, "only if this version is current")
	cli.AddYesFlag(cmd)
	return cmd
}

func newCfgRollbackCommand() *cobra.Command {
	var w cfgWrite
	cmd := &cobra.Command{
		Use:   "rollback NAME VERSION --reason R",
		Short: "Publishes an earlier version again",
		Long: `Publishes the documents of an earlier version as the next one. On a terminal the difference is shown and a confirmation
asked for; then only the version that was compared is replaced.`,
		RunE: cfgVerb(2, 2, "cfg rollback takes the name of a bundle and the number of a version",
			func(r *cfgRun, args []string) error {
				number, err := parseVersion(args[1])
				if err != nil {
					return err
				}
				if err := w.check(); err != nil {
					return err
				}
				ctx := r.ctx
				if cli.Asks(r.cmd) {
					current, err := r.confirmRollback(args[0], number)
					if err != nil {
						return err
					}
					if !r.cmd.Flags().Changed("expect") {
						w.expected = current
					}
					var cancel context.CancelFunc // the time that it took to answer does not count
					ctx, cancel = context.WithTimeout(context.Background(), r.g.Reach)
					defer cancel()
				}
				v, err := config.Rollback(ctx, r.conn, args[0], number, w.reason, w.options(r.cmd)...)
				if err != nil {
					return notKnown(err)
				}
				return r.printPublished(args[0], v)
			}),
	}
	w.addFlags(cmd)
	cli.AddYesFlag(cmd)
	return cmd
}

// confirmRollback shows what a rollback would change, asks, and returns the version that it would replace.
func (r *cfgRun) confirmRollback(name string, number int64) (current int64, err error) {
	v, err := config.Get(r.ctx, r.conn, name, 0)
	if err != nil {
		return 0, err
	}
	d, err := config.Diff(r.ctx, r.conn, name, v.Number, number)
	if err != nil {
		return 0, err
	}
	printDiff(os.Stderr, d)
	what := fmt.Sprintf("this goes back from version %d of %s to version %d", v.Number, cli.Plain(name), number)
	return v.Number, cli.Confirm(r.cmd, what)
}

// cfgWrite are the flags of the verbs that publish.
type cfgWrite struct {
	reason, author string
	expected       int64
}

func (w *cfgWrite) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.reason, "reason", "", "why the configuration changes (required)")
	cmd.Flags().StringVar(&w.author, "author", config.Self(), "who changes it")
	cmd.Flags().Int64Var(&w.expected, "expect", 0,
		"publish only if this version is current, 0: if there is none (default: whatever is current)")
}

func (w *cfgWrite) check() error {
	if w.reason == "" {
		return cli.BadArgs("--reason is missing: say why the configuration changes")
	}
	return nil
}

func (w *cfgWrite) expects(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("expect") || w.expected != 0
}

func (w *cfgWrite) options(cmd *cobra.Command) []config.RollbackOption {
	opts := []config.RollbackOption{config.Author(w.author)}
	if w.expects(cmd) {
		opts = append(opts, config.Expect(w.expected))
	}
	return opts
}

func parseVersion(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, cli.BadArgs("bad version %q: versions count from 1, see cfg history", text)
	}
	return n, nil
}
