// Package api serves etcd's v3 API: the gRPC services KV, Lease, Cluster, Maintenance, Auth, Lock, Election and health,
// the interceptors in front of them, and the HTTP pages of the client port. Watch is another package's; it is
// registered here.
//
// What a client can observe is etcd 3.7's, byte for byte: the order of checks, the texts and codes of errors, which
// fields of a header are filled. Where coord has to differ (Auth, Downgrade, Defragment) the method says how.
//
// A service decodes, checks, hands the work to a Backend and maps the error; it keeps no state of its own. Every method
// is safe for concurrent use.
//
// # Goroutines
//
// A gRPC stream has the handler's goroutine and, where the client may send at any time (KeepAlive), one that receives.
// Server.Run is one loop that watches for the loss of the leader.
package api
