package registry

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/proto/instances"
)

// Only so many results in a row change a verdict; the first success makes one.
func TestFlapsAreDamped(t *testing.T) {
	for _, c := range []struct {
		begin   instances.State
		results string // + success, - failure
		want    string // verdict after each: p passing, c critical, . none
	}{
		{0, "+", "p"},
		{0, "---", "..c"},
		{0, "--+", "..p"},
		{instances.Passing, "--+--+---", "ppppppppc"},
		{instances.Passing, "-+-+-+-+", "pppppppp"},
		{instances.Critical, "+-+-++", "cccccp"},
		{instances.Critical, "++---++", "cpppccp"},
	} {
		target := &target{
			term: &term{
				Prober: NewProber(Backend{Logger: zap.NewNop()}, NewPolicy(nil, nil, true), ProbeLimits{}),
			}, verdict: c.begin,
			in: &instances.Instance{Probe: &instances.Probe{Failures: 3, Successes: 2}},
		}
		got := ""
		for _, r := range c.results {
			var err error
			if r == '-' {
				err = errors.New("no")
			}
			target.count(err)
			got += map[instances.State]string{0: ".", instances.Passing: "p", instances.Critical: "c"}[target.verdict]
		}
		if got != c.want {
			t.Errorf("from %s by %s it goes %s, want %s", c.begin, c.results, got, c.want)
		}
		if target.verdict == instances.Critical && target.detail == "" || target.since.After(time.Now()) {
			t.Errorf("%s: since %v, because of %q", c.results, target.since, target.detail)
		}
	}
}
