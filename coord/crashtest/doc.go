// Package crashtest has tests only. They run coordd as its users do: as processes with real disks and sockets, clients
// of etcd and of this project beside each other, and then kill, stop, freeze, fill up and damage what there is.
//
// Safety is asserted exactly. Bounds of time are asserted with threefold slack, because tests share machines; the
// figures themselves are printed (go test -v). Every process is killed by the kernel when the test's process dies.
//
// COORD_CRASH_ROUNDS repeats what is repeated (2 times by default, 1 with -short). Tests that mount file systems or
// change the host name or the clocks of a process do so in namespaces of their own, as root or in a user namespace.
package crashtest
