package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coord-dev/coord/proto/roster"
)

const probeAgent = "coordd-probe"

// probe asks a target whether it answers, until ctx ends: nil if it does.
func probe(ctx context.Context, p *roster.Probe) error {
	switch p.Kind {
	case roster.ProbeHTTP:
		return probeHTTP(ctx, p.Target)
	case roster.ProbeGRPC:
		return probeGRPC(ctx, p.Target)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.Target)
	if err != nil {
		return err
	}
	return conn.Close()
}

// probeClient makes a connection for each probe, follows nothing, and verifies no certificate: who wants to know that a
// target answers does not tell it anything.
var probeClient = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func probeHTTP(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", probeAgent)
	resp, err := probeClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close() // its size is the target's business
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}

func probeGRPC(ctx context.Context, target string) error {
	addr, service, _ := strings.Cut(target, "/")
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent(probeAgent))
	if err != nil {
		return err
	}
	defer conn.Close()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if resp.Status != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("health of %q: %s", service, resp.Status)
	}
	return nil
}
