package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bgentry/speakeasy"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/srv"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/pkg/v3/cobrautl"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"

	"github.com/coord-dev/coord/client"
)

// Globals are the global flags as our own commands need them. etcd's commands read theirs themselves, in a way that
// ends the process on a mistake and cannot be called from outside.
type Globals struct {
	// Spec is the connection, as etcd's client takes it.
	Spec clientv3.ConfigSpec
	// Output is the format of --write-out, and Hex says that keys and values are printed in hex.
	Output string
	Hex    bool
	// Reach is how long an unreachable cluster is tried before giving up.
	Reach time.Duration
	// Hooks are told of what happens to the client that Connect opens.
	Hooks client.Hooks
}

// flagReader reads flags by name and keeps the first error.
type flagReader struct {
	fs  *pflag.FlagSet
	err error
}

func readFlag[T any](r *flagReader, get func(string) (T, error), name string) T {
	v, err := get(name)
	if err != nil && r.err == nil {
		r.err = err
	}
	return v
}

func (r *flagReader) str(name string) string             { return readFlag(r, r.fs.GetString, name) }
func (r *flagReader) boolean(name string) bool           { return readFlag(r, r.fs.GetBool, name) }
func (r *flagReader) duration(name string) time.Duration { return readFlag(r, r.fs.GetDuration, name) }
func (r *flagReader) integer(name string) int            { return readFlag(r, r.fs.GetInt, name) }

// ReadGlobals collects the global flags of cmd.
func ReadGlobals(cmd *cobra.Command) (*Globals, error) {
	r := &flagReader{fs: cmd.Flags()}
	g := &Globals{
		Output: r.str("write-out"),
		Hex:    r.boolean("hex"),
		Reach:  r.duration("dial-timeout") + r.duration("command-timeout"),
		Spec: clientv3.ConfigSpec{
			Endpoints:          readFlag(r, r.fs.GetStringSlice, "endpoints"),
			DialTimeout:        r.duration("dial-timeout"),
			KeepAliveTime:      r.duration("keepalive-time"),
			KeepAliveTimeout:   r.duration("keepalive-timeout"),
			MaxCallSendMsgSize: r.integer("max-request-bytes"),
			MaxCallRecvMsgSize: r.integer("max-recv-bytes"),
			Secure: &clientv3.SecureConfig{
				Cert:               r.str("cert"),
				Key:                r.str("key"),
				Cacert:             r.str("cacert"),
				InsecureTransport:  r.boolean("insecure-transport"),
				InsecureSkipVerify: r.boolean("insecure-skip-tls-verify"),
			},
		},
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := g.discover(r); err != nil {
		return nil, err
	}
	return g, g.authenticate(r)
}

// discover replaces the endpoints with those of the DNS domain in --discovery-srv, where one is given.
func (g *Globals) discover(r *flagReader) error {
	domain, insecure := r.str("discovery-srv"), r.boolean("insecure-discovery")
	if domain != "" {
		found, err := srv.GetClient("etcd-client", domain, r.str("discovery-srv-name"))
		if err != nil {
			return fmt.Errorf("discover endpoints of %s: %w", domain, err)
		}
		g.Spec.Endpoints = found.Endpoints
		if !insecure {
			g.Spec.Endpoints = secureOnly(found.Endpoints)
			g.Spec.Secure.ServerName = domain
		}
	}
	for i, ep := range g.Spec.Endpoints {
		g.Spec.Endpoints[i] = strings.TrimSpace(ep)
	}
	if len(g.Spec.Endpoints) == 0 {
		return BadArgs("no endpoints to connect to")
	}
	return r.err
}

func secureOnly(endpoints []string) []string {
	var secure []string
	for _, ep := range endpoints {
		if !strings.HasPrefix(ep, "http://") {
			secure = append(secure, ep)
		}
	}
	return secure
}

// authenticate takes a token, or a user with a password, which is asked for on the terminal when it is missing.
func (g *Globals) authenticate(r *flagReader) error {
	token, user, password := r.str("auth-jwt-token"), r.str("user"), r.str("password")
	switch {
	case r.err != nil:
		return r.err
	case token != "":
		g.Spec.Auth = &clientv3.AuthConfig{Token: token}
		return nil
	case user == "":
		return nil
	}
	if password == "" {
		name, secret, given := strings.Cut(user, ":")
		if user, password = name, secret; !given {
			asked, err := speakeasy.Ask("Password: ")
			if err != nil {
				return fmt.Errorf("read the password of %s: %w", user, err)
			}
			password = asked
		}
	}
	g.Spec.Auth = &clientv3.AuthConfig{Username: user, Password: password}
	return nil
}

// Connect opens a client. It logs nothing: what goes wrong is told once, in the error coordctl ends with.
func (g *Globals) Connect() (*client.Client, error) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	cfg, err := clientv3.NewClientConfig(&g.Spec, zap.NewNop()) // for its reading of the certificates
	if err != nil {
		return nil, ExitWith(cobrautl.ExitBadArgs, err)
	}
	config := client.Config{
		Endpoints: cfg.Endpoints, TLS: cfg.TLS, Username: cfg.Username, Password: cfg.Password,
		DialTimeout: cfg.DialTimeout,
		Hooks:       g.Hooks,
	}
	if cfg.Token != "" {
		config.DialOptions = []grpc.DialOption{grpc.WithPerRPCCredentials(jwt(cfg.Token))}
	}
	c, err := client.New(config)
	if err != nil {
		return nil, ExitWith(cobrautl.ExitBadConnection, fmt.Errorf("connect to %s: %w", g.Endpoints(), err))
	}
	return c, nil
}

// jwt is a token that goes with every request.
type jwt string

func (t jwt) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{rpctypes.TokenFieldNameGRPC: string(t)}, nil
}

func (jwt) RequireTransportSecurity() bool { return false }

// Endpoints are the endpoints of --endpoints or --discovery-srv, as one text for messages.
func (g *Globals) Endpoints() string { return strings.Join(g.Spec.Endpoints, ",") }

// Etcd opens etcd's own client, which logs nothing.
func (g *Globals) Etcd() (*clientv3.Client, error) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	cfg, err := clientv3.NewClientConfig(&g.Spec, zap.NewNop())
	if err != nil {
		return nil, ExitWith(cobrautl.ExitBadArgs, err)
	}
	cfg.Logger = zap.NewNop()
	c, err := clientv3.New(*cfg)
	if err != nil {
		return nil, ExitWith(cobrautl.ExitBadConnection, fmt.Errorf("connect to %s: %w", g.Endpoints(), err))
	}
	return c, nil
}
