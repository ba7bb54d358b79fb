package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/proto/instances"
)

const (
	probeAgent = "coordd-probe"
	// maxProbeAnswer bounds what is read of an answer: the headers, and the message of a health service.
	maxProbeAnswer = 16 << 10
)

// asker asks targets whether they answer.
type asker struct {
	dialer *net.Dialer
	http   *http.Client
}

// newAsker makes connections that the policy allows: one for each probe. It follows nothing, uses no proxy and verifies
// no certificate: who wants to know that a target answers does not tell it anything. What the target says is not passed
// on to whoever registered it: a member may reach what clients do not.
func newAsker(p *Policy) *asker {
	d := p.dialer()
	return &asker{dialer: d, http: &http.Client{
		Transport: &http.Transport{
			DialContext: d.DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: maxProbeAnswer,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// ask asks a target, until ctx ends: nil if it answers.
func (a *asker) ask(ctx context.Context, p *instances.Probe) error {
	switch p.Kind {
	case instances.ProbeHTTP:
		return a.askHTTP(ctx, p.Target)
	case instances.ProbeGRPC:
		return a.askGRPC(ctx, p.Target)
	}
	conn, err := a.dialer.DialContext(ctx, "tcp", p.Target)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (a *asker) askHTTP(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", probeAgent)
	resp, err := a.http.Do(req)
	if err != nil {
		return withoutAnswer(err, fmt.Errorf("GET %s: the target does not answer in HTTP", url))
	}
	resp.Body.Close() // its size is the target's business
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("GET %s: %d %s", url, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}

func (a *asker) askGRPC(ctx context.Context, target string) error {
	addr, service, _ := strings.Cut(target, "/")
	dialled := make(chan error, 1) // how the first attempt to connect ended
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(probeAgent), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithMaxHeaderListSize(maxProbeAnswer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxProbeAnswer)),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (conn net.Conn, err error) {
			conn, err = a.dialer.DialContext(ctx, "tcp", addr)
			select {
			case dialled <- err:
			default:
			}
			return conn, err
		}))
	if err != nil {
		return err
	}
	defer conn.Close()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		answer := fmt.Errorf("health of %q: %s", service, status.Code(err))
		select {
		case err = <-dialled:
		default:
		}
		return withoutAnswer(err, answer)
	}
	if resp.Status != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("health of %q: %s", service, resp.Status)
	}
	return nil
}

// withoutAnswer is err if the target was not reached, and otherwise what hides its words.
func withoutAnswer(err, otherwise error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	return otherwise
}
