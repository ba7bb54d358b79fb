// Command coordd runs one member of a coord cluster, or a cluster of one. See coordd --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/cmd/coordd/internal/daemon"
	"github.com/coord-dev/coord/coord"
)

// gcPercent lets the heap grow to four times what is live before it is collected. The store is in Pebble, so the live heap
// is small (some 20 MB) and under load it would be collected many times a second: 8 % of the CPU time of reads at Go's
// default of 100, 3 % at this.
const gcPercent = 300

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(daemon.Run(daemon.Process{
		Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals,
	}, start))
}

func start(ctx context.Context, c coord.Config, log *zap.Logger) (daemon.Server, error) {
	return coord.Start(ctx, c, log)
}
