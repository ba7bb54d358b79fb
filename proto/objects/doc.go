// Package objects says what the keys of counters, sequences, latches, gates and groups mean. The SDK, which reads and
// watches them over the network, and the server, which does so in its own store, share it. Each object is a function of
// its keys at one revision; package layout draws the keys, and the services Counter, Sequence, Latch, Gate and Group of
// coord.v1 say what they promise.
//
// A LatchWait and a GateWait decide when who waits goes on, and a Roll keeps the members of a group, from what a watch
// tells: the keys at one revision, then changes, then perhaps the keys again, where changes were missed. Create
// revisions and the number of a latch's generation tell what must have happened in between.
package objects
