// Command coordd runs one member of a coord cluster, or a cluster of one. See coordd --help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/cmd/coordd/internal/daemon"
	"github.com/coord-dev/coord/coord"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(daemon.Run(daemon.Process{
		Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals,
	}, start))
}

func start(ctx context.Context, c coord.Config, log *zap.Logger) (daemon.Server, error) {
	return coord.Start(ctx, c, log)
}
