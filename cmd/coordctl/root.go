package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	etcdctl "go.etcd.io/etcd/etcdctl/v3/ctlv3/command"
	"go.etcd.io/etcd/pkg/v3/flags"
)

const progName = "coordctl"

// Group ids of etcdctl's help, which etcd's package does not export.
const (
	groupConcurrency = "concurrency"
	groupUtility     = "utility"
)

// newRoot composes the whole command line.
func newRoot() *cobra.Command {
	cobra.EnablePrefixMatching = true // as etcdctl: "coordctl mem list"
	root := &cobra.Command{
		Use:           progName,
		Short:         "The command line of coord: locks, elections, sessions, and etcdctl's verbs.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	addGlobalFlags(root.PersistentFlags())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Name() == cobra.ShellCompRequestCmd { // which does so for the command that is completed
			return nil
		}
		return fillGlobalFlags(cmd)
	}
	root.AddGroup(etcdctl.NewKVGroup(), etcdctl.NewClusterMaintenanceGroup(), etcdctl.NewConcurrencyGroup(),
		etcdctl.NewAuthenticationGroup(), etcdctl.NewUtilityGroup())
	root.AddCommand(etcdVerbs(root)...)
	root.AddCommand(ours(newLockCommand(), newElectCommand(), newVersionCommand(), newCompletionCommand(),
		newSessionsCommand(), newLocksCommand(), newElectionsCommand(), newWhyCommand(), newDeadlocksCommand(),
		newCfgCommand(), newServiceCommand(), newContextCommand(), newTopCommand(),
		newRWLockCommand(), newSemaphoreCommand(), newCounterCommand(), newSequenceCommand(), newLatchCommand(), newBarrierCommand(), newGroupCommand())...)
	addCompletions(root)
	etcdctl.SetHelpCmdGroup(root)
	pointToOptions(root)
	return root
}

// oursAnnotation marks a command that is not etcd's.
const oursAnnotation = "coordctl"

func ours(cmds ...*cobra.Command) []*cobra.Command {
	for _, cmd := range cmds {
		cmd.Annotations = map[string]string{oursAnnotation: "true"}
	}
	return cmds
}

func isOurs(cmd *cobra.Command) bool { return cmd.Annotations[oursAnnotation] != "" }

// addGlobalFlags defines etcdctl's global flags. etcd's commands look them up by name and type, so names, types and
// defaults are fixed. They are hidden from each command's help, as etcdctl does; "coordctl options" lists them.
func addGlobalFlags(fs *pflag.FlagSet) {
	fs.StringSlice("endpoints", []string{"127.0.0.1:2379"}, "gRPC endpoints")
	fs.Bool("debug", false, "enable client-side debug logging")
	fs.StringP("write-out", "w", "simple", "set the output format (etcdctl's commands: fields, json, protobuf, simple, table; the others: simple, table, json, yaml)")
	fs.Bool("hex", false, "print byte strings as hex encoded strings")
	fs.Duration("dial-timeout", 2*time.Second, "dial timeout for client connections")
	fs.Duration("command-timeout", 5*time.Second, "timeout for short running command (excluding dial timeout)")
	fs.Duration("keepalive-time", 2*time.Second, "keepalive time for client connections")
	fs.Duration("keepalive-timeout", 6*time.Second, "keepalive timeout for client connections")
	fs.Int("max-request-bytes", 0, "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)")
	fs.Int("max-recv-bytes", 0, `client-side response receive limit in bytes (if 0, it defaults to "math.MaxInt32")`)
	fs.Bool("insecure-transport", true, "disable transport security for client connections")
	fs.Bool("insecure-discovery", true, "accept insecure SRV records describing cluster endpoints")
	fs.Bool("insecure-skip-tls-verify", false, "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)")
	fs.String("cert", "", "identify secure client using this TLS certificate file")
	fs.String("key", "", "identify secure client using this TLS key file")
	fs.String("cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle")
	fs.String("auth-jwt-token", "", "JWT token used for authentication (if this option is used, --user and --password should not be set)")
	fs.String("user", "", "username[:password] for authentication (prompt if password is not supplied)")
	fs.String("password", "", "password for authentication (if this option is used, --user option shouldn't include password)")
	fs.StringP("discovery-srv", "d", "", "domain name to query for SRV records describing cluster endpoints")
	fs.String("discovery-srv-name", "", "service name to query when using DNS discovery")
	fs.String("context", "", "the context to take global flags from, see \"coordctl context\"")
	fs.VisitAll(func(f *pflag.Flag) { f.Hidden = true })
}

// fillGlobalFlags fills the flags that are not given on the command line: from the context that --context names, from
// COORDCTL_ and then ETCDCTL_ variables, and from the current context.
//
// etcd's own commands read ETCDCTL_ again and die with a stack trace when such a variable stands beside a flag already
// set, so for them the variables that have been heard are removed. Our own commands leave the environment as it is: the
// command they run inherits it.
func fillGlobalFlags(cmd *cobra.Command) error {
	fs := cmd.Root().PersistentFlags()
	named := fs.Changed("context")
	if named {
		if err := applyContext(fs); err != nil {
			return err
		}
	}
	if err := fromEnv(fs); err != nil {
		return err
	}
	if !named && !needsNoCluster(cmd) {
		if err := applyContext(fs); err != nil {
			return err
		}
	}
	if !isOurs(cmd) {
		fs.VisitAll(func(f *pflag.Flag) {
			if f.Changed {
				os.Unsetenv(flags.FlagToEnv("ETCDCTL", f.Name))
			}
		})
	}
	return nil
}

func fromEnv(fs *pflag.FlagSet) error {
	for _, prefix := range []string{"COORDCTL", "ETCDCTL"} {
		if err := flags.SetPflagsFromEnv(nil, prefix, fs); err != nil {
			return badArgs("%w", err)
		}
	}
	return nil
}

// needsNoCluster tells of commands that a broken context does not keep from their work.
func needsNoCluster(cmd *cobra.Command) bool {
	return cmd.Parent() == cmd.Root() && slices.Contains([]string{"version", "completion", "options"}, cmd.Name())
}

// pointToOptions ends every help text with where the hidden global flags are listed.
func pointToOptions(root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		help(cmd, args)
		fmt.Fprintf(cmd.OutOrStdout(), "\nUse \"%s options\" for a list of global command-line options (applies to all commands).\n", progName)
	})
}
