package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/proto/layout"
)

// What the verbs of counters, sequences, latches, barriers and groups share.

// objectError is the error of a request, with the exit code that says who was first.
func objectError(ctx context.Context, err error) error {
	if err = cli.Told(ctx, err); err == nil {
		return nil
	}
	for _, first := range []error{client.ErrValueMismatch, client.ErrLatchState, client.ErrMemberExists} {
		if errors.Is(err, first) {
			return cli.ExitWith(cli.ExitNotAcquired, err)
		}
	}
	return err
}

// verb makes a verb of fn as cli.SDKVerb does; ctx ends when the cluster has been tried for long enough.
func verb(low, high int, usage string, fn func(ctx context.Context, r *cli.Run, args []string) error) cli.RunE {
	return cli.SDKVerb(low, high, usage, func(ctx context.Context, r *cli.Run, args []string) error {
		ctx, cancel := r.Bounded(ctx)
		defer cancel()
		return objectError(ctx, fn(ctx, r, args))
	})
}

// objectsOf are the keys of a kind whose names begin with args[0], if there is one.
func objectsOf(ctx context.Context, r *cli.Run, kind layout.Kind, args []string) ([]*mvccpb.KeyValue, error) {
	ctx, cancel := r.Bounded(ctx)
	defer cancel()
	resp, err := r.Client.Get(ctx, kind.Begin(strings.Join(args, "")), clientv3.WithPrefix())
	if err != nil {
		return nil, cli.Told(ctx, err)
	}
	return resp.Kvs, nil
}

// newObjectList makes a verb that lists the objects of a kind. row makes a form with json tags of a key, and the cells
// for people; a key that is no object is left out.
func newObjectList[Form any](what string, kind layout.Kind, head []any,
	row func(name string, kv *mvccpb.KeyValue) (Form, []any, error)) *cobra.Command {
	return &cobra.Command{
		Use: "ls [PREFIX]", Short: "Lists " + what + ", or those whose name begins with PREFIX",
		RunE: cli.SDKVerb(0, 1, "ls takes the beginning of names, or nothing",
			func(ctx context.Context, r *cli.Run, args []string) error {
				kvs, err := objectsOf(ctx, r, kind, args)
				if err != nil {
					return err
				}
				forms, rows := []Form{}, [][]any{head}
				for _, kv := range kvs {
					p, ok := layout.Parse(string(kv.Key))
					if !ok {
						continue
					}
					if form, cells, err := row(p.Name, kv); err == nil {
						forms, rows = append(forms, form), append(rows, cells)
					}
				}
				return r.PrintTable(forms, rows...)
			}),
	}
}

// waitFlag is how long a verb waits.
type waitFlag struct{ wait cli.Seconds }

func (w *waitFlag) addFlag(cmd *cobra.Command) {
	cmd.Flags().Var(&w.wait, "wait", "how long to wait at most (default: until it comes or a signal does)")
}

// until awaits for as long as the flag says. The cluster has answered once before, so that one that cannot be reached
// is not waited for.
func (w *waitFlag) until(ctx context.Context, r *cli.Run, what string, await func(context.Context) error) error {
	over := cli.ExitWith(cli.ExitNotAcquired, fmt.Errorf("%s: the wait elapsed", what))
	if r.Cmd.Flags().Changed("wait") {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, time.Duration(w.wait), over)
		defer stop()
	}
	return objectError(ctx, await(ctx))
}

// printNumber is what a verb prints that has one number to say.
func printNumber(r *cli.Run, form any, n int64) error {
	return r.Print(form, func(w io.Writer) { fmt.Fprintln(w, n) })
}

// removed is what a verb that deletes an object has as -w json.
type removed struct {
	Name    string `json:"name"`
	Deleted bool   `json:"deleted"` // there was one
}

// Deletable is an object of the SDK that can be deleted.
type Deletable interface {
	Delete(context.Context) (bool, error)
}

// NewRemoval makes a verb that deletes an object of a kind; effect says what that means.
func NewRemoval(what, effect string, of func(c *client.Client, name string) Deletable) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "Deletes a " + what + ": " + effect,
		RunE: cli.SDKVerb(1, 1, what+" rm takes the name of a "+what,
			func(ctx context.Context, r *cli.Run, args []string) error {
				if err := cli.Confirm(r.Cmd,
					fmt.Sprintf("this deletes %s %s: %s", what, cli.Plain(args[0]), effect)); err != nil {
					return err
				}
				ctx, cancel := r.Bounded(ctx)
				defer cancel()
				deleted, err := of(r.Client, args[0]).Delete(ctx)
				if err != nil {
					return objectError(ctx, err)
				}
				text := "%s %s is deleted\n"
				if !deleted {
					text = "there was no %s %s\n"
				}
				return r.Print(removed{args[0], deleted},
					func(w io.Writer) { fmt.Fprintf(w, text, what, cli.Plain(args[0])) })
			}),
	}
	cli.AddYesFlag(cmd)
	return cmd
}
