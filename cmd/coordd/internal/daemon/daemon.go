package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord"
)

// stopTimeout bounds a clean stop; what is left then is as after a crash, which loses nothing either.
const stopTimeout = 30 * time.Second

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// A Server is a running member, as *coord.Server is.
type Server interface {
	// Done is closed when the member has stopped, by itself or by Stop.
	Done() <-chan struct{}
	// Err is why it stopped by itself, and nil after Stop.
	Err() error
	// Stop hands over leadership, ends the streams and closes the store.
	Stop(ctx context.Context) error
}

// Start starts a member. Cancelling the context before it returns makes it give up.
type Start func(ctx context.Context, c coord.Config, log *zap.Logger) (Server, error)

// Process is what main has from the operating system.
type Process struct {
	// Args are the arguments without the program's name.
	Args, Environ  []string
	Stdout, Stderr io.Writer
	// Signals are those that ask to stop; a second one asks to stop at once.
	Signals <-chan os.Signal
}

// Run does what the arguments say and returns the exit code. What goes wrong is told in one line on Stderr.
func Run(p Process, start Start) int {
	if len(p.Args) > 0 && p.Args[0] == refuseCommand {
		return p.refuse(p.Args[1:])
	}
	o, err := Parse(p.Args, p.Environ)
	switch {
	case err != nil:
		return p.fail(exitUsage, err)
	case o.Help:
		return p.print(Help())
	case o.Version:
		return p.print(coord.Build().Describe("coordd"))
	}
	log, err := newLogger(p.Stderr, o.Config)
	if err != nil {
		return p.fail(exitUsage, err)
	}
	defer log.Sync()
	for _, name := range o.Unknown {
		log.Warn("unrecognized environment variable", zap.String("environment-variable", name))
	}
	if err := p.serve(o.Config, log, start); err != nil {
		return p.fail(exitFailed, err)
	}
	log.Info("stopped")
	return exitOK
}

func (p Process) fail(code int, err error) int {
	fmt.Fprintf(p.Stderr, "coordd: %v\n", err)
	return code
}

func (p Process) print(text string) int {
	if _, err := io.WriteString(p.Stdout, text); err != nil {
		return p.fail(exitFailed, err)
	}
	return exitOK
}

// started is what came of starting.
type started struct {
	server Server
	err    error
}

// serve runs a member until it is told to stop or stops by itself.
func (p Process) serve(c coord.Config, log *zap.Logger, start Start) error {
	build := coord.Build()
	log.Info("starting", zap.String("version", build.Version), zap.String("git-sha", build.GitSHA),
		zap.String("name", c.Name), zap.String("data-dir", c.DataDir))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result := make(chan started, 1)
	go func() {
		server, err := start(ctx, c, log)
		result <- started{server, err}
	}()
	select {
	case r := <-result:
		if r.err != nil {
			return r.err
		}
		return p.watch(r.server, log)
	case s := <-p.Signals:
		log.Info("stopping while still starting", zap.Stringer("signal", s))
		cancel()
		return p.abandon(result)
	}
}

// abandon waits for a start that was cancelled. One that succeeded all the same is stopped.
func (p Process) abandon(result <-chan started) error {
	select {
	case r := <-result:
		if r.err != nil {
			return nil // it was told to give up
		}
		return p.stop(r.server)
	case <-p.Signals:
		return errors.New("stopped at once by a second signal")
	}
}

// watch waits for a signal, or for the member to stop by itself.
func (p Process) watch(server Server, log *zap.Logger) error {
	select {
	case s := <-p.Signals:
		log.Info("stopping", zap.Stringer("signal", s))
		return p.stop(server)
	case <-server.Done():
		return server.Err()
	}
}

func (p Process) stop(server Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- server.Stop(ctx) }()
	select {
	case err := <-stopped:
		return err
	case <-p.Signals:
		return errors.New("stopped at once by a second signal")
	}
}
