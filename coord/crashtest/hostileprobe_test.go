package crashtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/coord-dev/coord/client/registry"
)

// No registration makes a member connect to an address that its policy denies: not by number, name, or IPv6 form.
func TestHostileProbeAddresses(t *testing.T) {
	c := startCluster(t, 1, "--probe-deny=127.0.0.0/8,::1", "--probe-allow=127.0.0.3")
	denied, allowed := probeTarget(t, "127.0.0.1:0"), probeTarget(t, "127.0.0.3:0")
	_, port, err := net.SplitHostPort(denied.addr)
	if err != nil {
		t.Fatal(err)
	}
	cli := c.dial()
	session, err := concurrency.NewSession(cli, concurrency.WithTTL(60))
	if err != nil {
		t.Fatal(err)
	}
	services := registry.New(cli, registry.Options{})
	sessions := func(context.Context) (registry.Session, error) { return session, nil }
	register := func(id string, p registry.Probe) error {
		p.Interval, p.Timeout, p.Failures = 100*time.Millisecond, 5*time.Second, 1
		in := registry.Instance{Service: "pay", ID: id, Addr: "10.0.0.1:1", Probe: &p}
		_, err := services.Register(within(t, patience), sessions, in)
		return err
	}
	// What is an address is refused when it is registered, in words that say why, and what would permit it.
	for target, why := range map[string]string{
		"http://169.254.169.254/latest/meta-data/": "169.254.169.254 lies in 169.254.0.0/16",
		"tcp [fe80::1]:80":                         "fe80::1 lies in fe80::/10",
		"tcp 0.0.0.0:" + port:                      "0.0.0.0 lies in 0.0.0.0/8",
		"tcp " + denied.addr:                       "127.0.0.1 lies in 127.0.0.0/8",
		"tcp [::ffff:127.0.0.1]:" + port:           "127.0.0.1 lies in 127.0.0.0/8",
		"http://127.0.0.1:" + port + "/":           "127.0.0.1 lies in 127.0.0.0/8",
	} {
		p := registry.Probe{Kind: registry.ProbeHTTP, Target: target}
		if tcp, ok := strings.CutPrefix(target, "tcp "); ok {
			p = registry.Probe{Kind: registry.ProbeTCP, Target: tcp}
		}
		err := register(target, p)
		if !errors.Is(err, registry.ErrRefused) || !strings.Contains(err.Error(), why) ||
			!strings.Contains(err.Error(), "--probe-allow") {
			t.Errorf("a probe of %s was registered: %v", target, err)
		}
	}
	// Where a name leads is seen only when it is connected to.
	for id, p := range map[string]registry.Probe{
		"by name": {Kind: registry.ProbeTCP, Target: "localhost:" + port},
		"answers": {Kind: registry.ProbeTCP, Target: allowed.addr},
	} {
		if err := register(id, p); err != nil {
			t.Fatal(err)
		}
	}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		list, err := services.List(within(t, patience), "pay")
		if err != nil {
			t.Fatal(err)
		}
		if wrong := wrongStates(list); wrong == "" {
			break
		} else if time.Since(begin) > patience {
			t.Fatal(wrong)
		}
	}
	if denied.touched() {
		t.Error("the member connected to a denied address")
	}
	if !allowed.touched() {
		t.Error("the member did not connect to the address that it may")
	}
}

// wrongStates says which instance is not as it should be, if one is not.
func wrongStates(list []*registry.Instance) string {
	if len(list) != 2 {
		return fmt.Sprintf("%d instances", len(list))
	}
	for _, in := range list {
		denied := in.State == registry.StateCritical && strings.Contains(in.Detail, "probes of this address are denied")
		if in.ID == "answers" && in.State != registry.StatePassing || in.ID != "answers" && !denied {
			return fmt.Sprintf("%s is %s: %s", in.ID, in.State, in.Detail)
		}
	}
	return ""
}

// target listens, and knows whether somebody connected.
type target struct {
	addr string
	hits atomic.Int64
}

func probeTarget(t testing.TB, addr string) *target {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &target{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.hits.Add(1)
			c.Close()
		}
	}()
	return p
}

func (p *target) touched() bool { return p.hits.Load() > 0 }
