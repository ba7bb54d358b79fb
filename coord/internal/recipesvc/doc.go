// Package recipesvc serves the recipes over gRPC: coord.v1.Lock, Election, RWLock, Semaphore and Barrier, whose waiters
// stand in a queue, and Counter, Sequence, Latch, Gate and Group.
//
// # How a waiter waits
//
// A request becomes a Call that runs in the state machine; after it, everything is decided by the keys. What becomes of
// the entry is told by package mirror. Who waits for a latch or a gate, or watches a group, is in no queue: a
// subscription to the keys wakes the goroutine of the request, which sees by itself whether it is over.
//
// # How an entry is given up
//
// A request whose stream ends before it was granted gives its entry up: after the grace it asked for, a background
// goroutine proposes the removal until the outcome is known. It removes by token and claim, so what another request has
// taken over in the meantime stays. A timed request removes its entry before it answers. When this member stops,
// entries are left where they are: their clients come back through another member and keep their place.
//
// # Goroutines
//
// Each stream has the goroutine gRPC gave it. Service starts one for each proposal that may outlive its stream, and
// each entry being given up; Close ends and awaits them. News of a ticket only go into a channel that has room for
// them.
package recipesvc
