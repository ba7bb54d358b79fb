package hold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	clientv3 "go.etcd.io/etcd/client/v3"

	etcdctl "go.etcd.io/etcd/etcdctl/v3/ctlv3/command"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/cmd/coordctl/internal/child"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

var (
	errWaitElapsed   = errors.New("the wait elapsed")
	errHeldByAnother = errors.New("held by another")
	errNoLimit       = errors.New("it has no limit yet: say --limit")
)

// held is a lock that is held, a leadership that was won, or the like.
type held interface {
	Key() string
	Token() int64
	// Lost is closed when the hold is not guaranteed any more, and by Release.
	Lost() <-chan struct{}
	// Err says why Lost is closed.
	Err() error
	// Release gives the hold up; the error wraps client.ErrLost if it was lost before.
	Release(context.Context) error
}

// contention is one run of lock, elect or the like: wait in the queue of a name for a hold, and keep it for as long as
// a command runs or until a signal.
type contention struct {
	what string // "lock" or "election", for messages
	got  string // "acquired" if it is empty, for messages
	name string
	argv []string // empty: print the key and hold until a signal
	// enter waits for the hold, or with try does not wait.
	enter func(ctx context.Context, s *client.Session, try bool) (held, error)
	// env is what the command gets to know about the hold, which was there at a revision of the store.
	env func(h held, revision int64) []string
	// form is what a hold without a command prints; nil: the entry, as etcdctl does.
	form func(h held) grantForm
	// leave waits for others after the command; nil: nobody is waited for. Afterwards there is nothing to release.
	leave func(ctx context.Context, h held) error

	ttl   cli.Seconds
	wait  cli.Seconds
	grace cli.Seconds
	try   bool

	waitSet bool

	client  *client.Client
	session *client.Session
	held    held
}

// addFlags defines the flags that all share but --try.
func (c *contention) addFlags(cmd *cobra.Command) {
	c.ttl, c.grace = cli.Seconds(10*time.Second), cli.Seconds(5*time.Second)
	fs := cmd.Flags()
	fs.Var(&c.ttl, "ttl", "time after which a silent holder is taken for dead")
	fs.Var(&c.wait, "wait", "give up with exit code 75 after waiting this long (default: wait for ever)")
	fs.Var(&c.grace, "grace", "time between TERM and KILL for a command that must stop because the hold was lost")
}

func (c *contention) addTryFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.try, "try", false, "give up with exit code 75 instead of waiting")
	cmd.MarkFlagsMutuallyExclusive("wait", "try")
}

// split takes the arguments apart: the first n are ours, what follows is the command. With "--" it must stand right
// behind the first n.
func split(cmd *cobra.Command, args []string, n int, usage string) (own, argv []string, err error) {
	dash := cmd.ArgsLenAtDash()
	switch {
	case len(args) < n || dash >= 0 && dash != n:
		return nil, nil, cli.BadArgs("%s", usage)
	case dash >= 0 && len(args) == n:
		return nil, nil, cli.BadArgs("no command after --")
	case n > 0 && args[0] == "":
		return nil, nil, cli.BadArgs("the name is empty")
	}
	return args[:n], args[n:], nil
}

// check finds mistakes before anything is enqueued.
func (c *contention) check(cmd *cobra.Command, g *cli.Globals) error {
	c.waitSet = cmd.Flags().Changed("wait")
	if c.ttl == 0 {
		return cli.BadArgs("--ttl must be greater than zero")
	}
	if err := c.checkOutput(g); err != nil {
		return err
	}
	if len(c.argv) == 0 {
		return nil
	}
	if code, err := child.Check(c.argv[0]); err != nil {
		return cli.ExitWith(code, err)
	}
	return nil
}

// checkOutput refuses a format before there is something to print.
func (c *contention) checkOutput(g *cli.Globals) error {
	if c.form != nil {
		return cli.CheckFormat(g.Output, cli.OurFormats)
	}
	return checkOutput(g)
}

// checkOutput refuses what etcd's printer would only refuse with the lock in hand.
func checkOutput(g *cli.Globals) error {
	return cli.CheckFormat(g.Output, []string{"simple", "fields", "json", "protobuf"})
}

// run is the life of a contention.
func (c *contention) run(cmd *cobra.Command) error {
	g, err := cli.ReadGlobals(cmd)
	if err != nil {
		return err
	}
	if err := c.check(cmd, g); err != nil {
		return err
	}
	queued := make(chan struct{}, 1)
	g.Hooks.OnWait = func(string, int64, string) {
		select {
		case queued <- struct{}{}:
		default:
		}
	}
	c.client, err = g.Connect()
	if err != nil {
		return err
	}
	defer c.client.Close()
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	go c.warn(ctx, queued)

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, child.Signals()...)
	entry, err := c.acquire(g, signals)
	if err != nil {
		return cli.ExitWith(cli.ExitNotAcquired,
			fmt.Errorf("%s %s not %s: %w", c.what, c.name, cmp.Or(c.got, "acquired"), err))
	}
	if len(c.argv) == 0 {
		return c.hold(cmd, g, signals, entry)
	}
	return c.runCommand(signals, entry)
}

// warn says, when it has to wait, that it does so behind a key of another client, which may never go.
func (c *contention) warn(ctx context.Context, queued <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-queued:
		}
		conn, err := c.client.Conn()
		if err != nil {
			return
		}
		resp, err := coordv1.NewIntrospectionClient(conn).Explain(ctx, &coordv1.ExplainRequest{Name: c.name})
		if err == nil && len(resp.GetQueue().GetHolder().GetForeignKey()) > 0 {
			fmt.Fprintf(os.Stderr, "Warning: %s waits: %s\n", cli.Program, cli.Plain(resp.Sentence))
		}
	}
}

// acquire waits for the hold until a signal asks to end, or the wait elapsed. It returns the entry as it was read then.
// If it fails, nothing of it stays in the queue.
func (c *contention) acquire(g *cli.Globals, signals <-chan os.Signal) (*clientv3.GetResponse, error) {
	ctx, stop := cli.UntilSignal(context.Background(), signals)
	defer stop()
	if c.wait > 0 {
		bounded, cancel := context.WithTimeoutCause(ctx, time.Duration(c.wait), errWaitElapsed)
		defer cancel()
		ctx = bounded
	}
	if err := c.openSession(ctx, g); err != nil {
		return nil, err
	}
	entry, err := c.enterQueue(ctx, g)
	stop()
	if ctx.Err() != nil && err == nil { // it came in the same moment
		_ = c.release()
		err = context.Cause(ctx)
	}
	if err != nil {
		c.closeSession()
		return nil, short(ctx, err)
	}
	return entry, nil
}

// openSession is the first that needs the cluster, so it finds out whether there is one.
func (c *contention) openSession(ctx context.Context, g *cli.Globals) (err error) {
	reach := max(g.Reach, time.Duration(c.wait))
	bounded, cancel := context.WithTimeoutCause(ctx, reach, cli.ErrUnreachable)
	defer cancel()
	c.session, err = c.client.NewSession(bounded, client.WithTTL(time.Duration(c.ttl)))
	if errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w (endpoints %s)", cli.ErrUnreachable, g.Endpoints())
	}
	return short(bounded, err)
}

// enterQueue waits for the hold and reads its entry.
func (c *contention) enterQueue(ctx context.Context, g *cli.Globals) (*clientv3.GetResponse, error) {
	try := c.try || c.waitSet && c.wait == 0
	bounded := ctx
	if try {
		b, cancel := context.WithTimeoutCause(ctx, g.Reach, cli.ErrUnreachable)
		defer cancel()
		bounded = b
	}
	h, err := c.enter(bounded, c.session, try)
	if err != nil {
		return nil, short(bounded, err)
	}
	c.held = h
	entry, err := c.readEntry(ctx, g)
	if err != nil {
		_ = c.release()
	}
	return entry, err
}

func (c *contention) readEntry(ctx context.Context, g *cli.Globals) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, g.Reach, cli.ErrUnreachable)
	defer cancel()
	resp, err := c.client.Get(ctx, c.held.Key())
	if err != nil {
		return nil, short(ctx, err)
	}
	if len(resp.Kvs) == 0 || resp.Kvs[0].CreateRevision != c.held.Token() {
		return nil, fmt.Errorf("%w: %w", client.ErrLost, client.ErrRemoved)
	}
	return resp, nil
}

// short is the reason that matters in an error of the SDK, which says first what was being done: why ctx ended, or why
// there is no hold.
func short(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, client.ErrForeignKey), errors.Is(err, client.ErrClusterVersion):
		return err
	case errors.Is(err, client.ErrNotAcquired):
		return errHeldByAnother
	case errors.Is(err, client.ErrNotSet):
		return errNoLimit
	case status.Code(err) == codes.Unimplemented:
		return cli.ErrNotCoord
	}
	if reason := errors.Unwrap(err); reason != nil {
		return reason
	}
	return err
}

// hold prints what it holds, and holds until a signal.
func (c *contention) hold(cmd *cobra.Command, g *cli.Globals, signals <-chan os.Signal,
	entry *clientv3.GetResponse) error {
	ctx, stop := cli.UntilSignal(context.Background(), signals)
	defer stop()
	if c.form == nil {
		etcdctl.NewPrinter(g.Output, g.Hex).Get(entry)
	} else if err := c.form(c.held).print(cmd); err != nil {
		return errors.Join(err, c.end(nil))
	}
	select {
	case <-ctx.Done():
	case <-c.held.Lost():
	}
	return c.end(nil)
}

// runCommand runs the command for as long as the hold lasts, and gives the hold up when it has ended.
func (c *contention) runCommand(signals <-chan os.Signal, entry *clientv3.GetResponse) error {
	proc, err := child.Start(c.argv, append(os.Environ(), c.env(c.held, entry.Header.Revision)...))
	if err != nil {
		_ = c.end(nil)
		return cli.ExitWith(child.CodeNotExecutable, err)
	}
	for {
		select {
		case sig := <-signals:
			proc.Signal(sig)
		case <-c.held.Lost():
			proc.Stop(time.Duration(c.grace))
			return c.end(nil)
		case <-proc.Done():
			outcome := &cli.ExitError{Code: proc.ExitCode()}
			if c.leave != nil {
				return c.endTogether(signals, outcome)
			}
			return c.end(outcome)
		}
	}
}

// endTogether leaves and waits for the others until a signal, and tells how it ended, as end does.
func (c *contention) endTogether(signals <-chan os.Signal, outcome *cli.ExitError) error {
	ctx, stop := cli.UntilSignal(context.Background(), signals)
	defer stop()
	err := c.leave(ctx, c.held)
	c.closeSession()
	switch {
	case errors.Is(err, client.ErrLost):
		return cli.ExitWith(cli.ExitLost, fmt.Errorf("%s %s %w", c.what, c.name, c.held.Err()))
	case outcome.Code != 0:
		return outcome
	case err != nil:
		return cli.ExitWith(cli.ExitNotAcquired,
			fmt.Errorf("%s %s: not all have left: %w", c.what, c.name, short(ctx, err)))
	}
	return nil
}

// end gives the hold up and tells how it ended: lost if the release found so, otherwise outcome.
func (c *contention) end(outcome *cli.ExitError) error {
	released := c.release()
	c.closeSession()
	switch {
	case released != nil:
		return cli.ExitWith(cli.ExitLost, fmt.Errorf("%s %s %w", c.what, c.name, released))
	case outcome == nil || outcome.Code == 0:
		return nil
	}
	return outcome
}

// release gives the hold up. A cluster that cannot be told is no failure of the command: the entry expires with its
// TTL.
func (c *contention) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	err := c.held.Release(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrLost):
		return c.held.Err()
	case errors.Is(err, client.ErrSessionExpired), errors.Is(err, client.ErrTokenMismatch):
		return fmt.Errorf("%w: %w", client.ErrLost, err)
	}
	fmt.Fprintf(os.Stderr, "Warning: %s %s is released only when its TTL of %v is over: %v\n", c.what, c.name,
		time.Duration(c.ttl), err)
	return nil
}

// closeSession revokes the lease, and with it whatever might be left in the queue.
func (c *contention) closeSession() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	_ = c.session.Close(ctx) // it expires by itself, and whoever cares was told by release
}

// releaseTimeout bounds how long coordctl outlives its command.
const releaseTimeout = 5 * time.Second
