package recipes

import (
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/proto/layout"
	"github.com/coord-dev/coord/statemachine"
)

// Reactor does in the commit that removed an entry, whatever it was, what a kind of queue writes down then: an election
// with priorities has its next leader, entries are counted, a barrier's generation is over. It is part of Program.
//
// Where that cannot be done the queue is broken, see statemachine.BrokenQueue: nobody is granted anything in it. The
// next deletion of one of its keys tries again, as does whoever wants to enter it, who is refused until it succeeds.
// What stands in the way can be deleted, or put right, by hand.
func Reactor() statemachine.Reactor { return reactor{} }

type reactor struct{}

var reserved = []byte(layout.Reserved)

// leftBehind is a rule that writes when a key of its queue was deleted.
type leftBehind interface {
	// left gets what the keys were. In a queue that is broken it relies on nothing that is written down: it may have
	// missed others.
	left(step statemachine.Step, queue string, were []*mvccpb.KeyValue) error
}

// Prefix implements statemachine.Reactor.
func (reactor) Prefix() []byte { return reserved }

// QueueOf implements statemachine.Reactor.
func (reactor) QueueOf(key []byte) string {
	queue, _ := layout.QueueOfKey(string(key))
	return queue
}

// Deleted implements statemachine.Reactor.
func (reactor) Deleted(step statemachine.Step, queue string, were []*mvccpb.KeyValue) error {
	if rule, ok := RuleOf(queue).(leftBehind); ok {
		return rule.left(step, queue, were)
	}
	return nil
}

// mended has done, before anybody enters a queue, what a reaction could not do.
func mended(step statemachine.Step, queue string) error {
	if !step.Broken(queue) {
		return nil
	}
	err := reactor{}.Deleted(step, queue, nil)
	switch {
	case errors.Is(err, statemachine.ErrNoSpace):
		return err // it passes
	case err != nil:
		return statemachine.NewQueueBroken(queue, err)
	}
	step.Mend(queue)
	step.NextRevision() // what was written is likely to be written again
	return nil
}
