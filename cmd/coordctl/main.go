// Command coordctl is the command line of coord: etcdctl's verbs; lock, elect, rwlock, semaphore and barrier enter,
// which run a command for as long as something is held; sessions, locks, elections, why, deadlocks and top, which show
// who holds and waits; counter, sequence, latch, barrier and group; service and cfg, the registry and the shared
// configuration; and context, which keeps clusters by name. docs/coordctl.md is its manual.
//
// The verbs are etcd's own cobra commands, composed, so their flags, output and exit codes are etcdctl's. Global flags
// can be given in the environment, and in a context, which is a cluster by name: a flag beats COORDCTL_<FLAG>, which
// beats ETCDCTL_<FLAG>, which beats the current context.
//
// Exit codes of verbs that run a command: its own code (128+n when signal n killed it), 75 when the lock or whatever it
// is was not acquired, 76 when it was lost while the command ran, 126 and 127 when the command cannot be started, 128
// for bad arguments.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	etcdctl "go.etcd.io/etcd/etcdctl/v3/ctlv3/command"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cfg"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
	"github.com/coord-dev/coord/cmd/coordctl/internal/completion"
	"github.com/coord-dev/coord/cmd/coordctl/internal/contexts"
	"github.com/coord-dev/coord/cmd/coordctl/internal/etcdverbs"
	"github.com/coord-dev/coord/cmd/coordctl/internal/hold"
	"github.com/coord-dev/coord/cmd/coordctl/internal/inspect"
	"github.com/coord-dev/coord/cmd/coordctl/internal/objects"
	"github.com/coord-dev/coord/cmd/coordctl/internal/service"
	"github.com/coord-dev/coord/cmd/coordctl/internal/top"
)

// Ids of groups in etcdctl's help, which etcd's package does not export.
const (
	concurrency = "concurrency"
	utility     = "utility"
)

// commands are ours, beside those of etcdctl. Package completion has what completes their arguments.
var commands = []struct {
	group string
	make  func() *cobra.Command
}{
	// They hold something while a command runs.
	{concurrency, hold.NewLock},
	{concurrency, hold.NewElect},
	{concurrency, hold.NewRWLock},
	{concurrency, hold.NewSemaphore},
	{concurrency, hold.NewBarrier},
	// They show who holds and waits, or change it from outside.
	{concurrency, inspect.NewSessions},
	{concurrency, inspect.NewLocks},
	{concurrency, inspect.NewElections},
	{concurrency, inspect.NewWhy},
	{concurrency, inspect.NewDeadlocks},
	// What nobody holds.
	{concurrency, objects.NewCounter},
	{concurrency, objects.NewSequence},
	{concurrency, objects.NewLatch},
	{concurrency, objects.NewGroup},
	{utility, cfg.New},
	{utility, service.New},
	{utility, top.New},
	// They need no cluster.
	{utility, contexts.New},
	{utility, completion.New},
	{utility, newVersionCommand},
}

func main() {
	os.Exit(cli.ExitCode(newRoot().Execute()))
}

// newRoot composes the whole command line.
func newRoot() *cobra.Command {
	cobra.EnablePrefixMatching = true // as etcdctl: "coordctl mem list"
	root := &cobra.Command{
		Use:           cli.Program,
		Short:         "The command line of coord: locks, elections, sessions, and etcdctl's verbs.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cli.AddGlobalFlags(root.PersistentFlags())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Name() == cobra.ShellCompRequestCmd { // which does so for the command that is completed
			return nil
		}
		return contexts.FillFlags(cmd)
	}
	root.AddGroup(etcdctl.NewKVGroup(), etcdctl.NewClusterMaintenanceGroup(), etcdctl.NewConcurrencyGroup(),
		etcdctl.NewAuthenticationGroup(), etcdctl.NewUtilityGroup())
	root.AddCommand(etcdverbs.Commands(root)...)
	for _, of := range commands {
		cmd := of.make()
		cmd.GroupID = of.group
		root.AddCommand(cli.Ours(cmd)...)
	}
	completion.Register(root)
	etcdctl.SetHelpCmdGroup(root)
	pointToOptions(root)
	return root
}

// pointToOptions ends every help text with where the hidden global flags are listed.
func pointToOptions(root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		help(cmd, args)
		fmt.Fprintf(cmd.OutOrStdout(),
			"\nUse \"%s options\" for a list of global command-line options (applies to all commands).\n", cli.Program)
	})
}
