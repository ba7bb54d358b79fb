package hold

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
	"github.com/coord-dev/coord/cmd/coordctl/internal/inspect"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

const rwlockUsage = "rwlock takes the name of a read-write lock, --read or --write, and a command behind --"

// NewRWLock makes "coordctl rwlock", which runs a command and has subcommands.
func NewRWLock() *cobra.Command {
	c := &contention{what: "read-write lock"}
	var read, write bool
	mode := func() string {
		if write {
			return "write"
		}
		return "read"
	}
	c.enter = func(ctx context.Context, s *client.Session, try bool) (held, error) {
		return enterRWLock(ctx, s.RWLock(c.name), write, try)
	}
	c.env = func(h held, _ int64) []string {
		return []string{
			fmt.Sprintf("COORD_FENCING_TOKEN=%d", h.Token()), "COORD_RWLOCK_KEY=" + h.Key(),
			"COORD_RWLOCK_MODE=" + mode(),
		}
	}
	c.form = func(h held) grantForm { return grantForm{Name: c.name, Key: h.Key(), Token: h.Token(), Mode: mode()} }
	cmd := &cobra.Command{
		Use:   "rwlock NAME --read|--write [--ttl DURATION] [--wait DURATION | --try] [-- CMD...]",
		Short: "Runs a command while holding a read-write lock, or holds it until a signal",
		Long: `Acquires the read-write lock NAME to read, beside other readers, or to write, alone, runs CMD and releases it. Nobody overtakes:
a reader that comes while a writer waits is served after that writer.

CMD has coordctl's standard streams and gets its signals. Its environment holds COORD_FENCING_TOKEN, which grows with every
holder and tells a writer from those before it (readers hold together: theirs order nothing), COORD_RWLOCK_KEY, the key of the
holder's entry, and COORD_RWLOCK_MODE, which is read or write. When the lock is lost, CMD and all it started get TERM and, after
--grace, KILL. Without CMD the key is printed and the lock is held until INT or TERM.

A name that a subcommand has, or the beginning of one, is given with --name: rwlock --name ls --read -- CMD.

Exit code: that of CMD (128+n when signal n killed it), 75 when the lock was not acquired, 76 when it was lost.

DURATION is a number of seconds, or like 1500ms or 2m.`,
		Example: "  coordctl rwlock catalog --read -- ./export.sh\n  coordctl rwlock catalog --write --wait 60 -- " +
			"./migrate.sh",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.takeArgs(cmd, args, rwlockUsage); err != nil {
				return err
			}
			if read == write {
				return cli.BadArgs("rwlock needs one of --read and --write")
			}
			return c.run(cmd)
		},
	}
	c.addFlags(cmd)
	c.addTryFlag(cmd)
	c.addNameFlag(cmd)
	cmd.Flags().BoolVar(&read, "read", false, "to read, beside other readers")
	cmd.Flags().BoolVar(&write, "write", false, "to write, alone")
	cmd.AddCommand(besideRun(
		inspect.NewList("Lists the read-write locks that somebody holds, of those whose names begin with PREFIX",
			coordv1.QueueKind_QUEUE_RWLOCK),
		inspect.NewShow("Shows who holds a read-write lock and who waits for it", coordv1.QueueKind_QUEUE_RWLOCK),
		inspect.NewRelease("Takes a read-write lock away from a holder", coordv1.QueueKind_QUEUE_RWLOCK),
	)...)
	return cmd
}

func enterRWLock(ctx context.Context, lock *client.RWLock, write, try bool) (held, error) {
	mode, how := client.Read, lock.Acquire
	if write {
		mode = client.Write
	}
	if try {
		how = lock.TryAcquire
	}
	h, err := how(ctx, mode)
	if err != nil {
		return nil, err // not a nil *client.RWHeld
	}
	return h, nil
}
