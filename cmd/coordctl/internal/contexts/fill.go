package contexts

import (
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/pkg/v3/flags"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

// FillFlags fills the flags that are not given on the command line: from the context that --context names, from
// COORDCTL_ and then ETCDCTL_ variables, and from the current context.
//
// etcd's own commands read ETCDCTL_ again and die with a stack trace when such a variable stands beside a flag already
// set, so for them the variables that have been heard are removed. Our own commands leave the environment as it is: the
// command they run inherits it.
func FillFlags(cmd *cobra.Command) error {
	fs := cmd.Root().PersistentFlags()
	named := fs.Changed("context")
	if named {
		if err := applyContext(fs); err != nil {
			return err
		}
	}
	if err := cli.FromEnv(fs); err != nil {
		return err
	}
	if !named && !needsNoCluster(cmd) {
		if err := applyContext(fs); err != nil {
			return err
		}
	}
	if !cli.IsOurs(cmd) {
		fs.VisitAll(func(f *pflag.Flag) {
			if f.Changed {
				os.Unsetenv(flags.FlagToEnv("ETCDCTL", f.Name))
			}
		})
	}
	return nil
}

// needsNoCluster tells of commands that a broken context does not keep from their work.
func needsNoCluster(cmd *cobra.Command) bool {
	return cmd.Parent() == cmd.Root() && slices.Contains([]string{"version", "completion", "options"}, cmd.Name())
}
