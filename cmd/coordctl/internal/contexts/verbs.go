package contexts

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/pkg/v3/cobrautl"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

// New makes "coordctl context".
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "context <subcommand>",
		Short: "Clusters by name: endpoints, certificates and all else that a connection needs",
		Long: `A context is a set of global flags under a name. They stand in coord/contexts.yaml in the directory for configuration of the
user, or in the file that COORDCTL_CONFIG names.

A flag of the command line comes first, then the context that --context names, then COORDCTL_ variables, ETCDCTL_ variables,
the current context (or that in COORDCTL_CONTEXT), and the default.`,
		// No cluster is asked, so the current context may be as it likes: these verbs repair it.
		PersistentPreRunE: func(cmd *cobra.Command,
			_ []string) error {
			return cli.FromEnv(cmd.Root().PersistentFlags())
		},
	}
	ls := &cobra.Command{Use: "ls", Short: "Lists the contexts", Args: cobra.NoArgs, RunE: contextVerb(listContexts)}
	use := &cobra.Command{
		Use: "use NAME", Short: "Makes a context the current one",
		Args: contextArgs(1, 1, "context use takes the name of a context"),
		RunE: contextVerb(func(f *contextFile, _ *cli.Printer, _ *cobra.Command, args []string) error {
			if _, err := f.get(args[0]); err != nil {
				return err
			}
			f.current = args[0]
			return f.save()
		}),
	}
	show := &cobra.Command{
		Use: "show [NAME]", Short: "Shows a context, the current one if no name is given",
		Args: contextArgs(0, 1, "context show takes the name of a context at most"),
		RunE: contextVerb(showContext),
	}
	rm := &cobra.Command{
		Use: "rm NAME", Short: "Removes a context", Args: contextArgs(1, 1, "context rm takes the name of a context"),
		RunE: contextVerb(removeContext),
	}
	cli.AddYesFlag(rm)
	set := newContextSetCommand()
	for _, verb := range []*cobra.Command{use, show, set, rm} {
		verb.ValidArgsFunction = completeContexts
	}
	cmd.AddCommand(cli.Ours(ls, use, show, set, rm)...)
	return cmd
}

func newContextSetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "set NAME [global flags]",
		Short: "Makes a context of the global flags that are given, or changes these in one",
		Long: `Sets what global flags on the command line say, and leaves the other settings of the context as they are. An empty value
removes a setting. Files of certificates are kept with their whole path. Variables of the environment are not looked at.`,
		Example:           "  coordctl context set prod --endpoints 10.0.0.1:2379,10.0.0.2:2379 --cacert ca.pem",
		Args:              contextArgs(1, 1, "context set takes the name of a context"),
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE:              contextVerb(setContext),
	}
}

func contextArgs(low, high int, usage string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return cli.BadArgs("%s", usage)
		}
		return nil
	}
}

// contextVerb makes a verb of fn, which works on the file.
func contextVerb(fn func(f *contextFile, p *cli.Printer, cmd *cobra.Command, args []string) error) cli.RunE {
	return func(cmd *cobra.Command, args []string) error {
		p, err := cli.NewPrinter(cmd)
		if err != nil {
			return err
		}
		f, err := loadContexts()
		if err != nil {
			return cli.ExitWith(cobrautl.ExitBadArgs, err)
		}
		return fn(f, p, cmd, args)
	}
}

// contextForm is the form in which -w json and -w yaml print. Secrets are not printed.
type contextForm struct {
	Name     string   `json:"name"`
	Current  bool     `json:"current"`
	Settings settings `json:"settings"`
}

// effective is the name of the context that a command would use.
func (f *contextFile) effective(cmd *cobra.Command) string {
	name, _ := cmd.Flags().GetString("context")
	return cmp.Or(name, f.current)
}

func listContexts(f *contextFile, p *cli.Printer, cmd *cobra.Command, _ []string) error {
	forms, rows := []contextForm{}, [][]any{{"", "NAME", "ENDPOINTS", "CACERT", "USER"}}
	for _, name := range slices.Sorted(maps.Keys(f.contexts)) {
		s, mark := f.contexts[name], ""
		if name == f.effective(cmd) {
			mark = "*"
		}
		user, _, _ := strings.Cut(s["user"], ":")
		forms = append(forms, contextForm{name, mark != "", s.public()})
		rows = append(rows, []any{mark, name, cli.OrDash(s["endpoints"]), cli.OrDash(s["cacert"]), cli.OrDash(user)})
	}
	return p.PrintTable(forms, rows...)
}

func showContext(f *contextFile, p *cli.Printer, cmd *cobra.Command, args []string) error {
	name := cmp.Or(strings.Join(args, ""), f.effective(cmd))
	if name == "" {
		return errors.New("there is no current context")
	}
	found, err := f.get(name)
	if err != nil {
		return err
	}
	s := found.public()
	return p.Print(contextForm{name, name == f.effective(cmd), s}, cli.Columns(func(w io.Writer) {
		cli.Row(w, "name:", name)
		for _, flag := range slices.Sorted(maps.Keys(s)) {
			cli.Row(w, flag+":", cli.Plain(s[flag]))
		}
	}))
}

// public are the settings without secrets.
func (s settings) public() settings {
	s = maps.Clone(s)
	if user, _, hasPassword := strings.Cut(s["user"], ":"); hasPassword {
		s["user"] = user + ":…"
	}
	for _, secret := range []string{"password", "auth-jwt-token"} {
		if s[secret] != "" {
			s[secret] = "…"
		}
	}
	return s
}

func setContext(f *contextFile, _ *cli.Printer, cmd *cobra.Command, args []string) error {
	name := args[0]
	if err := checkContextName(name); err != nil {
		return cli.BadArgs("%w", err)
	}
	s := f.contexts[name]
	if s == nil {
		s = settings{}
	}
	given, err := givenSettings(cmd.Root().PersistentFlags())
	if err != nil {
		return err
	}
	if len(given) == 0 {
		return cli.BadArgs("nothing to set: give a global flag like --endpoints, see \"%s options\"", cli.Program)
	}
	for flag, value := range given {
		if value == "" {
			delete(s, flag)
		} else {
			s[flag] = value
		}
	}
	f.contexts[name] = s
	return f.save()
}

// givenSettings are the settings on the command line.
func givenSettings(flags *pflag.FlagSet) (settings, error) {
	given := settings{}
	var failed error
	flags.VisitAll(func(flag *pflag.Flag) {
		if !flag.Changed || !isSetting(flag) {
			return
		}
		value := flag.Value.String()
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		if value != "" && slices.Contains([]string{"cert", "key", "cacert"}, flag.Name) {
			var err error
			if value, err = filepath.Abs(value); err != nil {
				failed = err
			}
		}
		given[flag.Name] = value
	})
	return given, failed
}

func removeContext(f *contextFile, _ *cli.Printer, cmd *cobra.Command, args []string) error {
	if _, err := f.get(args[0]); err != nil {
		return err
	}
	if err := cli.Confirm(cmd, fmt.Sprintf("this removes context %s", args[0])); err != nil {
		return err
	}
	delete(f.contexts, args[0])
	if f.current == args[0] {
		f.current = ""
	}
	return f.save()
}

// completeContexts needs no cluster.
func completeContexts(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return contextNames(typed), cobra.ShellCompDirectiveNoFileComp
}

// CompleteFlag completes --context, whatever arguments there are.
func CompleteFlag(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return contextNames(typed), cobra.ShellCompDirectiveNoFileComp
}

// contextNames are the contexts whose names begin with what was typed.
func contextNames(typed string) []cobra.Completion {
	file, err := loadContexts()
	if err != nil {
		return nil
	}
	var names []cobra.Completion
	for _, name := range slices.Sorted(maps.Keys(file.contexts)) {
		names = append(names, cli.Described(name, file.contexts[name]["endpoints"]))
	}
	return cli.Offered(names, typed)
}
