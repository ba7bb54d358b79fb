// Package statemachine is the contract of the replicated state of one keyspace, a revisioned key-value store with
// leases: what procedures see of it, what it answers, and what those who run it are told. Package machine keeps it on
// Pebble, package model in slices. Whoever only speaks of it, as recipes do, links neither Pebble nor Dragonboat.
//
//   - Program is what recipes give to it: Procedure, Reactor and the guard, each of which sees the state through a
//     Step.
//   - Result is what a command came to, or a refusal; RefusalOf says how clients are told of one.
//   - Applied is what a batch of the log did. An Observer is told of it.
//
// # Determinism
//
// Same log in, same state out. Nothing that decides asks the time, rolls dice, walks a map into a result or looks at
// the disk; what differs between members (ids, clocks, chance) arrives inside commands. A refused command (a compare
// that failed, an unknown lease) is a result, and leaves no trace.
//
// # Sessions
//
// A session is a lease with an identity, attached to a stream that renews it with all others there. Its requests are
// commands of their own inside one command, and each is executed once: its outcome stands in the batch of its effects
// and answers whoever sends it again, until the session acknowledges it.
//
// # Reserved keys
//
// Keys below _coord/ are written by procedures alone, and leases whose ids Lingers knows are granted by expiry alone:
// see CheckPlain and Lingers.
//
// # Bounds of the work of a command
//
//	command                         touches                                   bound
//	put, lease grant, acquire       a few rows                                by the member: the size of a request
//	transaction                     compares and ranges × keys                Budget: all but its two widest ranges
//	deletion of a range             its live keys                             none, as in etcd: linear
//	revoke, end of a session        the keys of the lease                     none, as in etcd: linear
//	tick                            the leases that are due                   1000 leases, 4000 keys, 20,000 looks
//	hand-over by priority           all candidates                            none; looks of ticks, weight in the lane
//	transfer                        candidates before the target              recipes: 1000
//	resize of a semaphore           who is let in; who wants more than it     recipes: 10,000 of the latter
//	last enter of a barrier         all parties, once a generation            recipes: MaxParties
//	any scan of live keys           deleted rows that Pebble still has        once or twice each, see mvcc's gaps
//
// What is bounded by itself only is kept from coming in numbers by propose.Lane, at the member that proposes it.
package statemachine
