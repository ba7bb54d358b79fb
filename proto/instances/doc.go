// Package instances says what the keys of the service registry mean: it is shared by the SDK, which watches them over
// the network, and the server, which watches them in its own store. package layout draws the keys.
//
// A Set is the instances of some services as of one revision, kept up by the events that follow. It does not let a
// service vanish: an instance that was passing or starting when its key was deleted has expired, or was deleted by
// mistake, since whoever leaves says so. When within Limits.Window more than Limits.MaxLoss of a service's instances
// expire, those are kept, marked Stale, until no more than that share of them is missing, at most for Limits.KeepStale.
// What is not Stale had a live lease at the Set's revision.
package instances
