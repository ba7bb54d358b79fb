package limit

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
)

// Below half everybody gets what it asks for; from there on whoever holds more than a fair share is refused, and others
// go on; the bound is reached exactly and not exceeded.
func TestFairShare(t *testing.T) {
	p := NewPool("things", 1000, "do less")
	greedy, modest := p.Holder(), p.Holder()
	if err := greedy.Take(500); err != nil {
		t.Fatal(err)
	}
	var full *Full
	if err := greedy.Take(1); !errors.As(err, &full) || full.Held != 500 || full.Asked != 1 || full.Bound != 1000 {
		t.Fatalf("above half, with more than its share: %v", err)
	}
	for _, word := range []string{"things", "500", "1000", "do less"} {
		if !strings.Contains(full.Error(), word) {
			t.Errorf("%q does not say %q", full, word)
		}
	}
	if err := modest.Take(250); err != nil { // half of the other half: there are two
		t.Error(err)
	}
	if err := modest.Take(1); err == nil {
		t.Error("more than its share")
	}
	if !greedy.Greedy(nil) || modest.Greedy(nil) || greedy.Over() {
		t.Error("greedy is who holds more than its share")
	}
	third := p.Holder()
	if err := third.Take(166); err != nil {
		t.Error(err)
	}
	if err := third.Take(1); err == nil {
		t.Error("a third of the other half, and one more")
	}
	third.Force(84) // the bound, exactly
	if greedy.Over() {
		t.Error("over at the bound")
	}
	third.Force(1)
	if !greedy.Over() || modest.Take(0) == nil {
		t.Error("above the bound")
	}
	greedy.GiveAll()
	third.Give(2)
	if err := modest.Take(1); err != nil {
		t.Errorf("after the greedy one went: %v", err)
	}
	modest.GiveAll()
	third.Give(249)
	if p.Used() != 0 || p.mu.holders != 0 {
		t.Errorf("%d by %d are left", p.Used(), p.mu.holders)
	}
	if err := third.Take(5000); err != nil {
		t.Errorf("one alone: %v", err)
	}
}

// Who waits is called once, when something was given back and there is room, and not before: not at once where it asks
// for more than is left.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool("things", 100, "")
		h, other := p.Holder(), p.Holder()
		called := 0
		h.Force(50)
		if h.Greedy(func() { called += 100 }) || h.TakeOr(1, func() { called++ }) == nil {
			t.Error("greedy at half, or room above it")
		}
		synctest.Wait()
		if called != 0 {
			t.Errorf("called %d without room", called)
		}
		other.Force(20)
		if !h.Greedy(func() { called += 10 }) {
			t.Error("not greedy")
		}
		h.Give(19)
		synctest.Wait()
		if called != 0 {
			t.Errorf("called %d above half", called)
		}
		h.Give(1)
		h.Give(1)
		synctest.Wait()
		if called != 11 {
			t.Errorf("called %d with room", called)
		}
	})
}

// Who has no pool is not bounded.
func TestNil(t *testing.T) {
	var p *Pool
	h := p.Holder()
	if err := h.Take(1 << 60); err != nil || h.Greedy(nil) || h.Over() {
		t.Error("a nil pool has a bound")
	}
	h.Force(1)
	h.Give(1)
	h.GiveAll()
	h.Refused()
}

func TestMember(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, err := NewMember(0, registry)
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, p := range []*Pool{m.Watchers, m.Events, m.Channels, m.Requests, m.Responses, m.Calls} {
		sum += p.bound
	}
	if sum > DefaultBytes {
		t.Errorf("%d of %d", sum, DefaultBytes)
	}
	if families, err := registry.Gather(); err != nil || len(families) != 3 || len(families[0].Metric) != 6 {
		t.Errorf("metrics %v, %v", families, err)
	}
}

// What is small has a quarter more; who holds more than its share goes at once when twice the bound is used.
func TestBeyondTheBound(t *testing.T) {
	p := NewPool("things", 1000, "")
	greedy, modest := p.Holder(), p.Holder()
	greedy.Force(1000)
	if !modest.TakeSpare(250) || modest.TakeSpare(1) || greedy.TakeSpare(1) || p.Used() != 1250 {
		t.Errorf("%d are used", p.Used())
	}
	greedy.Force(750)
	if greedy.FarOver() {
		t.Error("far over at twice the bound")
	}
	if greedy.Force(1); !greedy.FarOver() || modest.FarOver() {
		t.Error("far over is who holds more than its share beyond twice the bound")
	}
}
