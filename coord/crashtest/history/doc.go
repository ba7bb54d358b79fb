// Package history judges what clients saw of recipes while processes were killed, stopped and cut off.
//
// Linearizable hands the operations of each name to porcupine. The model is one for locks, elections, read-write locks
// and semaphores: holders that have a weight each, of which no more than a limit may be held at once; tokens that only
// grow; releases and guarded writes by token. A session that died is the one thing no client sees happen, so the model
// takes the holder away by itself, but only from the instant on at which the session may have died (Expiry).
// LinearizableCounts is the same for counters and sequences, Met a validator of barriers.
//
// Log and Gatherings rebuild queues and barriers from the log of changes, revision by revision, and check against it
// every grant, every leader and every meeting that a client was told of; that is far stronger than what clients see
// alone.
//
// Times are nanoseconds of one clock that all processes share (CLOCK_MONOTONIC on one machine).
package history
