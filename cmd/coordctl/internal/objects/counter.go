package objects

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/proto/objects"
)

// counted is a counter as -w json has it.
type counted struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
}

// NewCounter makes "coordctl counter".
func NewCounter() *cobra.Command {
	cmd := &cobra.Command{
		Use: "counter <subcommand>", Short: "Counters that many add to",
		Long: `A counter is a number between -2^63 and 2^63-1, 0 until it is written. Each change is one commit, executed once.

Output formats (-w): simple, table, json and yaml.

Exit code: 75 when the counter has another value than --expect says.`,
	}
	list := newObjectList("counters", layout.Counter, []any{"NAME", "VALUE"},
		func(name string, kv *mvccpb.KeyValue) (counted, []any, error) {
			value, err := objects.Counter(kv)
			return counted{name, value}, []any{cli.Plain(name), value}, err
		})
	cmd.AddCommand(cli.Ours(newCounterAddCommand(), newCounterGetCommand(), newCounterSetCommand(), list,
		NewRemoval("counter", "it is 0 then",
			func(c *client.Client, name string) Deletable { return c.Counter(name) }))...)
	return cmd
}

func newCounterAddCommand() *cobra.Command {
	return &cobra.Command{
		Use: "add NAME N", Short: "Adds N to a counter and prints the sum",
		Long:    "Adds N to a counter and prints the sum. Put -- before a number below zero.",
		Example: "  coordctl counter add hits 5\n  coordctl counter add hits -- -5",
		RunE: verb(2, 2, "counter add takes the name of a counter and a number",
			func(ctx context.Context, r *cli.Run, args []string) error {
				delta, err := cli.ParseNumber("the number", args[1])
				if err != nil {
					return err
				}
				sum, err := r.Client.Counter(args[0]).Add(ctx, delta)
				if err != nil {
					return err
				}
				return printNumber(r, counted{args[0], sum}, sum)
			}),
	}
}

func newCounterGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Prints a counter",
		RunE: verb(1, 1, "counter get takes the name of a counter",
			func(ctx context.Context, r *cli.Run, args []string) error {
				value, err := r.Client.Counter(args[0]).Get(ctx)
				if err != nil {
					return err
				}
				return printNumber(r, counted{args[0], value}, value)
			}),
	}
}

func newCounterSetCommand() *cobra.Command {
	var expect int64
	cmd := &cobra.Command{
		Use: "set NAME N [--expect N]", Short: "Gives a counter a value and prints it",
		RunE: verb(2, 2, "counter set takes the name of a counter and a number",
			func(ctx context.Context, r *cli.Run, args []string) error {
				value, err := cli.ParseNumber("the number", args[1])
				if err != nil {
					return err
				}
				if r.Cmd.Flags().Changed("expect") {
					err = r.Client.Counter(args[0]).CompareAndSet(ctx, expect, value)
				} else {
					err = r.Client.Counter(args[0]).Set(ctx, value)
				}
				if err != nil {
					return err
				}
				return printNumber(r, counted{args[0], value}, value)
			}),
	}
	cmd.Flags().Int64Var(&expect, "expect", 0, "only if the counter has this value")
	return cmd
}

// taken is a range of a sequence as -w json has it.
type taken struct {
	Name  string `json:"name"`
	First int64  `json:"first"`
	Last  int64  `json:"last"`
}

// issued is a sequence as -w json has it.
type issued struct {
	Name string `json:"name"`
	Last int64  `json:"last"`
}

// NewSequence makes "coordctl sequence".
func NewSequence() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sequence <subcommand>", Short: "Sequences of numbers, each given out once",
		Long: `A sequence gives out 1, 2, 3 and so on, each once. It need not be made. Numbers that were given out and not used are lost.

Output formats (-w): simple, table, json and yaml.`,
	}
	list := newObjectList("sequences", layout.Sequence, []any{"NAME", "LAST"},
		func(name string, kv *mvccpb.KeyValue) (issued, []any, error) {
			last, err := objects.Sequence(kv)
			return issued{name, last}, []any{cli.Plain(name), last}, err
		})
	cmd.AddCommand(cli.Ours(newSequenceNextCommand(), list,
		NewRemoval("sequence", "its numbers are given out again",
			func(c *client.Client, name string) Deletable { return c.Sequence(name) }))...)
	return cmd
}

func newSequenceNextCommand() *cobra.Command {
	return &cobra.Command{
		Use: "next NAME [N]", Short: "Takes the next number, or the next N, of which it prints the first and the last",
		RunE: verb(1, 2, "sequence next takes the name of a sequence, and perhaps how many numbers",
			func(ctx context.Context, r *cli.Run, args []string) error {
				n, err := cli.OptionalNumber(args)
				if err != nil {
					return err
				}
				got, err := r.Client.Sequence(args[0]).Reserve(ctx, n)
				if err != nil {
					return err
				}
				last := got.First + got.Count - 1
				return r.Print(taken{args[0], got.First, last}, func(w io.Writer) {
					if len(args) == 1 {
						fmt.Fprintln(w, got.First)
					} else {
						fmt.Fprintln(w, got.First, last)
					}
				})
			}),
	}
}
