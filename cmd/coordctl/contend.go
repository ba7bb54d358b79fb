package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	etcdctl "go.etcd.io/etcd/etcdctl/v3/ctlv3/command"
	"go.etcd.io/etcd/pkg/v3/cobrautl"

	"github.com/coord-dev/coord/cmd/coordctl/internal/child"
	"github.com/coord-dev/coord/cmd/coordctl/internal/queue"
)

// Exit codes of lock and elect that are not the command's own.
const (
	exitNotAcquired = 75 // EX_TEMPFAIL of sysexits.h: try again later
	exitLost        = 76
)

var errWaitElapsed = errors.New("the wait elapsed")

// contention is one run of lock or elect: get to the head of the queue of a name, and stay there for as long as a command
// runs or until a signal.
type contention struct {
	what  string // "lock" or "election", for messages
	name  string
	value string
	argv  []string // empty: print the key and hold until a signal
	// env is what the command gets to know about the hold.
	env func(*queue.Held) []string

	ttl   seconds
	wait  seconds
	grace seconds
	try   bool

	waitSet bool
}

// addFlags defines the flags that lock and elect share.
func (c *contention) addFlags(cmd *cobra.Command) {
	c.ttl, c.grace = seconds(10*time.Second), seconds(5*time.Second)
	fs := cmd.Flags()
	fs.Var(&c.ttl, "ttl", "time after which a silent holder is taken for dead")
	fs.Var(&c.wait, "wait", "give up with exit code 75 after waiting this long (default: wait for ever)")
	fs.BoolVar(&c.try, "try", false, "give up with exit code 75 instead of waiting")
	fs.Var(&c.grace, "grace", "time between TERM and KILL for a command that must stop because the hold was lost")
	cmd.MarkFlagsMutuallyExclusive("wait", "try")
}

// split takes the arguments apart: the first n are ours, what follows is the command. With "--" it must stand right
// behind the first n.
func split(cmd *cobra.Command, args []string, n int, usage string) (own, argv []string, err error) {
	dash := cmd.ArgsLenAtDash()
	switch {
	case len(args) < n || dash >= 0 && dash != n:
		return nil, nil, badArgs("%s", usage)
	case dash >= 0 && len(args) == n:
		return nil, nil, badArgs("no command after --")
	case args[0] == "":
		return nil, nil, badArgs("the name is empty")
	}
	return args[:n], args[n:], nil
}

// check finds mistakes before anything is enqueued.
func (c *contention) check(cmd *cobra.Command, g *globals) error {
	c.waitSet = cmd.Flags().Changed("wait")
	if c.ttl == 0 {
		return badArgs("--ttl must be greater than zero")
	}
	if err := checkOutput(g); err != nil {
		return err
	}
	if len(c.argv) == 0 {
		return nil
	}
	if code, err := child.Check(c.argv[0]); err != nil {
		return &exitError{code, err}
	}
	return nil
}

// checkOutput refuses what etcd's printer would only refuse with the lock in hand.
func checkOutput(g *globals) error {
	switch g.output {
	case "simple", "fields", "json", "protobuf":
		return nil
	case "table":
		return &exitError{cobrautl.ExitBadFeature, errors.New("table is not supported as output format")}
	}
	return &exitError{cobrautl.ExitBadFeature, errors.New("unsupported output format")}
}

// run is the life of a contention.
func (c *contention) run(cmd *cobra.Command) error {
	g, err := readGlobals(cmd)
	if err != nil {
		return err
	}
	if err := c.check(cmd, g); err != nil {
		return err
	}
	client, err := g.connect()
	if err != nil {
		return err
	}
	defer client.Close()

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, child.Signals()...)
	held, err := c.acquire(client, g, signals)
	if err != nil {
		return &exitError{exitNotAcquired, fmt.Errorf("%s %s not acquired: %w", c.what, c.name, err)}
	}
	if len(c.argv) == 0 {
		return c.hold(client, g, held, signals)
	}
	return c.runCommand(held, signals)
}

// acquire waits for the hold until a signal asks to end, or the wait elapsed.
func (c *contention) acquire(client *clientv3.Client, g *globals, signals <-chan os.Signal) (*queue.Held, error) {
	ctx, stop := untilSignal(context.Background(), signals)
	defer stop()
	reach := g.reach
	if c.waitSet && c.wait > 0 {
		reach = max(reach, time.Duration(c.wait))
		bounded, cancel := context.WithTimeoutCause(ctx, time.Duration(c.wait), errWaitElapsed)
		defer cancel()
		ctx = bounded
	}
	held, err := queue.Acquire(ctx, client, queue.Request{
		Name:  c.name,
		Value: c.value,
		TTL:   time.Duration(c.ttl),
		Try:   c.try || c.waitSet && c.wait == 0,
		Reach: reach,
	})
	switch {
	case errors.Is(err, queue.ErrUnreachable):
		return nil, fmt.Errorf("%w (endpoints %s)", err, g.endpoints())
	case err != nil:
		return nil, err
	}
	stop()
	var interrupted *interruptedError
	if cause := context.Cause(ctx); errors.As(cause, &interrupted) { // it came in the same moment
		_ = c.release(held)
		return nil, cause
	}
	return held, nil
}

// interruptedError is the cause of a context that a signal ended.
type interruptedError struct{ sig os.Signal }

func (e *interruptedError) Error() string { return fmt.Sprintf("stopped by signal: %v", e.sig) }

// untilSignal returns a context that ends when a signal asks the process to end. The returned function stops listening and
// returns when no signal is consumed any more; it may be called again.
func untilSignal(parent context.Context, signals <-chan os.Signal) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case sig := <-signals:
				if child.Ends(sig) {
					cancel(&interruptedError{sig})
					return
				}
			case <-quit:
				return
			}
		}
	}()
	var once bool
	return ctx, func() {
		if !once {
			once = true
			close(quit)
		}
		<-done
	}
}

// hold prints the entry, as etcdctl does, and holds until a signal.
func (c *contention) hold(client *clientv3.Client, g *globals, held *queue.Held, signals <-chan os.Signal) error {
	ctx, stop := untilSignal(context.Background(), signals)
	defer stop()
	bounded, cancel := context.WithTimeout(ctx, g.reach)
	resp, err := client.Get(bounded, held.Key())
	cancel()
	if err == nil {
		etcdctl.NewPrinter(g.output, g.hex).Get(resp)
	} else if ctx.Err() == nil {
		_ = c.release(held)
		return fmt.Errorf("read %s: %w", held.Key(), err)
	}
	select {
	case <-ctx.Done():
	case <-held.Lost():
	}
	return c.lostOr(c.release(held), nil)
}

// runCommand runs the command for as long as the hold lasts, and gives the hold up when it has ended.
func (c *contention) runCommand(held *queue.Held, signals <-chan os.Signal) error {
	proc, err := child.Start(c.argv, append(os.Environ(), c.env(held)...))
	if err != nil {
		_ = c.release(held)
		return &exitError{child.CodeNotExecutable, err}
	}
	for {
		select {
		case sig := <-signals:
			proc.Signal(sig)
		case <-held.Lost():
			proc.Stop(time.Duration(c.grace))
			return c.lostOr(c.release(held), nil)
		case <-proc.Done():
			return c.lostOr(c.release(held), &exitError{code: proc.ExitCode()})
		}
	}
}

// release gives the hold up. A cluster that cannot be told is no failure of the command: the entry expires with its TTL.
func (c *contention) release(held *queue.Held) error {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	err := held.Release(ctx)
	if err != nil && !errors.Is(err, queue.ErrLost) {
		fmt.Fprintf(os.Stderr, "Warning: %s %s is released only when its TTL of %v is over: %v\n", c.what, c.name, time.Duration(c.ttl), err)
		return nil
	}
	return err
}

// releaseTimeout bounds how long coordctl outlives its command.
const releaseTimeout = 5 * time.Second

// lostOr is the end of a hold: lost if the release found so, otherwise outcome.
func (c *contention) lostOr(released error, outcome *exitError) error {
	switch {
	case released != nil:
		return &exitError{exitLost, fmt.Errorf("%s %s %w", c.what, c.name, released)}
	case outcome == nil || outcome.code == 0:
		return nil
	}
	return outcome
}
