// Package history judges what clients saw of locks and elections while processes were killed, stopped and cut off.
//
// There are two judges. Linearizable hands the operations of each name to porcupine, with a fenced mutex as the model: at
// most one holder at a time, tokens that only grow, releases and guarded writes by token. A session that died is the one
// thing no client sees happen, so the model takes the holder away by itself, but only from the instant on at which the
// session may have died (Expiry). Replay rebuilds the queues from the log of changes, revision by revision, and checks
// against it every grant and every leader that a client was told of; that is far stronger than what clients see alone.
// LinearizableCounts is the same as the first one for counters and sequences.
//
// Times are nanoseconds of one clock that all processes share (CLOCK_MONOTONIC on one machine).
package history
