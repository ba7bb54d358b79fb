package etcdverbs

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"

	etcdctl "go.etcd.io/etcd/etcdctl/v3/ctlv3/command"
)

// Commands are etcdctl's commands without the ones coordctl has its own of.
func Commands(root *cobra.Command) []*cobra.Command {
	verbs := []*cobra.Command{
		etcdctl.NewGetCommand(), etcdctl.NewPutCommand(), etcdctl.NewDelCommand(), etcdctl.NewTxnCommand(),
		etcdctl.NewCompactionCommand(), etcdctl.NewWatchCommand(), etcdctl.NewLeaseCommand(),
		etcdctl.NewEndpointCommand(), etcdctl.NewMemberCommand(), etcdctl.NewMoveLeaderCommand(),
		etcdctl.NewAlarmCommand(), etcdctl.NewDefragCommand(), etcdctl.NewSnapshotCommand(),
		etcdctl.NewMakeMirrorCommand(), etcdctl.NewCheckCommand(), etcdctl.NewDowngradeCommand(),
		etcdctl.NewAuthCommand(), etcdctl.NewUserCommand(), etcdctl.NewRoleCommand(),
		etcdctl.NewOptionsCommand(root),
	}
	for _, verb := range verbs {
		adopt(verb)
	}
	return verbs
}

// adopt makes a command of etcdctl one of coordctl: its help calls the program by our name, an unknown format is
// refused with those that there are, and what destroys asks first.
func adopt(cmd *cobra.Command) {
	for _, text := range []*string{&cmd.Short, &cmd.Long, &cmd.Example} {
		*text = strings.ReplaceAll(*text, "etcdctl ", cli.Program+" ") // paths and URLs stay
	}
	for _, sub := range cmd.Commands() {
		adopt(sub)
	}
	run := cmd.Run
	if run == nil {
		return
	}
	destroys := destroying[cmd.CommandPath()]
	if destroys != nil {
		cli.AddYesFlag(cmd)
	}
	cmd.Run, cmd.RunE = nil, func(cmd *cobra.Command, args []string) error {
		format, err := cmd.Flags().GetString("write-out")
		if err != nil {
			return err
		}
		if err := cli.CheckFormat(format, cli.EtcdFormats); err != nil {
			return err
		}
		if destroys != nil {
			if what := destroys(cmd, args); what != "" {
				if err := cli.Confirm(cmd, what); err != nil {
					return err
				}
			}
		}
		run(cmd, args)
		return nil
	}
}

// destroying are etcdctl's commands that take away what cannot be had again, with what is asked before; "" asks
// nothing. A deletion of [key, end) is not among them: etcdctl has a warning of its own there.
var destroying = map[string]func(cmd *cobra.Command, args []string) string{
	"del":           deletes,
	"lease revoke":  destroysOne("this revokes lease %s and deletes its keys"),
	"compaction":    destroysOne("this removes the history before revision %s"),
	"member remove": destroysOne("this removes member %s from the cluster"),
	"user delete":   destroysOne("this deletes user %s"),
	"role delete":   destroysOne("this deletes role %s"),
	"auth disable": func(*cobra.Command, []string) string {
		return "this switches authentication off: everybody may do everything"
	},
}

// destroysOne is the question before a command with one argument.
func destroysOne(format string) func(*cobra.Command, []string) string {
	return func(_ *cobra.Command, args []string) string {
		if len(args) != 1 { // which the command refuses
			return ""
		}
		return fmt.Sprintf(format, cli.Plain(args[0]))
	}
}

func deletes(cmd *cobra.Command, args []string) string {
	prefix, _ := cmd.Flags().GetBool("prefix")
	from, _ := cmd.Flags().GetBool("from-key")
	switch {
	case len(args) != 1 || prefix == from:
		return ""
	case args[0] == "":
		return "this deletes all keys"
	case prefix:
		return fmt.Sprintf("this deletes all keys that begin with %q", args[0])
	}
	return fmt.Sprintf("this deletes all keys from %q on", args[0])
}
