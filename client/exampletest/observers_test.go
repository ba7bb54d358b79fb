package exampletest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coord-dev/coord/client"
	"github.com/coord-dev/coord/coord/coordtest"
)

// TestE3ObserversSeeOneSequence has observers through each member of a cluster while candidates lead, proclaim, resign
// and die. All see the same terms, leaders and values in the same order; none of them was slow, so none sees a gap.
func TestE3ObserversSeeOneSequence(t *testing.T) {
	const name, last = "watched", "the last one"
	cluster := coordtest.Start(t, coordtest.Options{Members: 3})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	dial := func(connected func(string), endpoints ...string) *client.Client {
		c, err := client.New(client.Config{Endpoints: endpoints, Hooks: client.Hooks{OnConnect: connected}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var observers sync.WaitGroup
	seen, connects := make([][]client.Observation, 3), make([]atomic.Int64, 3)
	begun := make(chan struct{}, len(seen))
	for i, endpoint := range cluster.Endpoints() {
		election := dial(func(string) { connects[i].Add(1) }, endpoint).Election(name)
		observers.Go(func() {
			for o, err := range election.Observe(ctx) {
				if err != nil {
					t.Errorf("observer %d: %v", i, err)
					return
				}
				if seen[i] = append(seen[i], o); len(seen[i]) == 1 {
					begun <- struct{}{}
				}
				if string(o.Leader.Value) == last {
					return
				}
			}
		})
	}
	for range seen {
		<-begun
	}
	var candidates sync.WaitGroup
	for i := range 3 {
		c := dial(nil, cluster.Endpoints()...)
		candidates.Go(func() {
			for turn := range 10 {
				s, err := c.NewSession(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				term, err := s.Election(name).Campaign(ctx, fmt.Appendf(nil, "%d.%d", i, turn))
				if err != nil {
					t.Error(err)
					return
				}
				for p := range turn % 3 {
					if err := term.Proclaim(ctx, fmt.Appendf(nil, "%d.%d.%d", i, turn, p)); err != nil {
						t.Error(err)
					}
				}
				if turn%2 == 0 {
					if err := term.Resign(ctx); err != nil {
						t.Error(err)
					}
				}
				if err := s.Close(ctx); err != nil { // which ends the term as an expiry would
					t.Error(err)
				}
			}
		})
	}
	candidates.Wait()
	if _, err := dial(nil, cluster.Endpoints()...).Election(name).Campaign(ctx, []byte(last)); err != nil {
		t.Fatal(err)
	}
	observers.Wait()
	for i := range connects { // for two seconds nothing came from the member: the machine stood still
		if n := connects[i].Load(); n > 1 {
			t.Skipf("observer %d connected %d times, which makes gaps", i, n)
		}
	}
	for i, mine := range seen {
		for k, o := range mine {
			if o.Gap {
				t.Errorf("observer %d: observation %d has a gap", i, k)
			}
			if k < len(seen[0]) &&
				(o.Revision != seen[0][k].Revision && k > 0 || o.Leader.Term != seen[0][k].Leader.Term ||
					!bytes.Equal(o.Leader.Value, seen[0][k].Leader.Value)) {
				t.Fatalf("observation %d of observer %d is %+v, of observer 0 %+v", k, i, o, seen[0][k])
			}
			if k > 0 && o.Leader.Term != 0 && o.Leader.Term < mine[k-1].Leader.Term {
				t.Errorf("observer %d: term %d after %d", i, o.Leader.Term, mine[k-1].Leader.Term)
			}
		}
		if len(mine) != len(seen[0]) {
			t.Errorf("observer %d saw %d states, observer 0 %d", i, len(mine), len(seen[0]))
		}
	}
	// 30 terms, their proclamations, and the last one.
	if len(seen[0]) < 30+27+1 {
		t.Errorf("only %d states were seen", len(seen[0]))
	}
}
