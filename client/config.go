package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"
)

// Config says where the servers are and how to talk to them. Only Endpoints is required.
type Config struct {
	// Endpoints are the client addresses of the members: host:port, or http(s)://host:port. At least one. They are
	// tried in random order.
	Endpoints []string
	// TLS, if set, is used for all endpoints.
	TLS *tls.Config
	// Username and Password, if set, authenticate each connection.
	Username, Password string
	// DialTimeout bounds the authentication in New. Default 5 s.
	DialTimeout time.Duration
	// SessionTTL is the TTL of the shared session, and of those that are not given one; 100 ms or more. Default 10 s.
	SessionTTL time.Duration
	// Owner is who we are, for people who look at a lock's queue. Default "host:pid".
	Owner string
	// Host, Process and Labels are the identity of sessions. Default: the host's name, "program[pid]", none.
	Host, Process string
	Labels        map[string]string
	// Features are what the program needs of the cluster beside what this package does, by their names in coord.v1
	// (proto/coord/v1/features.go). While the cluster lacks one, requests fail with ErrClusterVersion.
	Features []string
	// Logger is for what cannot be returned. Default: none.
	Logger *slog.Logger
	// Hooks are told of what happens.
	Hooks Hooks
	// Clock returns the time since some fixed instant, for tests that turn it. It must not stand still while the
	// machine sleeps. Deadlines of sessions and heartbeats follow it; timeouts of the network do not. Default: the
	// system's.
	Clock func() time.Duration
	// DialOptions are added to those of the connection.
	DialOptions []grpc.DialOption
}

// Hooks are functions that are called, if set, when something happens; from one goroutine, in order. They must not
// block, nor close the client; what they delay is only each other. The exception is Trace.
type Hooks struct {
	// OnWait: an acquire or campaign has to wait behind so many entries; holder is what the holder's entry says, see
	// OnQueued.
	OnWait func(name string, position int64, holder string)
	// OnAcquire: it holds. Several names of one lock are joined with commas.
	OnAcquire func(name string, waited time.Duration)
	// OnLost: what was held was lost; err wraps ErrLost and the reason.
	OnLost func(name string, err error)
	// OnState: the shared session's state has changed.
	OnState func(State)
	// OnConnect and OnDisconnect: the stream stands, or has ended, or could not be opened.
	OnConnect    func(endpoint string)
	OnDisconnect func(endpoint string, err error)
	// Trace is called by the goroutine that begins an operation, with its context; the operation goes on with the
	// context that is returned, and calls end with its outcome. Operations: "acquire", "campaign" (until it holds),
	// "hold" (the function of Do and Run).
	Trace func(ctx context.Context, operation, name string) (_ context.Context, end func(error))
}

// trace calls the hook, if there is one.
func (h *Hooks) trace(ctx context.Context, operation, name string) (context.Context, func(error)) {
	if h.Trace == nil {
		return ctx, func(error) {}
	}
	return h.Trace(ctx, operation, name)
}

// minTTL and maxTTL are the shortest and the longest TTL of a session that servers grant.
const (
	minTTL = 100 * time.Millisecond
	maxTTL = 24 * time.Hour
)

func (c *Config) ensureDefaults() {
	host, _ := os.Hostname()
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.SessionTTL, 10*time.Second)
	setDefault(&c.Owner, fmt.Sprintf("%s:%d", host, os.Getpid()))
	setDefault(&c.Host, host)
	setDefault(&c.Process, fmt.Sprintf("%s[%d]", filepath.Base(os.Args[0]), os.Getpid()))
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = newClock()
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	switch {
	case len(c.Endpoints) == 0:
		return fmt.Errorf("%w: no endpoints", ErrConfig)
	case slices.Contains(c.Endpoints, ""):
		return fmt.Errorf("%w: an endpoint is empty", ErrConfig)
	case c.DialTimeout < 0:
		return fmt.Errorf("%w: negative dial timeout %v", ErrConfig, c.DialTimeout)
	case c.SessionTTL < minTTL, c.SessionTTL > maxTTL:
		return fmt.Errorf("%w: session TTL %v is not between %v and %v", ErrConfig, c.SessionTTL, minTTL, maxTTL)
	}
	return nil
}

// session is what a session is that no option says anything of.
func (c *Config) session() options {
	return options{
		ttl: c.SessionTTL, host: c.Host, process: c.Process, labels: maps.Clone(c.Labels), onState: func(State) {},
	}
}
