// Package concurrency has the names of etcd's clientv3/concurrency for coord's client: change the import and the
// client, and the rest of a program stays as it is. What is different, because coord can do better:
//
//   - A session is one of coord: it survives reconnects, its Done is closed before the server can give to others what
//     it held, and it goes over the client's one stream. WithLease and Orphan do not exist.
//   - Two mutexes of one session and name exclude each other; with etcd both hold.
//   - Candidates and waiters that are cancelled leave no key, also when the response was lost.
//   - Key and IsOwner are usable only while the mutex is locked, Rev and Key of an election while it leads.
//
// Package client has more: contexts that end with the lock, fencing tokens, guards, who waits and who holds.
package concurrency
