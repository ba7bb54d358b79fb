package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeServer stops when it is told to, or hangs until its context ends.
type fakeServer struct {
	done    chan struct{}
	err     error
	hang    chan struct{}
	stopErr error

	once    sync.Once
	stopped chan struct{}
}

func newFakeServer() *fakeServer {
	return &fakeServer{done: make(chan struct{}), stopped: make(chan struct{})}
}

func (s *fakeServer) Done() <-chan struct{} { return s.done }
func (s *fakeServer) Err() error            { return s.err }

func (s *fakeServer) Stop(ctx context.Context) error {
	s.once.Do(func() { close(s.stopped) })
	if s.hang != nil {
		<-s.hang
	}
	return s.stopErr
}

// outcome is what Run left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

func run(args string, signals chan os.Signal, start Start) outcome {
	var stdout, stderr bytes.Buffer
	code := Run(Process{Args: strings.Fields(args), Stdout: &stdout, Stderr: &stderr, Signals: signals}, start)
	return outcome{code, stdout.String(), stderr.String()}
}

func mustNotStart(t *testing.T) Start {
	return func(context.Context, coord.Config, *zap.Logger) (Server, error) {
		t.Error("a server was started")
		return nil, errors.New("no")
	}
}

func TestMistakesHaveOneLine(t *testing.T) {
	for args, want := range map[string]string{
		"--frobnicate": "coordd: unknown flag --frobnicate (coordd --help lists the flags)\n",
		"stray":        "coordd: \"stray\" is not a valid flag\n",
		"--log-level=loud": "coordd: --log-level \"loud\" is unknown: must be one of debug, info, warn, " +
			"error, panic, fatal\n",
		"--initial-cluster=a": "coordd: --initial-cluster \"a\": \"a\" must have the form NAME=URL\n",
		"--heartbeat-interval=1e": "coordd: invalid value \"1e\" for flag --heartbeat-interval: must be a whole " +
			"number of milliseconds above 0\n",
	} {
		if got := run(args, nil, mustNotStart(t)); got.code != exitUsage || got.stderr != want || got.stdout != "" {
			t.Errorf("%s: %+v, want %q", args, got, want)
		}
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	got := run("--help", nil, mustNotStart(t))
	if got.code != exitOK || got.stderr != "" {
		t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
	}
	for name := range everyFlag {
		if !strings.Contains(got.stdout, "\n  --"+name+" '") {
			t.Errorf("--help does not explain --%s", name)
		}
	}
	for _, title := range []string{"\nMember:\n", "\nClustering:\n", "\nLimits:\n", "\nLogging:\n"} {
		if !strings.Contains(got.stdout, title) {
			t.Errorf("--help has no heading %q", title)
		}
	}
}

func TestVersion(t *testing.T) {
	got := run("--version", nil, mustNotStart(t))
	if got.code != exitOK || got.stdout != coord.Build().Describe("coordd") ||
		!strings.HasPrefix(got.stdout, "coordd Version: ") {
		t.Errorf("--version: %+v", got)
	}
}

func TestStopsOnASignal(t *testing.T) {
	server, signals := newFakeServer(), make(chan os.Signal, 2)
	got := run("--name=m --log-level=info", signals,
		func(_ context.Context, c coord.Config, log *zap.Logger) (Server, error) {
			if c.Name != "m" || c.DataDir != "m.coord" {
				t.Errorf("started with %+v", c)
			}
			signals <- syscall.SIGTERM
			return server, nil
		})
	select {
	case <-server.stopped:
	default:
		t.Error("the server was not stopped")
	}
	if got.code != exitOK || got.stdout != "" {
		t.Errorf("outcome is %+v", got)
	}
	for line := range strings.Lines(got.stderr) {
		if !json.Valid([]byte(line)) {
			t.Errorf("log line %q is not JSON", line)
		}
	}
}

func TestStartFails(t *testing.T) {
	got := run("--log-level=error", nil, func(context.Context, coord.Config, *zap.Logger) (Server, error) {
		return nil, errors.New("listen tcp 127.0.0.1:2379: address already in use")
	})
	if want := "coordd: listen tcp 127.0.0.1:2379: address already in use\n"; got.code != exitFailed ||
		got.stderr != want {
		t.Errorf("outcome is %+v, want %q", got, want)
	}
}

func TestSignalWhileStarting(t *testing.T) {
	signals := make(chan os.Signal, 2)
	got := run("", signals, func(ctx context.Context, _ coord.Config, _ *zap.Logger) (Server, error) {
		signals <- syscall.SIGINT
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if got.code != exitOK {
		t.Errorf("outcome is %+v", got)
	}
	// A start that could not be given up is stopped.
	server := newFakeServer()
	got = run("", signals, func(ctx context.Context, _ coord.Config, _ *zap.Logger) (Server, error) {
		signals <- syscall.SIGINT
		<-ctx.Done()
		return server, nil
	})
	select {
	case <-server.stopped:
	default:
		t.Error("the server was left running")
	}
	if got.code != exitOK {
		t.Errorf("outcome is %+v", got)
	}
}

func TestServerStopsByItself(t *testing.T) {
	server := newFakeServer()
	server.err = errors.New("member 1 was removed from the cluster")
	close(server.done)
	got := run("--log-level=error", nil,
		func(context.Context, coord.Config, *zap.Logger) (Server, error) { return server, nil })
	if want := "coordd: member 1 was removed from the cluster\n"; got.code != exitFailed || got.stderr != want {
		t.Errorf("outcome is %+v, want %q", got, want)
	}
}

func TestStopFails(t *testing.T) {
	server, signals := newFakeServer(), make(chan os.Signal, 2)
	server.stopErr = errors.New("close the store: input/output error")
	signals <- syscall.SIGTERM
	got := run("--log-level=error", signals,
		func(ctx context.Context, _ coord.Config, _ *zap.Logger) (Server, error) { return server, nil })
	if want := "coordd: close the store: input/output error\n"; got.code != exitFailed || got.stderr != want {
		t.Errorf("outcome is %+v, want %q", got, want)
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	server, signals := newFakeServer(), make(chan os.Signal, 2)
	server.hang = make(chan struct{})
	defer close(server.hang)
	signals <- syscall.SIGTERM
	go func() {
		<-server.stopped
		signals <- syscall.SIGTERM
	}()
	got := run("--log-level=error", signals,
		func(context.Context, coord.Config, *zap.Logger) (Server, error) { return server, nil })
	if want := "coordd: stopped at once by a second signal\n"; got.code != exitFailed || got.stderr != want {
		t.Errorf("outcome is %+v, want %q", got, want)
	}
}

func TestUnknownVariablesAreLogged(t *testing.T) {
	var stderr bytes.Buffer
	server := newFakeServer()
	close(server.done)
	Run(Process{Args: []string{"--log-format=console"}, Environ: []string{"COORD_NAMES=x"}, Stderr: &stderr},
		func(context.Context, coord.Config, *zap.Logger) (Server, error) { return server, nil })
	if !strings.Contains(stderr.String(), "unrecognized environment variable") ||
		!strings.Contains(stderr.String(), "COORD_NAMES") {
		t.Errorf("log is %s", &stderr)
	}
}
