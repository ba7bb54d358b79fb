package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/proto/layout"
)

// What the verbs of counters, sequences, latches, barriers and groups share.

// parseNumber is an argument that is a number.
func parseNumber(what, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, badArgs("%s %s does not fit into 64 bits", what, text)
	case err != nil:
		return 0, badArgs("%s %q is not a number", what, text)
	}
	return n, nil
}

// objectError is the error of a request, with the exit code that says who was first.
func objectError(ctx context.Context, err error) error {
	if err = told(ctx, err); err == nil {
		return nil
	}
	for _, first := range []error{client.ErrValueMismatch, client.ErrLatchState, client.ErrMemberExists} {
		if errors.Is(err, first) {
			return &exitError{exitNotAcquired, err}
		}
	}
	return err
}

// objects are the keys of a kind whose names begin with args[0], if there is one.
func (r *verbRun) objects(ctx context.Context, kind layout.Kind, args []string) ([]*mvccpb.KeyValue, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	resp, err := r.c.Get(ctx, kind.Begin(strings.Join(args, "")), clientv3.WithPrefix())
	if err != nil {
		return nil, told(ctx, err)
	}
	return resp.Kvs, nil
}

// newObjectList makes a verb that lists the objects of a kind. row makes a form with json tags of a key, and the cells for
// people; a key that is no object is left out.
func newObjectList[Form any](what string, kind layout.Kind, head []any,
	row func(name string, kv *mvccpb.KeyValue) (Form, []any, error)) *cobra.Command {
	return &cobra.Command{
		Use: "ls [PREFIX]", Short: "Lists " + what + ", or those whose name begins with PREFIX",
		RunE: sdkVerb(0, 1, "ls takes the beginning of names, or nothing", func(ctx context.Context, r *verbRun, args []string) error {
			kvs, err := r.objects(ctx, kind, args)
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
			return r.printTable(forms, rows...)
		}),
	}
}

// waitFlag is how long a verb waits.
type waitFlag struct{ wait seconds }

func (w *waitFlag) addFlag(cmd *cobra.Command) {
	cmd.Flags().Var(&w.wait, "wait", "how long to wait at most (default: until it comes or a signal does)")
}

// until awaits for as long as the flag says. The cluster has answered once before, so that one that cannot be reached is not
// waited for.
func (w *waitFlag) until(ctx context.Context, r *verbRun, what string, await func(context.Context) error) error {
	over := &exitError{exitNotAcquired, fmt.Errorf("%s: the wait elapsed", what)}
	if r.cmd.Flags().Changed("wait") {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, time.Duration(w.wait), over)
		defer stop()
	}
	return objectError(ctx, await(ctx))
}

// number is what a verb prints that has one number to say.
func (r *verbRun) number(form any, n int64) error {
	return r.print(form, func(w io.Writer) { fmt.Fprintln(w, n) })
}

// removed is what a verb that deletes an object has as -w json.
type removed struct {
	Name    string `json:"name"`
	Deleted bool   `json:"deleted"` // there was one
}

// deletable is an object of the SDK that can be deleted.
type deletable interface {
	Delete(context.Context) (bool, error)
}

// newObjectRemoval makes a verb that deletes an object of a kind; effect says what that means.
func newObjectRemoval(what, effect string, of func(c *client.Client, name string) deletable) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "Deletes a " + what + ": " + effect,
		RunE: sdkVerb(1, 1, what+" rm takes the name of a "+what, func(ctx context.Context, r *verbRun, args []string) error {
			if err := confirm(r.cmd, fmt.Sprintf("this deletes %s %s: %s", what, plain(args[0]), effect)); err != nil {
				return err
			}
			ctx, cancel := r.bounded(ctx)
			defer cancel()
			deleted, err := of(r.c, args[0]).Delete(ctx)
			if err != nil {
				return objectError(ctx, err)
			}
			text := "%s %s is deleted\n"
			if !deleted {
				text = "there was no %s %s\n"
			}
			return r.print(removed{args[0], deleted}, func(w io.Writer) { fmt.Fprintf(w, text, what, plain(args[0])) })
		}),
	}
	addYesFlag(cmd)
	return cmd
}
