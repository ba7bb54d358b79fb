// Package stream serves coord.v1.Stream: one bidirectional stream for a whole process, with requests, sessions, pushes
// and channels in it. proto/coord/v1/stream.proto is the contract.
//
// # Goroutines
//
// Per stream there are four, and none for a request, a waiter or a session:
//
//	handler    waits for the end, and for the reader and the channels
//	receiver   takes a frame, checks its requests and hands them on, without waiting for any
//	reader     answers reads: all that gathered during one ReadIndex from one view
//	sender     sends what gathers in the outbox, as one frame of up to a megabyte
//
// and one for each channel, whose handler is an ordinary stream handler, and for each compaction. Results come on the
// goroutine that applies the log, news of entries on that of the watch hub: both only append to the outbox.
//
// # What travels how
//
// Frames are not decoded as a whole. The requests of a session in a frame go into one raftv1.Requests as the bytes that
// came, their outcomes to the client as the bytes that the state machine stored. Whatever must not reach the log is
// refused before: kinds, sizes, what etcd's API refuses, what there is no space for.
//
// # Order
//
// The outbox keeps the order of what is appended, as far as the client can tell: see outFrame. The Server is an
// observer in front of the proposer, so the loss of a session is appended before the outcomes of the same batch, and
// before the heartbeat that the batch answers. After it nothing of the session is.
//
// # Bounds
//
// See Limits. A client that sends too much is read no further until its requests are answered; one that does not read
// is read no further, then ended. Commands of a stream that has ended are given up; its sessions live on for their TTL.
package stream
