package history

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// Count is one operation on a counter: Delta was added, or it was only read if that is 0, and it had Value then. A
// sequence is a counter that each range of numbers is added to, and Value is the last one of the range. An outcome is
// OK, or Unknown: then Value says nothing, and Delta was added at some time from Call on, or never.
type Count struct {
	Client       int
	Name         string
	Delta, Value int64
	Outcome      Outcome
	Call, Return int64
}

// LinearizableCounts checks the operations name by name: that there is an order in which each was executed once,
// between its call and its return. It returns an error that says which name's history is wrong, or could not be judged
// within patience.
func LinearizableCounts(counts []Count, patience time.Duration) error {
	byName := make(map[string][]porcupine.Operation)
	for _, c := range counts {
		if c.Outcome != OK {
			c.Return = math.MaxInt64 // it can be last, where nobody sees that it did nothing
		}
		byName[c.Name] = append(byName[c.Name], porcupine.Operation{
			ClientId: c.Client, Call: c.Call, Return: c.Return, Input: c,
		})
	}
	model := porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(state, in, _ any) (bool, any) {
			c := in.(Count)
			sum := state.(int64) + c.Delta
			return c.Outcome != OK || sum == c.Value, sum
		},
	}
	for name, ops := range byName {
		switch porcupine.CheckOperationsTimeout(model, ops, patience) {
		case porcupine.Illegal:
			return fmt.Errorf("the history of %q, %d operations, is not that of a counter", name, len(ops))
		case porcupine.Unknown:
			return fmt.Errorf("the history of %q, %d operations, could not be judged within %v", name, len(ops),
				patience)
		}
	}
	return nil
}
