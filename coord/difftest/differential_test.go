package difftest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
)

const (
	// defaultSequences is the number of sequences of a run in CI.
	defaultSequences = 2000
	// coverageSequences is the least number of sequences after which everything required must have been reached.
	coverageSequences = 1000
	// spareTime is what is left of -timeout when a run gives up, for a report instead of a panic.
	spareTime = 90 * time.Second
	// parallelPairs is the number of pairs at work at a time. Most of a sequence is waiting, much of it for etcd's
	// 100 ms between two looks at the watchers that are behind.
	parallelPairs = 8
	// sequencesPerPair is how many sequences a pair runs before fresh servers take over.
	sequencesPerPair = 80
	// leastSteps is the length of the shortest sequence.
	leastSteps = 50
)

// newPair starts etcd and a subject.
func newPair(t testing.TB, subject func(testing.TB) (string, func()), opts ...grpc.DialOption) (*pair, func(), error) {
	etcdAddr, stopEtcd := startEtcd(t)
	subjectAddr, stopSubject := subject(t)
	stop := func() {
		stopSubject()
		stopEtcd()
	}
	p := &pair{env: newEnv()}
	var err1, err2 error
	p.etcd, err1 = dial("etcd", etcdAddr)
	p.subject, err2 = dial("subject", subjectAddr, opts...)
	if err := errors.Join(err1, err2); err != nil {
		stop()
		return nil, nil, err
	}
	return p, func() {
		p.etcd.conn.Close()
		p.subject.conn.Close()
		stop()
	}, nil
}

func setting(t *testing.T, name string, fallback uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, text, err)
	}
	return v
}

// TestDifferential runs random sequences against etcd and the subject.
func TestDifferential(t *testing.T) {
	seed := setting(t, "COORD_DIFF_SEED", uint64(time.Now().UnixNano())%1_000_000_000)
	sequences := setting(t, "COORD_DIFF_SEQUENCES", defaultSequences)
	t.Logf("seeds %d to %d (COORD_DIFF_SEED, COORD_DIFF_SEQUENCES)", seed, seed+sequences-1)
	start := time.Now()
	c := &campaign{t: t, seed: seed, sequences: sequences, cov: newCoverage()}
	var workers sync.WaitGroup
	for range min(parallelPairs, sequences) {
		workers.Go(c.work)
	}
	workers.Wait()
	t.Logf("%d sequences in %v; rarest: %s", c.done.Load(), time.Since(start).Round(time.Millisecond),
		c.cov.rarest(required(), 12))
	if c.cut.Load() && !t.Failed() {
		t.Errorf("-timeout leaves no time for all %d sequences", sequences)
	}
	if t.Failed() {
		return
	}
	if missing := c.cov.missing(required()); len(missing) > 0 && sequences >= coverageSequences {
		t.Errorf("never reached:\n  %s", strings.Join(missing, "\n  "))
	}
}

// campaign is one run of TestDifferential.
type campaign struct {
	t               *testing.T
	seed, sequences uint64
	cov             *coverage
	next, done      atomic.Uint64
	failures        atomic.Int64
	// cut is set when the run ended before its last sequence.
	cut atomic.Bool
}

// maxFailures is the number of differing sequences after which a run stops.
const maxFailures = 3

// work runs sequences on one pair after the other until none is left.
func (c *campaign) work() {
	for more := true; more && c.next.Load() < c.sequences; {
		// A test of its own removes the files of its servers when it ends.
		c.t.Run("pair", func(t *testing.T) { more = c.onePair(t) })
	}
}

// over says that no further sequence should be started, although there is one left.
func (c *campaign) over() bool {
	deadline, limited := c.t.Deadline()
	if c.failures.Load() >= maxFailures || limited && time.Until(deadline) < spareTime {
		c.cut.Store(true)
	}
	return c.cut.Load()
}

// onePair runs sequences on a fresh pair; it returns false when the run is over.
func (c *campaign) onePair(t *testing.T) bool {
	p, stop, err := newPair(t, startSubject)
	if err != nil {
		t.Error(err)
		return false
	}
	defer stop()
	for range sequencesPerPair {
		i := c.next.Add(1) - 1
		if i >= c.sequences || c.over() {
			return false
		}
		seed := c.seed + i
		r, err := p.sequence(generate(seed), c.cov)
		switch {
		case errors.Is(err, errTooSlow):
			t.Logf("seed %d: %v", seed, err)
			return true
		case err != nil:
			c.fail(t, seed, r, err)
			return true
		}
		c.done.Add(1)
	}
	return true
}

// fail reports a difference, and the first one also in the shortest form that can be found.
func (c *campaign) fail(t *testing.T, seed uint64, r *run, err error) {
	first := c.failures.Add(1) == 1
	text := report(seed, r, err)
	if first {
		if short, err := shrink(generate(seed), func() (*pair, func(), error) {
			return newPair(t, startSubject)
		}); short != nil {
			text += "\n\nshorter: " + report(seed, short, err)
		}
	}
	t.Error(text)
}

// report tells a difference with all that led to it.
func report(seed uint64, r *run, err error) string {
	return fmt.Sprintf("seed %d (repeat: COORD_DIFF_SEED=%d COORD_DIFF_SEQUENCES=1): %v\nthe sequence, with etcd's "+
		"answers:\n%s",
		seed, seed, err, r.story("  "))
}
