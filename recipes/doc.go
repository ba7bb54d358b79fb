// Package recipes holds the deterministic steps of mutex and election, which the state machine runs inside the apply of a
// Call, and the pure functions over their state that the services and introspection share.
//
// # State
//
// Both recipes are one queue under a name. Its entries are the keys
//
//	<name>/<lease id in lower-case hex>                the first owner in a session
//	<name>/<lease id in lower-case hex>.<owner id>     each other one
//
// that are attached to the very lease in their name. Everything else under the prefix is not an entry, so "a" and "a/b" are
// two queues. The entries are ordered by create revision (by key, should an etcd transaction have made two at once), and the
// first one holds: the holder is a function of the keys at one revision, and a hand-off happens in whatever commit removes
// the holder, be it a release, a revoked or expired lease, or a plain delete by an etcd client.
//
// This is the layout of etcd's clientv3/concurrency. Plain etcd clients count every key under "<name>/", entry or not, so
// they wait for at least what we wait for: an etcd client on "a" also waits behind the entries of "a/b", and never holds
// together with anybody of "a".
//
// # Tokens and claims
//
// The token (an election's term) is the create revision of the entry: strictly increasing per name. A request
// that names an existing entry (same lease, same owner id) takes it over by writing it again, which keeps token and place and
// moves the mod revision: the claim. Who gives up an entry on behalf of one request removes it only if the claim is still
// that request's, so that a late clean-up never takes away what a retry has taken over.
//
// # Versions
//
// A procedure never changes what it does: its name ends in a version, and a change gets a new name.
package recipes
