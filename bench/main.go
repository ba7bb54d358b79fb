// Command bench compares coordd with etcd, ZooKeeper and a server that does nothing, on this machine: the same client,
// the same run, alternating. With no arguments it takes about twenty minutes and needs bin/coordd; see -help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/coord-dev/coord/bench/holder"
	"github.com/coord-dev/coord/bench/peers/servers"
	"github.com/coord-dev/coord/bench/suite"
)

const clientGCPercent = 800

func main() {
	err := act(os.Args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// act is one of the processes that the benchmark starts, or else the benchmark.
func act(args []string) error {
	for _, role := range []func([]string) (bool, error){servers.Act, holder.Act} {
		if acted, err := role(args); acted {
			return err
		}
	}
	return bench(args[1:])
}

func bench(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The client's collector competes with the servers for the same cores; its heap is small, so let it grow.
	debug.SetGCPercent(clientGCPercent)
	cfg, err := suite.ParseFlags(args, os.Stderr)
	if err != nil {
		return err
	}
	return suite.Run(ctx, cfg, os.Stdout, os.Stderr)
}
