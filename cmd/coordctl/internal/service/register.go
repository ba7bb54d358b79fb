package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

const serviceRegisterUsage = "service register takes the name of a service, and where it serves by --addr"

// registering are the flags of service register.
type registering struct {
	in       registry.Instance
	meta     []string
	probe    string
	interval cli.Seconds
	timeout  cli.Seconds
	ttl      cli.Seconds
}

func newServiceRegisterCommand() *cobra.Command {
	f := &registering{ttl: cli.Seconds(10 * time.Second)}
	cmd := &cobra.Command{
		Use:   "register NAME --addr HOST:PORT",
		Short: "Registers an instance of a service for as long as it runs",
		Long: `Registers an instance and keeps it registered until INT or TERM, which deregisters it. If coordctl dies, the instance is gone
when its TTL is over. A line says when it is registered, and one when an operator drains it.

--probe asks the cluster to see whether the instance answers: tcp, grpc (the standard health service) or an http:// or
https:// URL, which must answer 2xx.

Exit code: 76 when somebody else registered an instance of the same id.`,
		Example: "  coordctl service register pay --addr 10.0.0.7:8080 --zone eu-1 --tag v2 --probe " +
			"http://10.0.0.7:8080/health",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(cmd, args); err != nil {
				return err
			}
			return serviceVerb(1, 1, serviceRegisterUsage, f.run)(cmd, args)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.in.Addr, "addr", "", "where the instance serves, HOST:PORT (required)")
	fs.StringVar(&f.in.ID, "id", "", "what tells the instance from the others (default: the address)")
	fs.StringVar(&f.in.Zone, "zone", "", "where it is")
	fs.IntVar(&f.in.Weight, "weight", 1, "share of requests, 1 to 65535")
	fs.StringArrayVar(&f.in.Tags, "tag", nil, "a tag; can be given several times")
	fs.StringArrayVar(&f.meta, "meta", nil, "KEY=VALUE; can be given several times")
	fs.StringVar(&f.in.Version, "version", "", "the version of what runs there")
	fs.BoolVar(&f.in.Mirror, "etcd", false,
		"let etcd's naming/endpoints find it, too, at NAME/ADDR: no lock or election can have that name then")
	fs.StringVar(&f.probe, "probe", "", "tcp, grpc, or a URL to GET")
	fs.Var(&f.interval, "probe-interval", "time from one probe to the next (default 10s)")
	fs.Var(&f.timeout, "probe-timeout", "time after which a probe has failed (default 2s)")
	fs.Var(&f.ttl, "ttl", "time after which a silent coordctl is taken for dead")
	return cmd
}

// complete checks what can be checked without a cluster.
func (f *registering) complete(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return cli.BadArgs("%s", serviceRegisterUsage)
	}
	f.in.Service = args[0]
	if f.in.Weight == 0 { // to the registry, that is no weight at all
		return cli.BadArgs("%v: 0 is not between 1 and 65535", registry.ErrBadWeight)
	}
	if f.ttl == 0 {
		return cli.BadArgs("--ttl must be greater than zero")
	}
	for _, pair := range f.meta {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return cli.BadArgs("--meta %q is not KEY=VALUE", pair)
		}
		if f.in.Metadata == nil {
			f.in.Metadata = map[string]string{}
		}
		f.in.Metadata[key] = value
	}
	probe, err := parseProbe(f.probe)
	if err != nil {
		return err
	}
	if probe != nil {
		probe.Interval, probe.Timeout = time.Duration(f.interval), time.Duration(f.timeout)
	} else if cmd.Flags().Changed("probe-interval") || cmd.Flags().Changed("probe-timeout") {
		return cli.BadArgs("there is no --probe")
	}
	f.in.Probe = probe
	in := f.in
	in.EnsureDefaults()
	if err := in.Validate(); err != nil {
		return cli.BadArgs("%w", err)
	}
	return nil
}

func parseProbe(text string) (*registry.Probe, error) {
	switch {
	case text == "":
		return nil, nil
	case text == "tcp":
		return &registry.Probe{Kind: registry.ProbeTCP}, nil
	case text == "grpc":
		return &registry.Probe{Kind: registry.ProbeGRPC}, nil
	case strings.HasPrefix(text, "http://"), strings.HasPrefix(text, "https://"):
		return &registry.Probe{Kind: registry.ProbeHTTP, Target: text}, nil
	}
	return nil, cli.BadArgs("--probe %q is none of tcp, grpc, http://… and https://…", text)
}

// run registers, and waits.
func (f *registering) run(ctx context.Context, r *serviceRun, _ []string) error {
	bounded, cancel := r.Bounded(ctx)
	defer cancel()
	reg, err := r.services.Register(bounded, sessionsOf(r.Client, time.Duration(f.ttl)), f.in)
	if err != nil {
		return cli.Told(bounded, err)
	}
	in := reg.Instance()
	fmt.Fprintf(r.Cmd.OutOrStdout(), "registered instance %s of service %s\n", cli.Plain(in.ID), cli.Plain(in.Service))
	go func() { // ends with the registration, or the process
		if reg.DrainOrdered(ctx) == nil {
			fmt.Fprintf(r.Cmd.OutOrStdout(), "instance %s of service %s is drained by an operator\n", cli.Plain(in.ID),
				cli.Plain(in.Service))
		}
	}()
	select {
	case <-ctx.Done():
	case <-reg.Done():
		if err := reg.Err(); errors.Is(err, registry.ErrReplaced) {
			return cli.ExitWith(cli.ExitLost, fmt.Errorf("instance %s of service %s: %w", in.ID, in.Service, err))
		}
		return reg.Err()
	}
	last, cancel := r.Bounded(context.Background())
	defer cancel()
	if err := reg.Deregister(last); err != nil {
		fmt.Fprintf(os.Stderr, "Warning: the instance is deregistered only when its TTL of %v is over: %v\n",
			time.Duration(f.ttl), cli.Told(last, err))
	}
	return nil
}

// sessionsOf are c's sessions with a TTL, one after the other.
func sessionsOf(c *client.Client, ttl time.Duration) registry.Sessions {
	return registry.SessionsOf(func(ctx context.Context) (*client.Session, error) {
		return c.NewSession(ctx, client.WithTTL(ttl))
	})
}
