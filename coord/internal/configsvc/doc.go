// Package configsvc serves shared configuration over gRPC: coord.v1.Config. The proto is the contract, the keys
// included.
//
// # How a version is published
//
// A publication reads the current version and the schemas at one revision, checks the documents, and commits by a
// procedure that depends on both keys being unchanged: it writes current and versions/NUMBER and deletes the versions
// that are not kept any more. If another publication or a change of a schema came in between, all of it is done again
// on what is there now, or, with an expected version, refused. So nothing needs to be validated inside the replicated
// state machine, where two versions of a library could disagree, and yet no document gets past the schema of its own
// revision: SetSchema depends on the current version in the same way.
//
// # Goroutines
//
// None of its own. A check of a schema runs on the goroutine of its request; it cannot load anything, and Go's regular
// expressions take linear time.
package configsvc
