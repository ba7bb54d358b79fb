// Package mirror tells whoever waits or holds on this member what becomes of its entry.
//
// # One subscription
//
// Mirrors hears of every change of the keyspace through one subscription to the watch hub, and dispatches each by its
// key: to the ticket that tracks just this key, and to the mirror of the queue that it belongs to. A key that nobody is
// interested in costs two look-ups. Nobody rescans, no herd starts, and any member can serve any waiter.
//
// # Tickets
//
// A ticket is one request's interest in its entry. It is there before the request is proposed, so that nothing is
// missed, and learns from the outcome whether the entry holds or waits. Who holds at once is a map entry, without a
// mirror, a read or a goroutine: all it has to hear of is the end of its key. Who waits joins the mirror.
//
// # Mirrors
//
// A mirror is this member's copy of one queue: read once from a view, then kept by the changes. A change touches the
// entry it is about, and the holders by the queue's rule; so a hand-off tells one ticket, however many wait. Who is how
// far behind is counted only when somebody asks. Mirrors are there as long as somebody waits, holds after having
// waited, or observes.
//
// After a gap in the deliveries the mirrors are read again, and tracked holders are looked up.
//
// # Goroutines and locks
//
// Deliveries come on the goroutine of the hub. Views are read by at most two goroutines that are there while there is
// something to read; Close awaits them. Order of locks: Mirrors.mu, queueMirror.mu, Mirrors.work. Tickets are told
// under one of the first two.
package mirror
