package hold

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client"
)

const lockUsage = "lock takes the name of a lock, and a command behind --"

// NewLock makes "coordctl lock".
func NewLock() *cobra.Command {
	c := &contention{what: "lock", env: lockEnv}
	c.enter = func(ctx context.Context, s *client.Session, try bool) (held, error) {
		return enterLock(ctx, s.Lock(c.name), try)
	}
	cmd := &cobra.Command{
		Use:   "lock NAME [--ttl DURATION] [--wait DURATION | --try] [-- CMD...]",
		Short: "Runs a command while holding a lock, or holds the lock until a signal",
		Long: `Acquires the lock NAME, waiting behind those who asked before, runs CMD and releases the lock.

CMD has coordctl's standard input, output and error, and gets the signals INT, TERM, HUP, QUIT, USR1 and USR2 sent to
coordctl. Its environment holds COORD_FENCING_TOKEN, a number that grows with every holder of the lock: let the resource
that the lock protects refuse a smaller one than it has seen. COORD_LOCK_KEY is the key of the holder's entry;
ETCD_LOCK_KEY and ETCD_LOCK_REV are etcdctl's. When the lock is lost, CMD and all it started get TERM and, after --grace,
KILL. Without CMD the key is printed and the lock is held until INT or TERM.

Exit code: that of CMD (128+n when signal n killed it), 75 when the lock was not acquired, 76 when it was lost.

DURATION is a number of seconds, or like 1500ms or 2m.`,
		Example: "  coordctl lock jobs/nightly --ttl 5 --try -- ./backup.sh --full",
		RunE: func(cmd *cobra.Command, args []string) error {
			own, argv, err := split(cmd, args, 1, lockUsage)
			if err != nil {
				return err
			}
			c.name, c.argv = own[0], argv
			return c.run(cmd)
		},
	}
	c.addFlags(cmd)
	c.addTryFlag(cmd)
	return cmd
}

func enterLock(ctx context.Context, lock *client.Lock, try bool) (held, error) {
	if try {
		return lock.TryAcquire(ctx)
	}
	return lock.Acquire(ctx)
}

func lockEnv(h held, revision int64) []string {
	return []string{
		fmt.Sprintf("COORD_FENCING_TOKEN=%d", h.Token()),
		"COORD_LOCK_KEY=" + h.Key(),
		"ETCD_LOCK_KEY=" + h.Key(),
		fmt.Sprintf("ETCD_LOCK_REV=%d", revision),
	}
}
