package recipes_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	recipesv1 "github.com/coord-dev/coord/proto/recipes/v1"
	"github.com/coord-dev/coord/recipes"
)

// register registers an instance with a mirror, changed by each of how, on a lease.
func (s *stage) register(lease int64, service, addr string, how ...func(*coordv1.ServiceInstance)) error {
	s.Helper()
	in := &coordv1.ServiceInstance{
		Service: service, Id: addr, Addr: addr, Weight: 1, Mirror: true, Endpoint: []byte(addr), State: 1,
	}
	for _, fn := range how {
		fn(in)
	}
	record, err := proto.Marshal(in)
	must(s.T, err)
	put := &recipesv1.ServicePut{Service: service, Id: addr, Record: record, Lease: lease}
	return call(s.T, s.Store, recipes.RegistryPut, put, &coordv1.ServicePutResponse{})
}

func (s *stage) wantMirror(addr string, want bool) {
	s.Helper()
	if got := s.Get([]byte("pay/"+addr)) != nil; got != want {
		s.Errorf("the mirror of %s stands: %t, want %t", addr, got, want)
	}
}

func state(state coordv1.ServiceState) func(*coordv1.ServiceInstance) {
	return func(in *coordv1.ServiceInstance) { in.State = state }
}

// A lock or an election never waits for the instances of a service: whoever wants the name of one is refused.
func TestNameOfAMirroredServiceIsRefused(t *testing.T) {
	s := newStage(t, 1, 2)
	must(t, s.register(1, "pay", "h:1"))
	unary := func(elects bool) error {
		_, err := enqueue(t, s.Store, elects, &coordv1.Campaign{Name: "pay", Lease: 2})
		return err
	}
	for what, err := range map[string]error{
		"acquire": s.ask(2, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"free", "pay"}},
			&coordv1.Acquired{}),
		"try": s.ask(2, coordv1.Kind_KIND_ACQUIRE, &coordv1.Acquire{Names: []string{"pay"}, Try: true},
			&coordv1.Acquired{}),
		"campaign":       s.ask(2, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "pay"}, &coordv1.Acquired{}),
		"unary lock":     unary(false),
		"unary campaign": unary(true),
	} {
		wantRefusal(t, what, err, recipes.ErrWrongKind, `"pay" is that of a registered service`)
	}
	s.wantOrder("free", "")
	// Others are not concerned: those with priorities, and names beside and below.
	s.campaign(2, "pay", 1)
	s.lock(2, "pay/h:1", "pa", "pay/h")
	// A key of etcd's naming/endpoints is nobody's mirror: the lock waits, and is told so.
	must(t, s.Put("other/h:1", "", 1))
	if e := s.lock(2, "other")[0]; e.State != coordv1.AcquiredEntry_WAITS ||
		string(e.Holder.GetForeignKey()) != "other/h:1" {
		t.Errorf("behind a key of etcd's naming/endpoints: %v", e)
	}
	// What takes the mirror away frees the name.
	must(t, s.register(1, "pay", "h:1", state(coordv1.ServiceState_SERVICE_STATE_DRAINING)))
	s.wantMirror("h:1", false)
	if e := s.lock(2, "pay")[0]; e.State != coordv1.AcquiredEntry_HOLDS {
		t.Errorf("once the service is drained: %v", e)
	}
}

// An instance is not registered with its mirror where it would stand in the way of a lock or an election.
func TestMirrorBelowALockIsRefused(t *testing.T) {
	s := newStage(t, 1, 2)
	for what, enter := range map[string]func() (leave func()){
		"a lock": func() func() {
			e := s.lock(2, "pay")
			return func() { _, _ = s.release(2, e...) }
		},
		"an election": func() func() {
			e := s.campaign(2, "pay", 0)
			return func() { _, _ = s.release(2, e) }
		},
		"a lock of etcd's client": func() func() {
			must(t, s.Put("pay/2", "", 2))
			return func() { s.Delete("pay/2") }
		},
	} {
		leave := enter()
		wantRefusal(t, what, s.register(1, "pay", "h:1"), recipes.ErrWrongKind, `"pay" is that of a lock or an election`)
		if s.wantMirror("h:1", false); s.Get([]byte(layout.InstanceKey("pay", "h:1"))) != nil {
			t.Errorf("%s: a refused registration left its record", what)
		}
		must(t, s.register(1, "pay", "h:1", func(in *coordv1.ServiceInstance) { in.Mirror = false }))
		leave()
		must(t, s.register(1, "pay", "h:1"))
		s.wantMirror("h:1", true)
		// It moves, and the mirror with it; and stays although a client of etcd's waits behind it.
		must(t, s.Put("pay/2", "", 2))
		must(t, s.register(1, "pay", "h:1", func(in *coordv1.ServiceInstance) { in.Endpoint = []byte("changed") }))
		s.wantMirror("h:1", true)
		// But it does not come back behind that one's back.
		must(t, s.register(1, "pay", "h:1", state(coordv1.ServiceState_SERVICE_STATE_CRITICAL)))
		wantRefusal(t, "passing again", s.register(1, "pay", "h:1"), recipes.ErrWrongKind, "without the mirror")
		s.Delete("pay/2")
		must(t, call(t, s.Store, recipes.RegistryRemove, &recipesv1.ServiceRemove{Service: "pay", Id: "h:1", Lease: 1},
			&coordv1.ServiceRemoveResponse{}))
	}
	s.wantMirror("h:1", false)
}

// What a probe found and what an operator orders say, too, whether the mirror stands.
func TestMirrorOfOrdersAndProbesGivesWay(t *testing.T) {
	s := newStage(t, 1, 2)
	order := func(draining bool) error {
		req := &coordv1.ServiceOrderRequest{Service: "pay", Id: "h:1"}
		if draining {
			req.Order = &coordv1.ServiceOrder{State: coordv1.ServiceState_SERVICE_STATE_DRAINING}
		}
		return call(t, s.Store, recipes.RegistryOrder, req, &coordv1.ServiceOrderResponse{})
	}
	must(t, s.register(1, "pay", "h:1"))
	must(t, order(true))
	e := s.lock(2, "pay")
	wantRefusal(t, "undrain", order(false), recipes.ErrWrongKind, `"pay" is that of a lock or an election`)
	if _, err := s.release(2, e...); err != nil {
		t.Fatal(err)
	}
	must(t, order(false))
	s.wantMirror("h:1", true)

	// The instance with a probe is passing although its mirror cannot stand: nobody is there to be told, so that is
	// what counts.
	probe := func(in *coordv1.ServiceInstance) { in.Probe = &coordv1.ServiceProbe{} }
	must(t, s.register(1, "pay", "h:1", probe))
	s.wantMirror("h:1", false)
	e = s.lock(2, "pay")
	found, err := proto.Marshal(&coordv1.ServiceProbed{State: coordv1.ServiceState_SERVICE_STATE_PASSING, Lease: 1})
	must(t, err)
	passing := func() *recipesv1.ServiceNoted {
		noted := &recipesv1.ServiceNoted{}
		must(t, call(t, s.Store, recipes.RegistryProbed, &recipesv1.ServiceFound{
			Service: "pay", Id: "h:1", Lease: 1, Record: found,
		}, noted))
		return noted
	}
	if noted := passing(); !noted.Written || s.Get([]byte(layout.ProbedKey("pay", "h:1"))) == nil {
		t.Error("what a probe found was not noted beside a lock")
	}
	s.wantMirror("h:1", false)
	if _, err := s.release(2, e...); err != nil {
		t.Fatal(err)
	}
	passing()
	s.wantMirror("h:1", true)
}
