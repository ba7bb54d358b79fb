// Package service serves the recipes over gRPC: coord.v1.Lock and coord.v1.Election.
//
// # How a waiter waits
//
// A request becomes a Call that runs in the state machine; after it, everything is decided by the keys. For each name that
// somebody on this member waits for, watches or observes there is one line: a copy of the queue, read once from a view
// and then fed by a subscription to the changes below the name. A change touches the entry it is about and, where the head
// of the line changes, the ticket of the new head; nobody rescans, and no herd starts. Any member can serve any waiter.
//
// # How an entry is given up
//
// A request whose stream ends before it was granted gives its entry up: after the grace it asked for, a background goroutine
// proposes the removal until the outcome is known. It removes by token and claim, so what another request has taken over
// in the meantime stays. A timed request removes its entry before it answers. When this member stops, entries are left
// where they are: their clients come back through another member and keep their place.
//
// # Goroutines
//
// Each stream has the goroutine gRPC gave it. Service starts one for each proposal that may outlive its stream, each entry
// being given up, and each line being read again after a gap; Close ends and awaits them. The callback of a subscription
// only takes the lock of its line.
package service
