package hold

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

// What rwlock, semaphore and barrier share as verbs that run a command and have subcommands, too.

// grantForm is what is held, as it is printed where there is no command.
type grantForm struct {
	Name    string `json:"name"`
	Key     string `json:"key"`
	Token   int64  `json:"token"`
	Mode    string `json:"mode,omitempty"`    // of a read-write lock: "read" or "write"
	Permits int64  `json:"permits,omitempty"` // of a semaphore
}

// print prints the key alone as the simple format: that is what scripts want of it.
func (f grantForm) print(cmd *cobra.Command) error {
	p, err := cli.NewPrinter(cmd)
	if err != nil {
		return err
	}
	if p.Format == "simple" {
		return p.Print(f, func(w io.Writer) { fmt.Fprintln(w, f.Key) })
	}
	how := f.Mode
	if f.Permits > 0 {
		how = fmt.Sprint(f.Permits)
	}
	return p.PrintTable(f, []any{"NAME", "HOLDS", "TOKEN", "KEY"},
		[]any{cli.Plain(f.Name), how, f.Token, cli.Plain(f.Key)})
}

// addNameFlag defines --name, for names that a subcommand has.
func (c *contention) addNameFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.name, "name", "", "the name, where the first argument would be taken for a subcommand")
}

// takeArgs takes the name and the command from the arguments.
func (c *contention) takeArgs(cmd *cobra.Command, args []string, usage string) (err error) {
	n := 1
	if cmd.Flags().Changed("name") {
		n = 0
	}
	own, argv, err := split(cmd, args, n, usage)
	switch {
	case err != nil:
		return err
	case n == 1:
		c.name = own[0]
	case c.name == "":
		return cli.BadArgs("the name is empty")
	}
	c.argv = argv
	return nil
}

// besideRun are the subcommands of a verb that runs commands: with a command, which they would not run, they fail.
func besideRun(subcommands ...*cobra.Command) []*cobra.Command {
	for _, sub := range subcommands {
		run := sub.RunE
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() >= 0 {
				return cli.BadArgs("%s is a subcommand and runs nothing: say --name to run a command under that name",
					cmd.Name())
			}
			return run(cmd, args)
		}
		sub.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
			return cli.BadArgs("%w of subcommand %s: say --name to run a command under that name", err, cmd.Name())
		})
	}
	return cli.Ours(subcommands...)
}
