package cfg

import (
	"context"
	"fmt"
	"math"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client/config"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

func newCfgGetCommand() *cobra.Command {
	var number int64
	var document string
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Prints the documents of a bundle",
		Long: `Prints the contents of the documents as they are; of several each behind a line "==> DOCUMENT <==". The other formats print
the version, too.`,
		RunE: cfgVerb(1, 1, "cfg get takes the name of a bundle", func(r *cfgRun, args []string) error {
			v, err := config.Get(r.ctx, r.conn, args[0], number)
			if err != nil {
				return err
			}
			if document != "" {
				content, ok := v.Documents[document]
				if !ok {
					return fmt.Errorf("version %d of %s has no document %s", v.Number, args[0], document)
				}
				v.Documents = config.Documents{document: content}
			}
			return r.printVersion(args[0], v)
		}),
	}
	cmd.Flags().Int64Var(&number, "version", 0, "the version (default: the current one)")
	cmd.Flags().StringVar(&document, "document", "", "only this document")
	return cmd
}

func newCfgHistoryCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "Lists the versions of a bundle that are kept, the newest first",
		RunE: cfgVerb(1, 1, "cfg history takes the name of a bundle", func(r *cfgRun, args []string) error {
			if limit < 0 || limit > math.MaxInt32 {
				return cli.BadArgs("bad limit %d", limit)
			}
			versions, err := config.History(r.ctx, r.conn, args[0], limit)
			if err != nil {
				return err
			}
			return r.printHistory(args[0], versions)
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "print at most so many (default: all)")
	return cmd
}

func newCfgDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff NAME VERSION [VERSION]",
		Short: "Prints how the documents of two versions differ; the second is the current one if it is not given",
		RunE: cfgVerb(2, 3, "cfg diff takes the name of a bundle and one or two versions",
			func(r *cfgRun, args []string) error {
				numbers := []int64{0, 0}
				for i, arg := range args[1:] {
					var err error
					if numbers[i], err = parseVersion(arg); err != nil {
						return err
					}
				}
				d, err := config.Diff(r.ctx, r.conn, args[0], numbers[0], numbers[1])
				if err != nil {
					return err
				}
				return r.printDifference(args[0], d)
			}),
	}
}

func newCfgWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME",
		Short: "Prints the current version of a bundle and those that follow, until a signal",
		Long: `Prints a line for each version; the formats json and yaml have the documents, too. When many are published at once, some
may be passed over, but never the last one.`,
		RunE: cfgVerb(1, 1, "cfg watch takes the name of a bundle", func(r *cfgRun, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			versions := make(chan config.Version)
			follow := func(_, now config.Snapshot[config.Documents]) {
				select {
				case versions <- now.Version:
				case <-ctx.Done():
				}
			}
			v, err := config.Watch[config.Documents](ctx, r.etcd, args[0], config.OnChange(follow),
				config.Patience(r.g.Reach))
			if err != nil {
				return err
			}
			defer v.Close()
			defer stop() // before Close, which waits for follow
			for next, printed := v.Current().Version, int64(0); ; {
				if next.Revision != printed { // else it came before Watch returned
					if err := r.printFollowed(args[0], next); err != nil {
						return err
					}
					printed = next.Revision
				}
				select {
				case next = <-versions:
				case <-ctx.Done():
					return nil
				}
			}
		}),
	}
}

func newCfgStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status NAME",
		Short: "Lists what the clients of a bundle have made of it, as far as they report",
		RunE: cfgVerb(1, 1, "cfg status takes the name of a bundle", func(r *cfgRun, args []string) error {
			statuses, err := config.Statuses(r.ctx, r.etcd, args[0])
			if err != nil {
				return err
			}
			return r.printStatuses(statuses)
		}),
	}
}
