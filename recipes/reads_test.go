package recipes_test

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/recipes"
	"github.com/coord-dev/coord/recipes/recipestest"
	"github.com/coord-dev/coord/statemachine"
)

// countingStep counts the keys that a procedure reads.
type countingStep struct {
	statemachine.Step
	read int
}

func (s *countingStep) counted(fn func(*mvccpb.KeyValue) bool) func(*mvccpb.KeyValue) bool {
	return func(kv *mvccpb.KeyValue) bool {
		s.read++
		return fn(kv)
	}
}

func (s *countingStep) Get(key []byte) *mvccpb.KeyValue {
	s.read++
	return s.Step.Get(key)
}

func (s *countingStep) Scan(key, end []byte, fn func(*mvccpb.KeyValue) bool) {
	s.Step.Scan(key, end, s.counted(fn))
}

func (s *countingStep) Children(parent []byte, fn func(*mvccpb.KeyValue) bool) {
	s.Step.Children(parent, s.counted(fn))
}

func (s *countingStep) ChildrenFrom(parent []byte, from int64, fn func(*mvccpb.KeyValue) bool) {
	s.Step.ChildrenFrom(parent, from, s.counted(fn))
}

// TestLongQueuesAreNotRead: with very many who hold and wait, what a procedure, a guard or a reaction scans does not
// grow with them.
func TestLongQueuesAreNotRead(t *testing.T) {
	const many, most = 1000, 8
	s := recipestest.New()
	s.Leases[1], s.Sessions[1] = true, true
	sequence := uint64(0)
	acquire := func(kind coordv1.Kind, req proto.Message) *coordv1.AcquiredEntry {
		t.Helper()
		sequence++
		resp := &coordv1.Acquired{}
		must(t, s.Request(1, sequence, kind, req, resp))
		return resp.Entries[0]
	}
	var permits, readers []*coordv1.AcquiredEntry
	for i := range many {
		owner := fmt.Sprint(i)
		permits = append(permits, acquire(coordv1.Kind_KIND_SEMAPHORE_ACQUIRE, &coordv1.SemaphoreAcquire{
			Name: "s", OwnerId: owner, Permits: 1, Limit: many / 2,
		}))
		readers = append(readers, acquire(coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "r", OwnerId: owner}))
		acquire(coordv1.Kind_KIND_BARRIER_ENTER, &coordv1.BarrierEnter{Name: "b", OwnerId: owner, Parties: many})
		acquire(coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "e", OwnerId: owner, Priority: 1})
	}
	acquire(coordv1.Kind_KIND_RW_ACQUIRE, &coordv1.RWAcquire{Name: "r", OwnerId: "writer", Write: true})
	run := func(procedure string, req proto.Message) func(*countingStep) error {
		return func(step *countingStep) error {
			for _, p := range recipes.Procedures() {
				if p.Name() == procedure {
					body, err := proto.Marshal(req)
					must(t, err)
					_, err = p.Run(step, body)
					return err
				}
			}
			return fmt.Errorf("no procedure %s", procedure)
		}
	}
	force := func(kind coordv1.QueueKind, name string, token int64) func(*countingStep) error {
		return run(recipes.ForceRelease, &coordv1.ForceReleaseRequest{
			Kind: kind, Name: name, Token: token, Reason: "test",
		})
	}
	guard := func(name string, e *coordv1.AcquiredEntry) func(*countingStep) error {
		return func(step *countingStep) error {
			if !recipes.Guard(step, &coordv1.Guard{Name: name, Key: e.Key, Token: e.Token}) {
				return recipes.ErrNotHolder
			}
			return nil
		}
	}
	released := func(e *coordv1.AcquiredEntry) func(*countingStep) error {
		return func(step *countingStep) error {
			kv := step.Get([]byte(e.Key))
			if _, err := step.Delete([]byte(e.Key)); err != nil {
				return err
			}
			queue, _ := layout.QueueOfKey(e.Key)
			return recipes.Reactor().Deleted(step, queue, []*mvccpb.KeyValue{kv})
		}
	}
	for _, c := range []struct {
		what    string
		do      func(*countingStep) error
		refused bool
	}{
		{"a resize to more", run(recipes.Resize, &coordv1.SemaphoreResize{Name: "s", Limit: many/2 + 3}), false},
		{"a resize to less", run(recipes.Resize, &coordv1.SemaphoreResize{Name: "s", Limit: 2, Drain: true}), false},
		{"the guard of the newest who has permits", guard("s", permits[many/2-1]), false},
		{"the guard of the oldest who waits for permits", guard("s", permits[many/2]), true},
		{"the guard of the newest reader", guard("r", readers[many-1]), false},
		{"permits released", released(permits[7]), false},
		{"a reader released", released(readers[7]), false},
		{"permits released by force", force(coordv1.QueueKind_QUEUE_SEMAPHORE, "s", permits[many/2-1].Token), false},
		{"permits released by force of who waits", force(coordv1.QueueKind_QUEUE_SEMAPHORE, "s", permits[many/2].Token),
			true},
		{"permits released by force, and it is not said whose", force(coordv1.QueueKind_QUEUE_SEMAPHORE, "s", 0), true},
		{"a reader released by force", force(coordv1.QueueKind_QUEUE_RWLOCK, "r", readers[many/2].Token), false},
		{"a party released by force, and it is not said which", force(coordv1.QueueKind_QUEUE_BARRIER, "b", 0), true},
		{"a leader released by force", force(coordv1.QueueKind_QUEUE_PRIORITY_ELECTION, "e", 0), false},
		{"a leader asked", run(recipes.AskRelease, &coordv1.AskRelease{Name: "e", Priority: 1}), false},
	} {
		step := &countingStep{Step: s.Step()}
		undone := fmt.Errorf("undone")
		var err error
		_ = step.Attempt(func() error {
			err = c.do(step)
			return undone
		})
		if refused := err != nil; refused != c.refused {
			t.Errorf("%s: %v", c.what, err)
		}
		if step.read > most {
			t.Errorf("%s reads %d keys, more than %d", c.what, step.read, most)
		}
	}
}

// TestTransferIsBounded: a transfer over as many candidates as it may move moves them, however often; over one more it
// is refused, and nothing has moved.
func TestTransferIsBounded(t *testing.T) {
	s := recipestest.New()
	s.Leases[1], s.Sessions[1] = true, true
	sequence := uint64(0)
	campaign := func(owner string) *coordv1.AcquiredEntry {
		t.Helper()
		sequence++
		resp := &coordv1.Acquired{}
		must(t, s.Request(1, sequence, coordv1.Kind_KIND_CAMPAIGN, &coordv1.Campaign{Name: "e", OwnerId: owner}, resp))
		return resp.Entries[0]
	}
	var candidates []*coordv1.AcquiredEntry
	for i := range recipes.MaxMoved + 3 {
		candidates = append(candidates, campaign(fmt.Sprint("c", i)))
	}
	transfer := func(to *coordv1.AcquiredEntry) error {
		sequence++
		return s.Request(1, sequence, coordv1.Kind_KIND_TRANSFER, &coordv1.Transfer{Name: "e", To: to.Key},
			&coordv1.Transferred{})
	}
	before := s.Rev
	err := transfer(candidates[recipes.MaxMoved+2])
	if !errors.Is(err, recipes.ErrTooManyMoved) || s.Rev != before {
		t.Errorf("over too many: %v, revision %d after %d", err, s.Rev, before)
	}
	must(t, transfer(candidates[recipes.MaxMoved+1]))
	must(t, transfer(candidates[recipes.MaxMoved+2]))
	must(t, transfer(candidates[recipes.MaxMoved]))
}
