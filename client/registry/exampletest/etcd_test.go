package exampletest

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	etcdresolver "go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc/resolver"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/client/registry"
)

func etcdResolve(t *testing.T, c *clientv3.Client, service string) *conn {
	t.Helper()
	b, err := etcdresolver.NewBuilder(c)
	if err != nil {
		t.Fatal(err)
	}
	cc := &conn{}
	r, err := b.Build(resolver.Target{URL: url.URL{Scheme: "etcd", Path: "/" + service}}, cc, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return cc
}

// etcd's package finds what is mirrored, as long as it is passing, and reads its metadata.
func TestEtcdFindsOurServices(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	in := registry.Instance{Service: "pay", ID: "a", Addr: address(1), Zone: "eu", Mirror: true}
	lease := newOwn(t, c, time.Hour)
	reg := register(t, r, always(lease), in)
	register(t, r, always(lease), registry.Instance{Service: "pay", ID: "not mirrored", Addr: address(2)})
	etcd := etcdResolve(t, c, "pay")
	etcd.shows(t, address(1))
	manager, err := endpoints.NewManager(c, "pay")
	if err != nil {
		t.Fatal(err)
	}
	all, err := manager.List(bounded(t))
	if err != nil || len(all) != 1 || all["pay/"+address(1)].Metadata.(map[string]any)["zone"] != "eu" {
		t.Errorf("etcd's manager finds %v, %v", all, err)
	}
	step := func(what string, err error, want ...string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		eventually(t, func() string {
			all, err := manager.List(bounded(t))
			if got := slices.Sorted(maps.Keys(all)); err != nil || len(got) != len(want) {
				return fmt.Sprintf("after %s etcd finds %v, %v", what, got, err)
			}
			return ""
		})
		etcd.shows(t, want...)
	}
	step("critical", reg.SetState(bounded(t), registry.StateCritical))
	step("passing", reg.SetState(bounded(t), registry.StatePassing), address(1))
	step("an order", r.Drain(bounded(t), "pay", "a", "ops"))
	step("a heartbeat under the order", reg.Heartbeat(bounded(t), nil))
	step("the end of the order", r.Undrain(bounded(t), "pay", "a"), address(1))
	if resp, err := c.Get(bounded(t), "pay/"+address(1)); err != nil || resp.Kvs[0].Lease != int64(lease.lease) {
		t.Errorf("the mirror is not on the session's lease: %v, %v", resp, err)
	}
	step("deregistration", reg.Deregister(bounded(t)))
}

// An instance and its mirror have service and id in common, and yet stand in one order.
func TestMirrorsAreListedBehindTheirInstances(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	s := sessions(c)
	var want []string
	for i := range 9 {
		register(t, r, s, registry.Instance{Service: "pay", Addr: address(i), Mirror: true})
		want = append(want, address(i)+" passing", address(i)+" passing foreign")
	}
	all, err := r.List(bounded(t), "pay", registry.Endpoints())
	if got := text(all); err != nil || got != strings.Join(want, ", ") {
		t.Errorf("listed are %s, %v", got, err)
	}
}

// Our resolver finds what etcd's package registered, beside what is registered here.
func TestWeFindServicesOfEtcd(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	manager, err := endpoints.NewManager(c, "pay")
	if err != nil {
		t.Fatal(err)
	}
	add := func(i int) {
		t.Helper()
		if err := manager.AddEndpoint(bounded(t), "pay/"+address(i),
			endpoints.Endpoint{Addr: address(i), Metadata: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	add(1)
	conn := resolve(t, r, "coord:///pay")
	conn.shows(t, address(1))
	add(2)
	conn.shows(t, address(1), address(2))
	reg := register(t, r, sessions(c), registry.Instance{Service: "pay", Addr: address(3), Mirror: true})
	conn.shows(t, address(1), address(2), address(3))
	all, err := r.List(bounded(t), "pay", registry.Endpoints())
	if err != nil ||
		text(all) != fmt.Sprintf("%s passing foreign, %s passing foreign, %s passing, %[3]s passing foreign",
			address(1), address(2), address(3)) {
		t.Errorf("listed are %s, %v", text(all), err)
	}
	if all[0].Metadata["etcd"] != "m" {
		t.Errorf("etcd's metadata became %v", all[0].Metadata)
	}
	if err := reg.Drain(bounded(t)); err != nil {
		t.Fatal(err)
	}
	conn.shows(t, address(1), address(2))
	if err := manager.DeleteEndpoint(bounded(t), "pay/"+address(1)); err != nil {
		t.Fatal(err)
	}
	conn.shows(t, address(2))
}

// A service whose instances etcd finds and a lock of its name do not go together: whoever comes second is told at once.
func TestMirrorsAndLocksOfOneNameAreToldApart(t *testing.T) {
	f, c := fake(t)
	r := registry.New(c, quick)
	native, err := client.New(client.Config{Endpoints: []string{f.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	lock, err := native.Lock("pay").Acquire(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	in := registry.Instance{Service: "pay", Addr: address(1), Mirror: true}
	if _, err := r.Register(bounded(t), sessions(c),
		in); !errors.Is(err, registry.ErrNameTaken) || !strings.Contains(err.Error(), "without the mirror") {
		t.Errorf("registered below a lock: %v", err)
	}
	in.Mirror = false
	reg := register(t, r, sessions(c), in)
	if err := reg.Deregister(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := lock.Release(bounded(t)); err != nil {
		t.Fatal(err)
	}
	in.Mirror = true
	reg = register(t, r, sessions(c), in)
	if _, err := native.Lock("pay").Acquire(bounded(t)); !errors.Is(err, client.ErrWrongKind) ||
		!strings.Contains(err.Error(), "a registered service") {
		t.Errorf("a lock of a service's name: %v", err)
	}
	if _, err := native.Election("pay").Campaign(bounded(t), []byte("me")); !errors.Is(err, client.ErrWrongKind) {
		t.Errorf("an election of a service's name: %v", err)
	}
	if err := reg.Deregister(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := native.Lock("pay").Acquire(bounded(t)); err != nil {
		t.Errorf("once the service is gone: %v", err)
	}
}
