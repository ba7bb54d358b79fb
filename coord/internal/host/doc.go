// Package host is what a process has once for all of its raft groups: Dragonboat's NodeHost with the log store, the
// connections to the other members, the peer port, and what Dragonboat would answer with a panic or in silence at its
// start: a directory that belongs to another member, settings files in the working directory, flag files that are
// damaged, a changed host name.
//
// A replica of a group (package group) attaches itself to its Host. Whatever comes from the network or from Dragonboat
// names a shard, and is for the replica that is attached under that number; what is for others is dropped. What ends a
// process, a majority of the voters refusing it, ends it for all of its groups.
//
// A member has the same replica id in every group: its member id.
//
// # Goroutines
//
// A Host has none of its own beside Dragonboat's and the transport's. Both call replicas while they hold locks, so
// those only set flags.
package host
