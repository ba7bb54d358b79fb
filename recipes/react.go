package recipes

import (
	"github.com/coord-dev/coord/statemachine"
)

// Reactor does in the commit that removed an entry, whatever it was, what a kind of queue writes down then: an election with
// priorities has its next leader, a barrier's generation is over. It is for statemachine.Options.
func Reactor() statemachine.Reactor { return reactor{} }

type reactor struct{}

// leftBehind is a rule that writes when a key of its queue was deleted.
type leftBehind interface {
	left(step statemachine.Step, queue string)
}

// Prefix implements statemachine.Reactor.
func (reactor) Prefix() []byte { return []byte(Reserved) }

// Deleted implements statemachine.Reactor.
func (reactor) Deleted(step statemachine.Step, key []byte) {
	queue, _ := QueueOfKey(string(key))
	if rule, ok := RuleOf(queue).(leftBehind); ok {
		rule.left(step, queue)
	}
}
