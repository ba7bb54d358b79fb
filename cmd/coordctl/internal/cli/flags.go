package cli

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/pkg/v3/flags"
)

// Program is what the program calls itself.
const Program = "coordctl"

// oursAnnotation marks a command that is not etcd's.
const oursAnnotation = "coordctl"

// Ours marks commands that are not etcd's.
func Ours(cmds ...*cobra.Command) []*cobra.Command {
	for _, cmd := range cmds {
		cmd.Annotations = map[string]string{oursAnnotation: "true"}
	}
	return cmds
}

// IsOurs says whether Ours has marked the command.
func IsOurs(cmd *cobra.Command) bool { return cmd.Annotations[oursAnnotation] != "" }

// AddGlobalFlags defines etcdctl's global flags. etcd's commands look them up by name and type, so names, types and
// defaults are fixed. They are hidden from each command's help, as etcdctl does; "coordctl options" lists them.
func AddGlobalFlags(fs *pflag.FlagSet) {
	fs.StringSlice("endpoints", []string{"127.0.0.1:2379"}, "gRPC endpoints")
	fs.Bool("debug", false, "enable client-side debug logging")
	fs.StringP("write-out", "w", "simple",
		"set the output format (etcdctl's commands: fields, json, protobuf, simple, table; the others: simple, "+
			"table, json, yaml)")
	fs.Bool("hex", false, "print byte strings as hex encoded strings")
	fs.Duration("dial-timeout", 2*time.Second, "dial timeout for client connections")
	fs.Duration("command-timeout", 5*time.Second, "timeout for short running command (excluding dial timeout)")
	fs.Duration("keepalive-time", 2*time.Second, "keepalive time for client connections")
	fs.Duration("keepalive-timeout", 6*time.Second, "keepalive timeout for client connections")
	fs.Int("max-request-bytes", 0,
		"client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)")
	fs.Int("max-recv-bytes", 0, `client-side response receive limit in bytes (if 0, it defaults to "math.MaxInt32")`)
	fs.Bool("insecure-transport", true, "disable transport security for client connections")
	fs.Bool("insecure-discovery", true, "accept insecure SRV records describing cluster endpoints")
	fs.Bool("insecure-skip-tls-verify", false,
		"skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)")
	fs.String("cert", "", "identify secure client using this TLS certificate file")
	fs.String("key", "", "identify secure client using this TLS key file")
	fs.String("cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle")
	fs.String("auth-jwt-token", "",
		"JWT token used for authentication (if this option is used, --user and --password should not be set)")
	fs.String("user", "", "username[:password] for authentication (prompt if password is not supplied)")
	fs.String("password", "",
		"password for authentication (if this option is used, --user option shouldn't include password)")
	fs.StringP("discovery-srv", "d", "", "domain name to query for SRV records describing cluster endpoints")
	fs.String("discovery-srv-name", "", "service name to query when using DNS discovery")
	fs.String("context", "", "the context to take global flags from, see \"coordctl context\"")
	fs.VisitAll(func(f *pflag.Flag) { f.Hidden = true })
}

// FromEnv fills the flags that are not given from COORDCTL_ and then ETCDCTL_ variables.
func FromEnv(fs *pflag.FlagSet) error {
	for _, prefix := range []string{"COORDCTL", "ETCDCTL"} {
		if err := flags.SetPflagsFromEnv(nil, prefix, fs); err != nil {
			return BadArgs("%w", err)
		}
	}
	return nil
}
