package service

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

// New makes "coordctl service".
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use: "service <subcommand>", Short: "The service registry: who serves what, where, and whether it is up",
		Long: `An instance of a service is registered for as long as the process that registered it lives. Its state is passing, starting,
draining or critical: the worst of what the process says, what the cluster's probe says, and what an operator wants. "stale"
marks what has expired together with most other instances and is kept for now.

Output formats (-w): simple, table, json and yaml.`,
	}
	cmd.AddCommand(cli.Ours(newServiceRegisterCommand(), newServiceListCommand(), newServiceWatchCommand(),
		newServiceDrainCommand())...)
	return cmd
}

// serviceRun is one run of a verb of service.
type serviceRun struct {
	*cli.Run
	services *registry.Registry
}

// serviceVerb is sdkVerb for the verbs of service.
func serviceVerb(low, high int, usage string,
	fn func(ctx context.Context, r *serviceRun, args []string) error) cli.RunE {
	return cli.SDKVerb(low, high, usage, func(ctx context.Context, r *cli.Run, args []string) error {
		return fn(ctx, &serviceRun{r, registry.New(r.Client, registry.Options{})}, args)
	})
}

// selection are the flags that choose instances.
type selection struct {
	tags      []string
	zone      string
	passing   bool
	endpoints bool
}

func (s *selection) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&s.tags, "tag", nil, "only instances with this tag; several times: with all of them")
	cmd.Flags().StringVar(&s.zone, "zone", "", "only instances of this zone")
	cmd.Flags().BoolVar(&s.passing, "passing", false, "only instances that take requests")
	cmd.Flags().BoolVar(&s.endpoints, "etcd", false, "also those in the layout of etcd's naming/endpoints")
}

func (s *selection) options() []registry.ListOption {
	var opts []registry.ListOption
	for _, tag := range s.tags {
		opts = append(opts, registry.Tag(tag))
	}
	if s.zone != "" {
		opts = append(opts, registry.Zone(s.zone))
	}
	if s.passing {
		opts = append(opts, registry.Passing())
	}
	if s.endpoints {
		opts = append(opts, registry.Endpoints())
	}
	return opts
}

func newServiceListCommand() *cobra.Command {
	var s selection
	cmd := &cobra.Command{
		Use: "ls [NAME]", Short: "Lists the instances of a service, or all services",
		RunE: serviceVerb(0, 1, "service ls takes the name of a service, or nothing",
			func(ctx context.Context, r *serviceRun, args []string) error {
				name := strings.Join(args, "")
				if s.endpoints && name == "" {
					return cli.BadArgs("--etcd needs the name of a service")
				}
				ctx, cancel := r.Bounded(ctx)
				defer cancel()
				all, err := r.services.List(ctx, name, s.options()...)
				if err != nil {
					return cli.Told(ctx, err)
				}
				if name == "" {
					return r.printServices(all)
				}
				return r.printInstances(all)
			}),
	}
	s.addFlags(cmd)
	return cmd
}

func newServiceWatchCommand() *cobra.Command {
	var s selection
	cmd := &cobra.Command{
		Use: "watch NAME", Short: "Prints the instances of a service and what changes, until a signal",
		Long: `Prints each change on a line, first all there is. During an outage what was known stays known, and a line on the standard
error says so; nothing ends the watch but a signal.`,
		RunE: serviceVerb(1, 1, "service watch takes the name of a service",
			func(ctx context.Context, r *serviceRun, args []string) error {
				return r.watch(ctx, args[0], s.options())
			}),
	}
	s.addFlags(cmd)
	return cmd
}

func (r *serviceRun) watch(ctx context.Context, name string, chosen []registry.ListOption) error {
	var opts []registry.WatchOption
	for _, opt := range chosen {
		opts = append(opts, opt)
	}
	for update, err := range r.services.Watch(ctx, name, opts...) {
		switch {
		case err != nil && ctx.Err() != nil: // a signal is how a watch ends
			return nil
		case err != nil:
			return err
		case update.Err != nil:
			fmt.Fprintln(os.Stderr, "Warning: this may be out of date:", update.Err)
		}
		for _, c := range update.Changes {
			if err := r.printChange(update.Revision, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func newServiceDrainCommand() *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use: "drain NAME [ID]", Short: "Keeps new requests from an instance, or from all instances of a service",
		Long: `Orders the instance to be drained: it takes no new requests, wherever the registry is asked. Its process learns of it. Without
ID all instances of the service are drained; on a terminal that is asked first. --undo takes the order back.`,
		RunE: serviceVerb(1, 2, "service drain takes the name of a service, and the id of an instance",
			func(ctx context.Context, r *serviceRun, args []string) error {
				bounded, cancel := r.Bounded(ctx)
				defer cancel()
				ids, err := r.idsOf(bounded, args)
				if err != nil {
					return cli.Told(bounded, err)
				}
				if len(args) == 1 && !undo {
					if err := cli.Confirm(r.Cmd,
						fmt.Sprintf("this drains all %d instances of %s", len(ids), cli.Plain(args[0]))); err != nil {
						return err
					}
					again, cancel := r.Bounded(ctx) // the time that it took to answer does not count
					defer cancel()
					bounded = again
				}
				for _, id := range ids {
					if undo {
						err = r.services.Undrain(bounded, args[0], id)
					} else {
						err = r.services.Drain(bounded, args[0], id, whoWeAre())
					}
					if err != nil {
						return cli.Told(bounded, err)
					}
				}
				return nil
			}),
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "take the order back")
	cli.AddYesFlag(cmd)
	return cmd
}

// idsOf are the ids that the arguments mean.
func (r *serviceRun) idsOf(ctx context.Context, args []string) ([]string, error) {
	if len(args) == 2 {
		return args[1:], nil
	}
	all, err := r.services.List(ctx, args[0])
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("service %s: %w", args[0], registry.ErrNotFound)
	}
	ids := make([]string, len(all))
	for i, in := range all {
		ids[i] = in.ID
	}
	return ids, nil
}

// whoWeAre is user@host, as far as that is known.
func whoWeAre() string {
	name, host := "somebody", "somewhere"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}
