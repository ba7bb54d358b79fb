package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/coord-dev/coord/proto/instances"
)

func ranges(t *testing.T, all ...string) []netip.Prefix {
	t.Helper()
	var out []netip.Prefix
	for _, s := range all {
		p, err := ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func TestPolicy(t *testing.T) {
	standard, local := NewPolicy(nil, nil, false), NewPolicy(nil, nil, true)
	closed := NewPolicy(ranges(t, "0.0.0.0/0", "::/0"), ranges(t, "10.0.0.0/8", "169.254.7.7", "2001:db8::/32"), true)
	for _, c := range []struct {
		policy  *Policy
		address string
		allowed bool
	}{
		{standard, "10.0.0.1", true}, {standard, "192.168.1.1", true}, {standard, "8.8.8.8", true},
		{standard, "2001:db8::1", true}, {standard, "fd00::1", true},
		{standard, "127.0.0.1", false}, {standard, "127.8.8.8", false}, {standard, "::1", false},
		{local, "127.0.0.1", true}, {local, "::1", true},
		{local, "169.254.169.254", false}, {local, "169.254.0.1", false}, {local, "fe80::1", false},
		{local, "fe80::1%eth0", false},
		{local, "fd00:ec2::254", false}, {local, "fd20:ce::254", false}, {local, "100.100.100.200", false},
		{local, "168.63.129.16", false}, {local, "192.0.0.192", false},
		{local, "0.0.0.0", false}, {local, "0.1.2.3", false}, {local, "::", false}, {local, "224.0.0.1", false},
		{local, "ff02::1", false}, {local, "255.255.255.255", false}, {local, "240.0.0.1", false},
		{local, "::ffff:169.254.169.254", false}, {local, "64:ff9b::a9fe:a9fe", false}, {local, "2002:a9fe:a9fe::1",
			false}, {local, "::169.254.169.254", false}, {standard, "::ffff:127.0.0.1", false},
		{standard, "64:ff9b::10.0.0.1", true}, {local, "::ffff:10.0.0.1", true},
		{closed, "10.1.2.3", true}, {closed, "11.0.0.1", false}, {closed, "127.0.0.1", false},
		{closed, "2001:db8::1", true}, {closed, "2001:db9::1", false},
		{closed, "169.254.7.7", true}, {closed, "169.254.169.254", false},
		{NewPolicy(ranges(t, "10.1.0.0/16"), ranges(t, "10.0.0.0/8"), true), "10.1.0.1", false},
		{NewPolicy(nil, ranges(t, "0.0.0.0/0"), true), "169.254.169.254", false},
		{NewPolicy(nil, ranges(t, "169.254.0.0/16"), true), "169.254.169.254", true},
		{NewPolicy(nil, ranges(t, "127.0.0.1"), false), "127.0.0.1", true},
	} {
		if err := c.policy.Check(netip.MustParseAddr(c.address)); (err == nil) != c.allowed ||
			err != nil && !errors.Is(err, ErrProbeDenied) {
			t.Errorf("%s: %v, want allowed %v", c.address, err, c.allowed)
		}
	}
	for _, bad := range []string{"", "10.0.0.0/33", "fe80::1%eth0", "example.org", "::ffff:10.0.0.0/104",
		"10.0.0.1-10.0.0.9"} {
		if p, err := ParsePrefix(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, p)
		}
	}
}

func TestTargetsAreChecked(t *testing.T) {
	p := NewPolicy(nil, nil, false)
	for _, c := range []struct {
		kind    instances.ProbeKind
		target  string
		allowed bool
	}{
		{instances.ProbeTCP, "169.254.169.254:80", false}, {instances.ProbeTCP, "[fe80::1%eth0]:80", false},
		{instances.ProbeTCP, "10.0.0.1:80", true},
		{instances.ProbeGRPC, "169.254.169.254:80/pay", false}, {instances.ProbeGRPC, "host:80/169.254.169.254", true},
		{instances.ProbeHTTP, "http://169.254.169.254/latest/meta-data", false},
		{instances.ProbeHTTP, "https://[fd00:ec2::254]:443/", false},
		{instances.ProbeHTTP, "http://u@127.0.0.1:1/", false}, {instances.ProbeHTTP, "http://example.org/", true},
	} {
		if err := p.CheckTarget(&instances.Probe{Kind: c.kind, Target: c.target}); (err == nil) != c.allowed {
			t.Errorf("%s probe of %s: %v, want allowed %v", c.kind, c.target, err, c.allowed)
		}
	}
}

// Whatever name leads to a denied address, nothing is connected to: the address is checked behind the lookup.
func TestDeniedTargetsAreNotDialled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
			accepted <- struct{}{}
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	a := newAsker(NewPolicy(nil, nil, false))
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		for _, p := range []*instances.Probe{
			{Kind: instances.ProbeTCP, Target: host + ":" + port},
			{Kind: instances.ProbeHTTP, Target: "http://" + host + ":" + port + "/"},
			{Kind: instances.ProbeGRPC, Target: host + ":" + port + "/pay"},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := a.ask(ctx, p); !errors.Is(err, ErrProbeDenied) {
				t.Errorf("%s probe of %s: %v", p.Kind, p.Target, err)
			}
			cancel()
		}
	}
	select {
	case <-accepted:
		t.Error("a denied target was connected to")
	default:
	}
}

// speaker is a health service that says more than whether it serves.
type speaker struct {
	healthpb.UnimplementedHealthServer
}

func (speaker) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return nil, status.Error(codes.NotFound, "secret")
}

// Who registers a probe does not learn what the target says to the member: redirections are not followed, and what it
// says in words is not passed on.
func TestProbesTellNothing(t *testing.T) {
	hits := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hits++; r.URL.Path == "/secret" {
			t.Error("a redirection was followed")
		}
		http.Redirect(w, r, "/secret", http.StatusFound)
	}))
	defer web.Close()
	banner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer banner.Close()
	go func() {
		for {
			c, err := banner.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("SSH-2.0-secret\r\n"))
			c.Close()
		}
	}()
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, speaker{})
	go func() { _ = server.Serve(rpc) }()
	defer server.Stop()
	a := newAsker(NewPolicy(nil, nil, true))
	for want, p := range map[string]*instances.Probe{
		"302":      {Kind: instances.ProbeHTTP, Target: web.URL + "/"},
		"GET":      {Kind: instances.ProbeHTTP, Target: "http://" + banner.Addr().String()},
		"NotFound": {Kind: instances.ProbeGRPC, Target: rpc.Addr().String() + "/pay"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := a.ask(ctx, p)
		cancel()
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s probe: %v, want %s", p.Kind, err, want)
		}
	}
	if hits != 1 {
		t.Errorf("%d requests", hits)
	}
}

// More instances than may be probed wait until others leave.
func TestProbedInstancesAreBounded(t *testing.T) {
	p := NewProber(Backend{Logger: loud(t)}, NewPolicy(nil, nil, true), ProbeLimits{Targets: 2})
	ctx, cancel := context.WithCancel(t.Context())
	term := &term{Prober: p, ctx: ctx, targets: map[instances.Name]*target{}, waiting: map[instances.Name]bool{}}
	term.mirror = newMirror(&p.backend, term.changed)
	cancel() // targets begin and end at once
	in := func(id string) *instances.Instance {
		i := &instances.Instance{
			Service: "pay", ID: id, Addr: "10.0.0.1:1", Probe: &instances.Probe{Kind: instances.ProbeTCP},
		}
		i.EnsureDefaults()
		return i
	}
	for _, id := range []string{"a", "b", "c"} {
		if got := term.admits(in(id)); got != (id != "c") {
			t.Errorf("%s is admitted: %v", id, got)
		} else if got {
			term.targets[instances.Name{Service: "pay", ID: id}] = term.begin(in(id))
		}
	}
	if len(term.waiting) != 1 {
		t.Errorf("%d wait", len(term.waiting))
	}
	term.changed([]instances.Name{{Service: "pay", ID: "c"}}) // it is not registered any more
	if len(term.waiting) != 0 || len(term.targets) != 2 {
		t.Errorf("%d wait, %d are probed", len(term.waiting), len(term.targets))
	}
	term.running.Wait()
}

func TestPace(t *testing.T) {
	p := pace{step: time.Millisecond}
	begin := time.Now()
	for range 20 {
		if !p.wait(t.Context()) {
			t.Fatal("it ended")
		}
	}
	if took := time.Since(begin); took < 19*time.Millisecond {
		t.Errorf("20 began within %v", took)
	}
}
