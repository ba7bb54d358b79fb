package recipes

import (
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/statemachine"
)

// Guard says whether a grant holds: the entry exists with this token, its lease is alive, and it holds; a waiter's
// entry has a token, too. It is part of Program.
func Guard(step statemachine.Step, g *coordv1.Guard) bool {
	queue, err := checkEntry(g.GetName(), g.GetKey(), g.GetToken())
	if err != nil {
		return false
	}
	e, ok := entryOf(queue, step.Get([]byte(g.Key)))
	return ok && holds(step, queue, e, g.Token)
}

// holds says whether the entry holds with this token, and its lease is alive.
func holds(step statemachine.Step, queue string, e Entry, token int64) bool {
	return !e.Lingers && step.LeaseAlive(e.Lease) && RuleOf(queue).Holds(step, queue, e, token)
}
