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

// gcPercent lets the heap grow somewhat further than Go's default of 100 before it is collected: the store is in
// Pebble, so the live heap is small and under load it is collected several times a second. More would save little more
// CPU time and cost memory (at 300 a loaded member took 530 MB instead of 230).
const gcPercent = 150

// memoryLimit is where the heap grows no further beyond what is alive, so that a member stays below 512 MB in all: what
// it holds for clients is bounded, see packages limit and statemachine (Room), and garbage must not double it. Who lets
// it hold more for clients gets as much more, or the collector would never rest.
func memoryLimit(clientBytes int64) int64 {
	return 304<<20 + max(0, clientBytes-coord.DefaultClientMemoryBytes)
}

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
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit(c.ClientMemoryBytes))
	}
	return coord.Start(ctx, c, log)
}
