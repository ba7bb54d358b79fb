package difftest

import (
	"bytes"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// shrinkTime bounds the search for a shorter sequence. Each try needs fresh servers.
const shrinkTime = 40 * time.Second

// shrink returns a shorter list of steps that still makes the servers differ, its run and the difference, or nil if it
// found none. Start starts fresh servers. A sequence whose difference needs what earlier sequences left behind does not
// shrink.
func shrink(steps []step, start func() (*pair, func(), error)) (*run, error) {
	var run *run
	var failure error
	deadline := time.Now().Add(shrinkTime)
	fails := func(steps []step) bool {
		p, stop, err := start()
		if err != nil {
			return false
		}
		defer stop()
		// A second sequence on a pair starts after a compaction, as most do.
		p.used = 1
		p.etcd.patience, p.subject.patience = 5*time.Second, 5*time.Second
		r, err := p.sequence(steps, newCoverage())
		if _, ok := err.(*difference); !ok {
			return false
		}
		run, failure = r, err
		return true
	}
	if !fails(steps) {
		return nil, nil
	}
	for size := len(steps) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(steps); {
			if time.Now().After(deadline) {
				return run, failure
			}
			shorter := append(append([]step(nil), steps[:i]...), steps[i+size:]...)
			if fails(shorter) {
				steps = shorter
			} else {
				i += size
			}
		}
	}
	return run, failure
}

// TestShrink damages the answers to deletes and demands that nothing but a delete is left of a sequence.
func TestShrink(t *testing.T) {
	t.Parallel()
	s := &saboteur{}
	s.damage.Store(&damage{answer: func(req, m proto.Message, err error) error {
		if a, ok := m.(*pb.DeleteRangeResponse); ok && !bytes.Equal(req.(*pb.DeleteRangeRequest).Key, []byte{0}) {
			a.Deleted++
		}
		return err
	}})
	steps := []step{{kindPut, 1}, {kindRange, 2}, {kindGrant, 3}, {kindDelete, 7}, {kindPut, 5}}
	run, err := shrink(steps, func() (*pair, func(), error) { return newPair(t, startEtcd, s.options()...) })
	if run == nil {
		t.Fatal("the damage was not noticed")
	}
	log := run.story("")
	if strings.Count(log, "-- step") != 1 || !strings.Contains(log, "-- step 0 delete") {
		t.Errorf("%v after\n%s", err, log)
	}
}
