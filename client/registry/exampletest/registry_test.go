package exampletest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coord-dev/coord/client/registry"
	"github.com/coord-dev/coord/proto/layout"
)

func pay(id string) registry.Instance {
	return registry.Instance{Service: "pay", ID: id, Addr: "10.0.0.1:80"}
}

func TestLifeOfAnInstance(t *testing.T) {
	f, c := fake(t)
	r := registry.New(c, quick)
	o := observe(t, r, "pay")
	o.wait("", false)
	in := pay("a")
	in.State, in.Tags, in.Zone = registry.StateStarting, []string{"v2"}, "eu"
	reg := register(t, r, sessions(c), in)
	o.wait("a starting", false)
	for _, state := range []registry.State{registry.StatePassing, registry.StateCritical, registry.StatePassing} {
		if err := reg.SetState(bounded(t), state); err != nil {
			t.Fatal(err)
		}
		o.wait("a "+state.String(), false)
	}
	if err := reg.Heartbeat(bounded(t), []byte("load 0.7")); err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]int{"pay": 1, "": 1, "pa": 0} {
		all, err := r.List(bounded(t), service)
		if err != nil || len(all) != want || want == 1 &&
			(string(all[0].Load) != "load 0.7" || all[0].Weight != 1 || all[0].Heartbeat.IsZero()) {
			t.Errorf("list of %q: %v, %v", service, all, err)
		}
	}
	for name, c := range map[string]struct {
		opt  registry.ListOption
		want int
	}{
		"tag": {registry.Tag("v2"), 1}, "other tag": {registry.Tag("v1"), 0},
		"zone": {registry.Zone("eu"), 1}, "other zone": {registry.Zone("us"), 0}, "passing": {registry.Passing(), 1},
	} {
		if all, err := r.List(bounded(t), "pay", c.opt); err != nil || len(all) != c.want {
			t.Errorf("by %s: %d, %v", name, len(all), err)
		}
	}
	if err := reg.Drain(bounded(t)); err != nil {
		t.Fatal(err)
	}
	o.wait("a draining", false)
	if err := reg.Deregister(bounded(t)); err != nil {
		t.Fatal(err)
	}
	o.wait("", false)
	if err := reg.Err(); !errors.Is(err, registry.ErrDeregistered) {
		t.Errorf("afterwards: %v", err)
	}
	if err := reg.Heartbeat(bounded(t), nil); !errors.Is(err, registry.ErrDeregistered) {
		t.Errorf("heartbeat afterwards: %v", err)
	}
	if resp, err := c.Get(bounded(t), layout.Service.Dir(), clientv3.WithPrefix()); err != nil || len(resp.Kvs) != 1 {
		t.Errorf("left behind is not the note alone: %v, %v", resp, err)
	}
	f.Advance(time.Minute)
	if resp, err := c.Get(bounded(t), layout.Service.Dir(), clientv3.WithPrefix()); err != nil || len(resp.Kvs) != 0 {
		t.Errorf("left behind: %v, %v", resp, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if first, last := o.changes[0], o.changes[len(o.changes)-1]; first != "added a" || last != "removed a" {
		t.Errorf("the changes were %v", o.changes)
	}
}

// Whoever has seen enough is let go, by the first update and by a later one.
func TestWatchEndsWithItsLoop(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	ctx := bounded(t)
	for range r.Watch(ctx, "pay") {
		break
	}
	s := sessions(c)
	for update := range r.Watch(ctx, "pay") {
		if len(update.Instances()) > 0 {
			break
		}
		register(t, r, s, pay("a"))
	}
	if ctx.Err() != nil {
		t.Error("it took until its context ended")
	}
}

func TestWhatCannotBeRegistered(t *testing.T) {
	r := registry.New(clientv3.NewCtxClient(t.Context()), registry.Options{}) // asks nobody
	for want, in := range map[error]registry.Instance{
		registry.ErrNoAddress: {Service: "pay", ID: "a"},
		registry.ErrBadWeight: {Service: "pay", Addr: "h:1", Weight: 65536},
		registry.ErrBadName:   {Service: "", Addr: "h:1"},
		registry.ErrBadProbe: {Service: "pay", Addr: "h:1",
			Probe: &registry.Probe{Kind: registry.ProbeHTTP, Target: "h:1"}},
		registry.ErrBadState: {Service: "pay", Addr: "h:1", State: 9},
		registry.ErrTooLarge: {Service: "pay", Addr: "h:1", Load: make([]byte, 70000)},
	} {
		if _, err := r.Register(t.Context(), nil, in); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	for _, err := range r.Watch(t.Context(), strings.Repeat("x", 300)) {
		if !errors.Is(err, registry.ErrBadName) {
			t.Errorf("watch of a long name: %v", err)
		}
	}
}

func TestRegistersAgainInTheNextSession(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	o := observe(t, r, "pay")
	in := pay("a")
	in.Weight = 7
	reg := register(t, r, sessions(c), in)
	if err := reg.Heartbeat(bounded(t), []byte("l")); err != nil {
		t.Fatal(err)
	}
	before, err := r.List(bounded(t), "pay")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Revoke(bounded(t), clientv3.LeaseID(before[0].Lease)); err != nil {
		t.Fatal(err)
	}
	for ctx := bounded(t); ; time.Sleep(time.Millisecond) {
		after, err := r.List(ctx, "pay")
		if err != nil {
			t.Fatal(err)
		}
		if len(after) == 1 && after[0].Lease != before[0].Lease {
			if after[0].Weight != 7 || string(after[0].Load) != "l" || after[0].State != registry.StatePassing {
				t.Errorf("came back as %+v", after[0])
			}
			break
		}
	}
	o.wait("a passing", false)
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.Contains(o.changes, "removed a") {
		t.Errorf("the only instance vanished in between: %v", o.changes)
	}
}

// An order belongs to the instance: a session that is lost by the process only does not undo it.
func TestOrderSurvivesTheSession(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	first, second := newOwn(t, c, time.Minute), newOwn(t, c, time.Minute)
	reg := register(t, r, func(context.Context) (registry.Session, error) {
		select {
		case <-first.done:
			return second, nil
		default:
			return first, nil
		}
	}, pay("a"))
	if err := r.Drain(bounded(t), "pay", "a", "ops"); err != nil {
		t.Fatal(err)
	}
	if err := reg.DrainOrdered(bounded(t)); err != nil {
		t.Fatal(err)
	}
	o := observe(t, r, "pay")
	o.wait("a draining", false)
	close(first.done)
	for all := []*registry.Instance(nil); len(all) == 0 || all[0].Lease != int64(second.lease); {
		var err error
		if all, err = r.List(bounded(t), "pay"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Revoke(bounded(t), first.lease); err != nil {
		t.Fatal(err)
	}
	if all, err := r.List(bounded(t), "pay"); err != nil || text(all) != "a draining" {
		t.Errorf("in the next session %s, %v", text(all), err)
	}
	if err := r.Undrain(bounded(t), "pay", "a"); err != nil {
		t.Fatal(err)
	}
	o.wait("a passing", false)
	// What another process registers anew is not drained.
	if err := r.Drain(bounded(t), "pay", "a", "ops"); err != nil {
		t.Fatal(err)
	}
	register(t, r, always(newOwn(t, c, time.Minute)), pay("a"))
	o.wait("a passing", false)
	if err := r.Drain(bounded(t), "pay", "b", "ops"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("drain what is not there: %v", err)
	}
}

func TestDrainOrderedWaits(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	reg := register(t, r, sessions(c), pay("a"))
	ordered := make(chan error, 1)
	go func() { ordered <- reg.DrainOrdered(bounded(t)) }()
	select {
	case err := <-ordered:
		t.Fatalf("nobody ordered that: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := r.Drain(bounded(t), "pay", "a", "ops"); err != nil {
		t.Fatal(err)
	}
	if err := <-ordered; err != nil {
		t.Fatal(err)
	}
	if err := r.Undrain(bounded(t), "pay", "a"); err != nil {
		t.Fatal(err)
	}
	go func() { ordered <- reg.DrainOrdered(bounded(t)) }()
	if err := reg.Deregister(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-ordered; !errors.Is(err, registry.ErrDeregistered) {
		t.Errorf("ends with %v", err)
	}
}

// The note that an instance left stands where an order does, and is none.
func TestDeregistrationIsNoOrder(t *testing.T) {
	_, c := fake(t)
	reg := register(t, registry.New(stubborn{c}, quick), sessions(c), pay("a"))
	if err := reg.Deregister(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := reg.DrainOrdered(bounded(t)); !errors.Is(err, registry.ErrDeregistered) {
		t.Errorf("drained by %v", err)
	}
}

// stubborn is a client whose reads are answered, even if nobody waits for the answer any more: as fast as answers can
// be.
type stubborn struct{ *clientv3.Client }

// Get implements registry.Client.
func (s stubborn) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return s.Client.Get(context.WithoutCancel(ctx), key, opts...)
}

func TestTheLastToRegisterHasTheID(t *testing.T) {
	f, c := fake(t)
	r := registry.New(c, quick)
	old := register(t, r, always(newOwn(t, c, time.Minute)), pay("a"))
	in := pay("a")
	in.Addr = "10.0.0.2:80"
	next := register(t, r, always(newOwn(t, c, time.Minute)), in)
	if err := old.SetState(bounded(t), registry.StateCritical); !errors.Is(err, registry.ErrReplaced) {
		t.Errorf("the old one says %v", err)
	}
	<-old.Done()
	if err := old.Deregister(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if all, err := r.List(bounded(t),
		"pay"); err != nil || len(all) != 1 || all[0].Addr != in.Addr || all[0].State != registry.StatePassing {
		t.Errorf("the new one is %s, %v", text(all), err)
	}
	// Whoever deletes the key does not stop a process: its next word brings it back.
	if err := f.Overwrite(layout.InstanceKey("pay", "a"), nil); err != nil {
		t.Fatal(err)
	}
	if err := next.Heartbeat(bounded(t), nil); err != nil {
		t.Fatal(err)
	}
	if all, err := r.List(bounded(t), "pay"); err != nil || len(all) != 1 {
		t.Errorf("afterwards %s, %v", text(all), err)
	}
}

func TestSilenceIsCritical(t *testing.T) {
	_, c := fake(t)
	r := registry.New(c, quick)
	o := observe(t, r, "pay")
	reg := register(t, r, sessions(c), pay("a"), registry.MaxSilence(100*time.Millisecond))
	o.wait("a critical", false)
	o.mu.Lock()
	before := len(o.texts)
	o.mu.Unlock()
	eventually(t, func() string { // one heartbeat may be too old when it is written
		if err := reg.Heartbeat(bounded(t), nil); err != nil {
			t.Fatal(err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if !slices.Contains(o.texts[before:], "a passing") {
			return fmt.Sprintf("heartbeats change nothing: the watch has shown %q", o.texts)
		}
		return ""
	})
	o.wait("a critical", false)
}

func TestMassExpiryIsFlaggedAndEnds(t *testing.T) {
	f, c := fake(t)
	const keep = 4 * time.Second
	r := registry.New(c, registry.Options{Limits: registry.Limits{KeepStale: keep}, ReadTimeout: long})
	o := observe(t, r, "pay")
	for i := range 4 {
		register(t, r, always(newOwn(t, c, time.Minute)), pay(fmt.Sprint(i)))
	}
	o.wait("0 passing, 1 passing, 2 passing, 3 passing", false)
	began := time.Now()
	f.Advance(time.Hour)
	o.waitSeen("0 passing stale, 1 passing stale, 2 passing stale, 3 passing stale")
	if all, err := r.List(bounded(t), "pay"); err != nil || len(all) != 0 {
		t.Errorf("who asks for what is there gets %s, %v", text(all), err)
	}
	o.wait("", false) // after the bound
	if d := time.Since(began); d < keep {
		t.Errorf("it took %v", d)
	}
}

func TestWatchSurvivesAnOutage(t *testing.T) {
	f, c := fake(t)
	broken := newFaults(c)
	refresh := make(chan struct{})
	o := observe(t, registry.New(broken, impatient), "pay", registry.Refresh(refresh))
	o.wait("", false)
	r := registry.New(c, quick)
	register(t, r, sessions(c), pay("a"))
	o.wait("a passing", false)
	broken.readsFail.Store(true)
	refresh <- struct{}{}
	o.wait("a passing", true)
	register(t, r, sessions(c), pay("b"))
	broken.readsFail.Store(false)
	o.wait("a passing, b passing", false)

	f.Pause()
	refresh <- struct{}{}
	o.wait("a passing, b passing", true)
	f.Resume()
	o.wait("a passing, b passing", false)
}

// A watch that begins during an outage has what one member knows.
func TestWatchBeginsInAnOutage(t *testing.T) {
	f, c := fake(t)
	r := registry.New(c, impatient)
	register(t, r, sessions(c), pay("a"))
	f.Pause()
	o := observe(t, r, "pay")
	o.wait("a passing", true)
	f.Resume()
	o.wait("a passing", false)
}
