// Package machine is the state machine of one keyspace: what package statemachine says, as an IOnDiskStateMachine of
// Dragonboat on Pebble.
//
// The applied index is in the same Pebble batch as the changes it covers. An error of Update means that the replica
// cannot go on.
//
// Pebble is the only copy of the data; what is kept in memory (leases, sessions, members, alarms, executed entries) is
// a cache of rows. Start-up therefore does not depend on the number of keys. Package mvcc draws the rows, raftv1 the
// log entries, snapshot.go the snapshot stream.
//
// # The life of a batch
//
// Dragonboat hands Update some log entries. Each carries commands that one member coalesced; each command has its own
// revision and result, and sees what the ones before it wrote through an ordered overlay. Then the overlay is committed
// as one Pebble batch, a state (facts and a Pebble snapshot) is published for readers, and the observer is told:
// results for those who wait, events for watches, ticks for the lease clock.
//
// # Sessions
//
// See apply_requests.go for what is stored of a session's requests and what is not, outcomes.go for how, and package
// lease for streams.
//
// # Durability
//
// Pebble keeps no write-ahead log, because the Raft log is one: a batch becomes durable when its memtable is flushed.
// Sync flushes, as RecoverFromSnapshot does before it returns, because Dragonboat lets go of the log behind them.
package machine
