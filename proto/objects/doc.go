// Package objects says what the keys of counters, sequences, latches, gates and groups mean. The SDK, which reads and watches
// them over the network, and the server, which does so in its own store, share it. Each object is a function of its keys at
// one revision; the services Counter, Sequence, Latch, Gate and Group of coord.v1 say what they promise.
//
//	_coord/counters/<name>         recipesv1.Counter
//	_coord/sequences/<name>        recipesv1.Sequence
//	_coord/latches/<name>          recipesv1.Latch
//	_coord/gates/<name>            recipesv1.Gate, of the closer's lease if the gate is bound to it; closed while it exists
//	_coord/groups/<name>/<member>  the member's data as it is, of the lease of the member's session
//
// A LatchWait and a GateWait decide when who waits goes on, and a Roll keeps the members of a group, from what a watch tells:
// the keys at one revision, then changes, then perhaps the keys again, where changes were missed.
package objects
