// Package recipesvc serves the recipes over gRPC: coord.v1.Lock, Election, RWLock, Semaphore and Barrier, whose waiters
// stand in a queue, and Counter, Sequence, Latch, Gate and Group.
//
// # What it is for
//
// Programs that have no SDK: in other languages, by grpcurl, behind a gateway that speaks JSON. It is a thin face of
// what the native stream reaches (package stream), and has no concepts of its own: a call runs the procedure of the
// session's request, with the same message; what it reads is answered by Reads, from which the stream's reads are
// answered, too; who waits is told by package mirror; what an error means is said by statemachine.RefusalOf. The public
// messages AcquireRequest, RWAcquireRequest, SemaphoreAcquireRequest, BarrierEnterRequest and CampaignRequest are those
// of the session's requests with what belongs to a call beside: how long it waits, and how long its entry is kept when
// it breaks off. So a new property of a queue is written once, in recipes, and passed on here.
//
// # What it promises, and what not
//
// All that the keys say is the same: queues, tokens, guards, who holds at which revision. A call names an etcd lease,
// granted and kept alive by the caller; to a queue that is the caller's session. Nothing is pushed outside of a call:
// who holds learns of the loss on the stream of Acquire, or when the lease is not renewed.
//
// Exactly once is only on the stream, in a session: the outcome of a call is not kept. A call that ends without an
// answer, or as Unavailable, may have run. Where it asks for an entry, or gives one up by its token, it can be repeated
// and means the same entry; what counts (Counter.Add, Sequence.Next, Latch.CountDown) may count twice. Several locks by
// one acquire, elections with priorities, places that linger, transfers, guards of writes and withdrawal are the
// stream's.
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
// goroutine proposes the release until the outcome is known. It releases by token and claim, so what another request
// has taken over in the meantime stays. A timed request releases its entry before it answers. When this member stops,
// entries are left where they are: their clients come back through another member and keep their place.
//
// # Goroutines
//
// Each stream has the goroutine gRPC gave it. Service starts one for each proposal that may outlive its stream, and
// each entry being given up; Close ends and awaits them. News of a ticket only go into a channel that has room for
// them.
package recipesvc
