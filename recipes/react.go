package recipes

import (
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/coord-dev/coord/statemachine"
)

// Reactor does in the commit that removed an entry, whatever it was, what a kind of queue writes down then: an election with
// priorities has its next leader, entries are counted, a barrier's generation is over. It is for statemachine.Options.
func Reactor() statemachine.Reactor { return reactor{} }

type reactor struct{}

// leftBehind is a rule that writes when a key of its queue was deleted.
type leftBehind interface {
	// left gets what the keys were.
	left(step statemachine.Step, queue string, were []*mvccpb.KeyValue)
}

// Prefix implements statemachine.Reactor.
func (reactor) Prefix() []byte { return []byte(Reserved) }

// Deleted implements statemachine.Reactor.
func (reactor) Deleted(step statemachine.Step, were []*mvccpb.KeyValue) {
	var queues []string // in order
	byQueue := map[string][]*mvccpb.KeyValue{}
	for _, kv := range were {
		queue, _ := QueueOfKey(string(kv.Key))
		if byQueue[queue] == nil {
			queues = append(queues, queue)
		}
		byQueue[queue] = append(byQueue[queue], kv)
	}
	for _, queue := range queues {
		if rule, ok := RuleOf(queue).(leftBehind); ok {
			rule.left(step, queue, byQueue[queue])
		}
	}
}
