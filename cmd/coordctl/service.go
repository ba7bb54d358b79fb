package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/pkg/v3/cobrautl"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/cmd/coordctl/internal/child"
)

func newServiceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "service <subcommand>", Short: "The service registry: who serves what, where, and whether it is up", GroupID: groupUtility,
		Long: `An instance of a service is registered for as long as the process that registered it lives. Its state is passing, starting,
draining or critical: the worst of what the process says, what the cluster's probe says, and what an operator wants. "stale"
marks what has expired together with most other instances and is kept for now.

Output formats (-w): simple, table, json and yaml.`,
	}
	cmd.AddCommand(ours(newServiceRegisterCommand(), newServiceListCommand(), newServiceWatchCommand(), newServiceDrainCommand())...)
	return cmd
}

// serviceRun is one run of a verb of service.
type serviceRun struct {
	cmd      *cobra.Command
	g        *globals
	c        *client.Client
	services *registry.Registry
}

// serviceVerb makes a verb of fn, which gets at least low and at most high arguments. ctx ends with a signal.
func serviceVerb(low, high int, usage string, fn func(ctx context.Context, r *serviceRun, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high || len(args) > 0 && args[0] == "" {
			return badArgs("%s", usage)
		}
		g, err := readGlobals(cmd)
		if err != nil {
			return err
		}
		switch g.output {
		case "simple", "table", "json", "yaml":
		default:
			return &exitError{cobrautl.ExitBadFeature, fmt.Errorf("unsupported output format %q: there are simple, table, json and yaml", g.output)}
		}
		c, err := g.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		signals := make(chan os.Signal, 16)
		signal.Notify(signals, child.Signals()...)
		ctx, stop := untilSignal(context.Background(), signals)
		defer stop()
		return fn(ctx, &serviceRun{cmd, g, c, registry.New(c, registry.Options{})}, args)
	}
}

// bounded ends when the cluster has been tried for long enough.
func (r *serviceRun) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, r.g.reach, fmt.Errorf("%w (endpoints %s)", errUnreachable, r.g.endpoints()))
}

// told is the error of a request within bounded, in one line.
func told(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
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

func (s *selection) options() []registry.WatchOption {
	var opts []registry.WatchOption
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
		RunE: serviceVerb(0, 1, "service ls takes the name of a service, or nothing", func(ctx context.Context, r *serviceRun, args []string) error {
			name := strings.Join(args, "")
			if s.endpoints && name == "" {
				return badArgs("--etcd needs the name of a service")
			}
			ctx, cancel := r.bounded(ctx)
			defer cancel()
			all, err := r.services.List(ctx, name, s.options()...)
			if err != nil {
				return told(ctx, err)
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
		RunE: serviceVerb(1, 1, "service watch takes the name of a service", func(ctx context.Context, r *serviceRun, args []string) error {
			return r.watch(ctx, args[0], s.options())
		}),
	}
	s.addFlags(cmd)
	return cmd
}

func (r *serviceRun) watch(ctx context.Context, name string, opts []registry.WatchOption) error {
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
	var undo, yes bool
	cmd := &cobra.Command{
		Use: "drain NAME [ID]", Short: "Keeps new requests from an instance, or from all instances of a service",
		Long: `Orders the instance to be drained: it takes no new requests, wherever the registry is asked. Its process learns of it. Without
ID all instances of the service are drained; on a terminal that is asked first. --undo takes the order back.`,
		RunE: serviceVerb(1, 2, "service drain takes the name of a service, and the id of an instance", func(ctx context.Context, r *serviceRun, args []string) error {
			bounded, cancel := r.bounded(ctx)
			defer cancel()
			ids, err := r.idsOf(bounded, args)
			if err != nil {
				return told(bounded, err)
			}
			if len(args) == 1 && !undo && !yes && isatty.IsTerminal(os.Stdin.Fd()) {
				if err := confirm(fmt.Sprintf("Drain all %d instances of %s?", len(ids), args[0])); err != nil {
					return err
				}
				again, cancel := r.bounded(ctx) // the time that it took to answer does not count
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
					return told(bounded, err)
				}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "take the order back")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
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

// confirm asks on the terminal; an error is a no.
func confirm(question string) error {
	fmt.Fprintf(os.Stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
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
