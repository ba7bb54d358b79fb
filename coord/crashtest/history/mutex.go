package history

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kind is what an operation did.
type Kind string

// The kinds of operations on one name.
const (
	Acquire Kind = "acquire" // waits; Token is what was granted
	Try     Kind = "try"     // never waits
	Release Kind = "release"
	Guarded Kind = "guarded" // a write that is executed only while the grant holds
)

// Outcome is how an operation ended.
type Outcome string

// The outcomes. An operation without one is as if Unknown: its process died.
const (
	OK      Outcome = "ok"
	Refused Outcome = "refused" // busy (try), not held any more (release), fenced (guarded), given up (acquire)
	Unknown Outcome = "unknown" // it may have happened, now or later
)

// Op is one operation of a client.
type Op struct {
	Client  int
	Kind    Kind
	Name    string
	Token   int64 // granted by Acquire and Try, used by Release and Guarded
	Outcome Outcome
	Call    int64
	Return  int64 // math.MaxInt64 where nobody saw it return
}

// Expiry says from which instant on the session behind a grant may have ended, by name and token. A grant that is missing
// never lost its session.
type Expiry map[Grant]int64

// Grant names one grant.
type Grant struct {
	Name  string
	Token int64
}

// mutex is the state of one name: who holds it (0: nobody) and the greatest token ever granted.
type mutex struct{ holder, highest int64 }

// input is an operation as the model sees it. vague: others may have stood in the queue unseen, so that finding the lock
// taken proves nothing.
type input struct {
	Op
	vague bool
}

// Linearizable checks the operations name by name. It returns an error that says which name's history is wrong, or could
// not be judged within patience.
func Linearizable(ops []Op, expiry Expiry, patience time.Duration) error {
	byName := make(map[string][]Op)
	for _, op := range ops {
		byName[op.Name] = append(byName[op.Name], op)
	}
	for name, ops := range byName {
		model := fencedMutex(name, expiry)
		switch porcupine.CheckOperationsTimeout(model, operations(ops), patience) {
		case porcupine.Illegal:
			return fmt.Errorf("the history of %q, %d operations, is not that of a fenced mutex", name, len(ops))
		case porcupine.Unknown:
			return fmt.Errorf("the history of %q, %d operations, could not be judged within %v", name, len(ops), patience)
		}
	}
	return nil
}

// operations leaves out what tells nothing: operations that had no effect by their own account, and failed reads of one.
func operations(ops []Op) []porcupine.Operation {
	var out []porcupine.Operation
	for _, op := range ops {
		if op.Outcome == "" {
			op.Outcome = Unknown
		}
		if op.Outcome == Unknown {
			op.Return = math.MaxInt64
		}
		switch {
		case op.Kind == Acquire && op.Outcome != OK, op.Kind == Try && op.Outcome == Unknown, op.Kind == Guarded && op.Outcome == Unknown:
			continue // it may have held for a moment that nobody saw; see vague
		}
		out = append(out, porcupine.Operation{
			ClientId: op.Client, Call: op.Call, Return: op.Return, Input: input{op, vague(op, ops)}, Output: op.Outcome,
		})
	}
	return out
}

// grace is how long after its end a request that was given up, or whose session died, may still stand in the queue.
const grace = int64(5 * time.Second)

// vague says whether somebody else's request may have been in the queue during op without a grant that anybody was told of: one
// that was given up, or one that was under way, for a session that dies is replaced and queues again.
func vague(op Op, ops []Op) bool {
	if op.Kind != Try || op.Outcome != Refused {
		return false
	}
	for _, o := range ops {
		end := o.Return
		if o.Outcome != OK && end < math.MaxInt64-grace {
			end += grace
		}
		asked := o.Kind == Acquire || o.Kind == Try
		if o != op && asked && o.Call <= op.Return && end >= op.Call {
			return true
		}
	}
	return false
}

func fencedMutex(name string, expiry Expiry) porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{mutex{}} },
		Step: func(state, in, out any) []any {
			return step(state.(mutex), in.(input), out.(Outcome), func(token, now int64) bool {
				from, ended := expiry[Grant{name, token}]
				return ended && from <= now
			})
		},
	}
	return model.ToModel()
}

// step returns every state that may follow. expired says whether the session behind a token may have ended before an instant.
func step(s mutex, in input, out Outcome, expired func(token, now int64) bool) (next []any) {
	states := []mutex{s}
	if s.holder != 0 && expired(s.holder, in.Return) {
		states = append(states, mutex{0, s.highest})
	}
	for _, s := range states {
		for _, after := range s.after(in, out) {
			next = append(next, after)
		}
	}
	return next
}

// after is the state after an operation, or none if it is impossible in s.
func (s mutex) after(in input, out Outcome) []mutex {
	holds := s.holder == in.Token && in.Token != 0
	switch {
	case (in.Kind == Acquire || in.Kind == Try) && out == OK:
		if s.holder == 0 && in.Token > s.highest {
			return []mutex{{in.Token, in.Token}}
		}
	case in.Kind == Try && out == Refused:
		if s.holder != 0 || in.vague {
			return []mutex{s}
		}
	case in.Kind == Release && out == OK:
		if holds {
			return []mutex{{0, s.highest}}
		}
	case in.Kind == Release && out == Refused:
		if !holds {
			return []mutex{s}
		}
	case in.Kind == Release && out == Unknown:
		if holds {
			return []mutex{{0, s.highest}, s}
		}
		return []mutex{s}
	case in.Kind == Guarded && out == OK:
		if holds {
			return []mutex{s}
		}
	case in.Kind == Guarded && out == Refused:
		if !holds {
			return []mutex{s}
		}
	}
	return nil
}
