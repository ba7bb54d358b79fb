package history

import (
	"fmt"
	"math"
	"slices"
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
	// Downgrade makes a writer a reader, whose weight is 1.
	Downgrade Kind = "downgrade"
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
	// Weight is how much of the limit of its name Acquire and Try ask for; 0 means 1.
	Weight int `json:",omitempty"`
}

func (op Op) weight() int { return max(1, op.Weight) }

// Limits say how much of each name may be held at once: 1 for a mutex, which is also that of a name that is missing,
// the permits of a semaphore; of a read-write lock any number that readers do not reach, which a writer has as its
// weight.
type Limits map[string]int

// Expiry says from which instant on the session behind a grant may have ended, by name and token. A grant that is
// missing never lost its session.
type Expiry map[Grant]int64

// Grant names one grant.
type Grant struct {
	Name  string
	Token int64
}

// maxHolds is how many hold one name at once, at most; more are a fault of the test.
const maxHolds = 24

// holders is the state of one name: who holds it, oldest first, and the greatest token ever granted. It is comparable.
type holders struct {
	held    [maxHolds]hold
	n       int
	highest int64
}

type hold struct {
	token  int64
	weight int
}

func (s holders) find(token int64) int {
	return slices.IndexFunc(s.held[:s.n], func(h hold) bool { return h.token == token })
}

func (s holders) sum() (sum int) {
	for _, h := range s.held[:s.n] {
		sum += h.weight
	}
	return sum
}

func (s holders) with(token int64, weight int) holders {
	s.held[s.n] = hold{token, weight}
	s.n++
	s.highest = token
	return s
}

func (s holders) without(i int) holders {
	copy(s.held[i:], s.held[i+1:s.n])
	s.n--
	s.held[s.n] = hold{}
	return s
}

func (s holders) downgraded(i int) holders {
	s.held[i].weight = 1
	return s
}

// input is an operation as the model sees it. vague: others may have stood in the queue unseen, so that finding the
// lock taken proves nothing.
type input struct {
	Op
	vague bool
}

// Linearizable checks the operations name by name. It returns an error that says which name's history is wrong, or
// could not be judged within patience.
func Linearizable(ops []Op, limits Limits, expiry Expiry, patience time.Duration) error {
	byName := make(map[string][]Op)
	for _, op := range ops {
		byName[op.Name] = append(byName[op.Name], op)
	}
	for name, ops := range byName {
		model := fencedHolders(name, max(1, limits[name]), expiry)
		switch porcupine.CheckOperationsTimeout(model, operations(ops), patience) {
		case porcupine.Illegal:
			return fmt.Errorf("the history of %q, %d operations, is not that of fenced holders of at most %d", name,
				len(ops), max(1, limits[name]))
		case porcupine.Unknown:
			return fmt.Errorf("the history of %q, %d operations, could not be judged within %v", name, len(ops),
				patience)
		}
	}
	return nil
}

// operations leaves out what tells nothing: operations that had no effect by their own account, and failed reads of
// one.
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
		case op.Kind == Acquire && op.Outcome != OK, op.Kind == Try && op.Outcome == Unknown, op.Kind == Guarded &&
			op.Outcome == Unknown:
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

// vague says whether somebody else's request may have been in the queue during op without a grant that anybody was told
// of: one that was given up, or one that was under way, for a session that dies is replaced and queues again.
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

func fencedHolders(name string, limit int, expiry Expiry) porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{holders{}} },
		Step: func(state, in, out any) []any {
			return step(state.(holders), limit, in.(input), out.(Outcome), func(token, now int64) bool {
				from, ended := expiry[Grant{name, token}]
				return ended && from <= now
			})
		},
	}
	return model.ToModel()
}

// step returns every state that may follow. expired says whether the session behind a token may have ended before an
// instant.
func step(s holders, limit int, in input, out Outcome, expired func(token, now int64) bool) (next []any) {
	for _, s := range s.survivors(func(token int64) bool { return expired(token, in.Return) }) {
		for _, after := range s.after(limit, in, out) {
			next = append(next, after)
		}
	}
	return next
}

// survivors are the states in which any of the holders that may be gone are gone.
func (s holders) survivors(gone func(token int64) bool) []holders {
	states := []holders{s}
	for _, h := range s.held[:s.n] {
		if !gone(h.token) {
			continue
		}
		for _, before := range slices.Clone(states) {
			states = append(states, before.without(before.find(h.token)))
		}
	}
	return states
}

// after is the state after an operation, or none if it is impossible in s.
func (s holders) after(limit int, in input, out Outcome) []holders {
	at := s.find(in.Token)
	fits := s.sum()+in.weight() <= limit
	switch in.Kind {
	case Acquire, Try:
		switch {
		case out == OK && fits && in.Token > s.highest && s.n < maxHolds:
			return []holders{s.with(in.Token, in.weight())}
		case out == Refused && (!fits || in.vague):
			return []holders{s}
		}
	case Release:
		return s.changed(out, at, holders.without)
	case Downgrade:
		return s.changed(out, at, holders.downgraded)
	case Guarded:
		if (out == OK) == (at >= 0) {
			return []holders{s}
		}
	}
	return nil
}

// changed is the state after an operation on the hold at an index, -1 if there is none.
func (s holders) changed(out Outcome, at int, change func(holders, int) holders) []holders {
	switch {
	case out == OK && at >= 0:
		return []holders{change(s, at)}
	case out == Refused && at < 0:
		return []holders{s}
	case out == Unknown && at >= 0:
		return []holders{change(s, at), s}
	case out == Unknown:
		return []holders{s}
	}
	return nil
}
