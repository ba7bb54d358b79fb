package completion

import (
	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

// New makes "coordctl completion".
func New() *cobra.Command {
	return &cobra.Command{
		Use:   "completion [bash|zsh|fish|powershell]",
		Short: "Generates the completion script of a shell",
		Long: `Writes the completion script of a shell to standard output.

Bash (needs the bash-completion package):
  source <(coordctl completion bash)
  coordctl completion bash > /etc/bash_completion.d/coordctl

Zsh:
  coordctl completion zsh > "${fpath[1]}/_coordctl"

Fish:
  coordctl completion fish > ~/.config/fish/completions/coordctl.fish

PowerShell:
  coordctl completion powershell | Out-String | Invoke-Expression`,
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeCompletion(cmd, args[0])
		},
	}
}

func writeCompletion(cmd *cobra.Command, shell string) error {
	root, out := cmd.Root(), cmd.OutOrStdout()
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(out, true)
	case "zsh":
		return root.GenZshCompletion(out)
	case "fish":
		return root.GenFishCompletion(out, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(out)
	}
	return cli.BadArgs("unknown shell %q", shell)
}
