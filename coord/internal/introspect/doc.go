// Package introspect serves coord.v1.Introspection: what operators and programs see of sessions, locks and elections,
// and what they can do about them.
//
// # One revision
//
// Each answer is made from one view, taken after a linearizable read: sessions, entries, holders and who waits for whom
// are of one revision. Only the time that a lease has left is of the moment, and a lease that is gone by then has none.
//
// # What is walked
//
// An entry is a key that is attached to the lease in its name, so all there are stand in the index from leases to keys,
// natively made or by etcd's clients; the keys that belong to no lease are never looked at. A list of queues walks that
// index once a page, and then reads the queues of the page. A session's entries are one stretch of it.
//
// # Who waits for whom
//
// A waiter waits for the holder of its name and for whoever is before it. The ends are sessions, see waits and
// graph.deadlocks: a circle means that none of its sessions goes on unless one gives up, or unless the part of its
// process that holds is another one than the part that waits.
package introspect
