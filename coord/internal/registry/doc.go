// Package registry is what the server does for the service registry beyond storing its keys: it probes instances that
// ask for it, and answers DNS. What the keys mean is package instances'.
//
// # Probes
//
// The member that leads probes, nobody else. Each target is a goroutine that probes, counts, and writes ServiceProbed
// when its verdict is another than the one that stands in the store; a new leader goes on from there, so that a
// failover changes no state. A hanging target costs its own timeout and a slot, and from its second probe on a slot of
// those that hang: what answers never waits for what does not.
//
// # DNS
//
// Every member that is told to answers from its own copy, which is the cluster's state as far as this member has heard.
package registry
