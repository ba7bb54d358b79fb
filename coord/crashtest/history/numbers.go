package history

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// Number is an operation on a counter or on a sequence.
type Number struct {
	Client  int
	Name    string
	N       int64 // added to the counter; how many ids of the sequence
	Result  int64 // the counter's value after it; the first of the ids
	Outcome Outcome
	Call    int64
	Return  int64 // math.MaxInt64 where nobody saw it return
}

// Counted checks the additions to each counter: each was executed once, between its call and its return. What is not acknowledged
// was executed once, later than its call, or never.
func Counted(ops []Number, patience time.Duration) error {
	return numbered(ops, patience, "a counter", func(value int64, op Number) []int64 {
		switch {
		case op.Outcome != OK:
			return []int64{value, value + op.N}
		case op.Result == value+op.N:
			return []int64{op.Result}
		}
		return nil
	})
}

// Sequenced checks what was taken from each sequence: no id twice, later ones greater, and none left out but by those that were
// not acknowledged.
func Sequenced(ops []Number, patience time.Duration) error {
	return numbered(ops, patience, "a sequence", func(last int64, op Number) []int64 {
		switch {
		case op.Outcome != OK:
			return []int64{last, last + op.N}
		case op.Result == last+1:
			return []int64{last + op.N}
		}
		return nil
	})
}

// numbered hands the operations of each name to porcupine, with a number that begins at 0 as the model.
func numbered(ops []Number, patience time.Duration, what string, after func(int64, Number) []int64) error {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{int64(0)} },
		Step: func(state, in, _ any) (next []any) {
			for _, value := range after(state.(int64), in.(Number)) {
				next = append(next, value)
			}
			return next
		},
	}
	byName := make(map[string][]porcupine.Operation)
	for _, op := range ops {
		if op.Outcome == Refused {
			continue // it had no effect
		}
		if op.Outcome != OK {
			op.Return = math.MaxInt64
		}
		byName[op.Name] = append(byName[op.Name], porcupine.Operation{ClientId: op.Client, Call: op.Call, Return: op.Return, Input: op})
	}
	for name, ops := range byName {
		switch porcupine.CheckOperationsTimeout(model.ToModel(), ops, patience) {
		case porcupine.Illegal:
			return fmt.Errorf("the history of %q, %d operations, is not that of %s", name, len(ops), what)
		case porcupine.Unknown:
			return fmt.Errorf("the history of %q, %d operations, could not be judged within %v", name, len(ops), patience)
		}
	}
	return nil
}
