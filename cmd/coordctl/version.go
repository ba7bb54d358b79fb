package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/version"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Prints the version of coordctl and of the API it speaks",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := cli.NewPrinter(cmd)
			if err != nil {
				return err
			}
			v := versions{buildVersion(), version.APIVersion}
			return p.Print(v, func(w io.Writer) {
				fmt.Fprintf(w, "coordctl version: %s\nAPI version: %s\n", v.Coordctl, v.API)
			})
		},
	}
}

type versions struct {
	Coordctl string `json:"coordctl"`
	API      string `json:"api"`
}

// buildVersion is the module version that the go tool stamped into the binary.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
