package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
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

// Visit is a party's time inside a barrier.
type Visit struct {
	Client     int
	Name       string
	Generation int64
	Token      int64 // of its entry
	// Entering is when it called, Entered when it was let in, Leaving when it called to leave; Left when it was let out, 0
	// if it was not seen to be.
	Entering, Entered, Leaving, Left int64
}

// Met checks the visits of barriers of so many parties, those that were let in. Calls are when anybody called to enter, whether
// it was let in or not. Of one generation there are at most so many visits, by different entries; nobody is let in before so
// many have called, nor out before all the others of its generation have called to leave, unless they may have died. died says
// from when on a party may have.
func Met(visits []Visit, calls map[string][]int64, parties int, died func(Visit) (int64, bool)) error {
	type meeting struct {
		name       string
		generation int64
	}
	meetings := make(map[meeting][]Visit)
	for _, v := range visits {
		m := meeting{v.Name, v.Generation}
		meetings[m] = append(meetings[m], v)
	}
	for m, all := range meetings {
		slices.SortFunc(all, func(a, b Visit) int { return cmp.Compare(a.Token, b.Token) })
		if distinct := slices.CompactFunc(slices.Clone(all), func(a, b Visit) bool { return a.Token == b.Token }); len(distinct) != len(all) || len(all) > parties {
			return fmt.Errorf("generation %d of %q has %d visits of %d entries, for %d parties", m.generation, m.name, len(all), len(distinct), parties)
		}
		for _, v := range all {
			if err := v.met(all, calls[m.name], parties, died); err != nil {
				return fmt.Errorf("generation %d of %q: %w", m.generation, m.name, err)
			}
		}
	}
	return nil
}

func (v Visit) met(all []Visit, calls []int64, parties int, died func(Visit) (int64, bool)) error {
	called := 0
	for _, at := range calls {
		if at <= v.Entered {
			called++
		}
	}
	if called < parties {
		return fmt.Errorf("entry %d was let in when %d of %d had called", v.Token, called, parties)
	}
	for _, o := range all {
		if o.Entering > v.Entered {
			return fmt.Errorf("entry %d was let in before entry %d called", v.Token, o.Token)
		}
		from, mayHave := died(o)
		if v.Left != 0 && (o.Leaving == 0 || o.Leaving > v.Left) && !(mayHave && from <= v.Left) {
			return fmt.Errorf("entry %d was let out while entry %d was inside", v.Token, o.Token)
		}
	}
	return nil
}
