// Package holder is a process that holds sessions, each with a lock, until it is killed: what a benchmark needs to see
// how servers carry many sessions, and how they take the death of one.
package holder

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coord-dev/coord/bench/driver"
	"github.com/coord-dev/coord/bench/process"
)

// Command is the subcommand by which the benchmark's own binary is a holder.
const Command = "hold"

// holding is the line that says that all is held.
const holding = "holding"

// Plan says what a holder holds.
type Plan struct {
	// Kind is that of the servers, Endpoints their addresses.
	Kind      string
	Endpoints []string
	// Sessions is how many, each with the lock <Name>/<number>, numbered from 0.
	Name     string
	Sessions int
	// Streams is how many clients share the sessions; client i begins with member i modulo their number.
	Streams int
	// TTL of each session.
	TTL time.Duration
}

// Lock returns the name of the lock with number n.
func (p Plan) Lock(n int) string { return fmt.Sprintf("%s/%d", p.Name, n) }

// Start runs a holder by the benchmark's own binary, self, and returns when it holds everything.
func Start(ctx context.Context, self string, p Plan, logFile string) (*process.Process, error) {
	h, err := process.Start([]string{
		self, Command, "-kind=" + p.Kind, "-endpoints=" + strings.Join(p.Endpoints, ","), "-name=" + p.Name,
		fmt.Sprintf("-sessions=%d", p.Sessions), fmt.Sprintf("-streams=%d", p.Streams), "-ttl=" + p.TTL.String(),
	}, logFile)
	if err != nil {
		return nil, err
	}
	if err := h.WaitLine(ctx, holding); err != nil {
		h.Kill()
		return nil, fmt.Errorf("holder of %d sessions: %w", p.Sessions, err)
	}
	return h, nil
}

// Act is a holder until it is told to stop, if args, the whole command line, says so; else it reports false.
func Act(args []string) (acted bool, err error) {
	if len(args) < 2 || args[1] != Command {
		return false, nil
	}
	p, err := parse(args[2:])
	if err != nil {
		return true, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return true, p.hold(ctx)
}

func parse(args []string) (Plan, error) {
	var p Plan
	fs := flag.NewFlagSet(Command, flag.ContinueOnError)
	fs.StringVar(&p.Kind, "kind", "", "kind of the servers")
	endpoints := fs.String("endpoints", "", "members")
	fs.StringVar(&p.Name, "name", "", "what the names of all locks begin with")
	fs.IntVar(&p.Sessions, "sessions", 1, "number of sessions")
	fs.IntVar(&p.Streams, "streams", 1, "clients that share them")
	fs.DurationVar(&p.TTL, "ttl", 0, "TTL of each session")
	if err := fs.Parse(args); err != nil {
		return Plan{}, err
	}
	p.Endpoints = strings.Split(*endpoints, ",")
	return p, nil
}

// openers is how many sessions each client opens at the same time.
const openers = 256

// hold takes everything, says so, and keeps it until ctx ends.
func (p Plan) hold(ctx context.Context) (err error) {
	var clients []driver.Driver
	defer func() {
		for _, d := range clients {
			err = errors.Join(err, d.Close())
		}
	}()
	for i := range p.Streams {
		at := i % len(p.Endpoints)
		endpoints := append(append([]string(nil), p.Endpoints[at:]...), p.Endpoints[:at]...)
		d, err := driver.Open(ctx, p.Kind, driver.Config{Endpoints: endpoints, Conns: 1, TTL: p.TTL})
		if err != nil {
			return err
		}
		clients = append(clients, d)
	}
	g, opening := errgroup.WithContext(ctx)
	g.SetLimit(openers * p.Streams)
	for n := range p.Sessions {
		g.Go(func() error { return clients[n%len(clients)].Hold(opening, p.Lock(n)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Println(holding)
	<-ctx.Done()
	return nil
}
