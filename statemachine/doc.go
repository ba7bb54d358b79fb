// Package statemachine is the replicated state of one keyspace: a revisioned key-value store with leases, as a
// deterministic Dragonboat state machine on Pebble.
//
// # Contract
//
// Same log in, same state out. Nothing here asks the time, rolls dice, walks a map into a result or looks at the disk to
// decide anything; what differs between members (ids, clocks, chance) arrives inside commands. The applied index is in
// the same Pebble batch as the changes it covers. A refused command (a compare that failed, an unknown lease) is a
// result; an error of Update means that the replica cannot go on.
//
// Pebble is the only copy of the data; what is kept in memory (leases, sessions, members, alarms, executed entries) is a
// cache of rows. Start-up therefore does not depend on the number of keys. Package mvcc draws the rows, raftv1 the log
// entries, snapshot.go the snapshot stream.
//
// # The life of a batch
//
// Dragonboat hands Update some log entries. Each carries commands that one member coalesced; each command has its own
// revision and result, and sees what the ones before it wrote through an ordered overlay. Then the overlay is committed
// as one Pebble batch, a state (facts and a Pebble snapshot) is published for readers, and the observer is told: results
// for those who wait, events for watches, ticks for the lease clock.
//
// # Sessions
//
// A session is a lease with an identity, attached to a stream that renews it with all others there. Its requests are
// commands of their own inside one command, and each is executed once: its outcome stands in the batch of its effects and
// answers whoever sends it again, until the session acknowledges it. See apply_requests.go for what is stored and what is
// not, outcomes.go for the bounds, and package lease for streams.
//
// # Reserved keys
//
// Keys below _coord/ are written by procedures alone, and leases whose ids Lingers knows are granted by expiry alone: see
// CheckPlain and Lingers.
//
// # Bounds of the work of a command
//
//	command                         touches                                   bound
//	put, lease grant, acquire       a few rows                                at the door: the size of a request
//	transaction                     compares and ranges × keys                Budget: all but its two widest ranges
//	deletion of a range             its live keys                             none, as in etcd: linear
//	revoke, end of a session        the keys of the lease                     none, as in etcd: linear
//	tick                            the leases that are due                   1000 leases, 4000 keys, 20,000 looks of reactions
//	hand-over by priority           all candidates                            none; looks of ticks, weight in the lane
//	transfer                        candidates before the target              recipes: 1000
//	resize of a semaphore           who is let in; who wants more than it     recipes: 10,000 of the latter
//	last enter of a barrier         all parties, once a generation            recipes: MaxParties
//	any scan of live keys           deleted rows that Pebble still has        once or twice each, see mvcc's gaps
//
// What is bounded by itself only is kept from coming in numbers by propose.Lane, at the member that proposes it.
//
// # Durability
//
// Pebble keeps no write-ahead log, because the Raft log is one: a batch becomes durable when its memtable is flushed.
// Sync flushes, as RecoverFromSnapshot does before it returns, because Dragonboat lets go of the log behind them.
package statemachine
