// Package history judges what clients saw of recipes while processes were killed, stopped and cut off.
//
// Linearizable hands the operations of each name to porcupine. The model is one for locks, elections, read-write locks and
// semaphores: holders that have a weight each, of which no more than a limit may be held at once; tokens that only grow; releases
// and guarded writes by token. A session that died is the one
// thing no client sees happen, so the model takes the holder away by itself, but only from the instant on at which the
// session may have died (Expiry). Counted and Sequenced do the same for numbers, Met is a validator of barriers. Replay rebuilds the queues from the log of changes, revision by revision, and checks
// against it every grant and every leader that a client was told of; that is far stronger than what clients see alone.
// LinearizableCounts is the same as the first one for counters and sequences.
//
// Times are nanoseconds of one clock that all processes share (CLOCK_MONOTONIC on one machine).
package history
