package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/version"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Prints the version of coordctl and of the API it speaks",
		Args:    cobra.NoArgs,
		GroupID: groupUtility,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "coordctl version: %s\nAPI version: %s\n", buildVersion(), version.APIVersion)
			return err
		},
	}
}

// buildVersion is the module version that the go tool stamped into the binary.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
