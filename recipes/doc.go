// Package recipes holds the deterministic steps of the recipes, which the state machine runs inside the apply of a Call
// or of a session's request, and the pure functions over their state that the services and introspection share.
//
// # State
//
// A lock and an election are one queue under a name. Its entries are the keys
//
//	<name>/<lease id in lower-case hex>                the first owner in a session
//	<name>/<lease id in lower-case hex>.<owner id>     each other one
//
// that are attached to the very lease in their name. The entries are ordered by create revision, and the first one
// holds: the holder is a function of the keys at one revision, and a hand-off happens in whatever commit removes the
// holder, be it a release, a revoked or expired lease, or a plain delete by an etcd client.
//
// This is the layout of etcd's clientv3/concurrency, whose clients count every key below "<name>/" by its create
// revision, and look at neither its lease nor its value nor the form of its name. So every key directly below counts
// here, too, "<name>/" itself included: one on a lease with a negative id, one without a lease, one whose name is no
// UTF-8. Such a foreign key has a position in the queue like any other and is granted to nobody here, since nobody
// knows who acts by it. Two keys that one transaction created are two holders to etcd's clients; ours wait until
// neither is there. Nothing but an etcd client's transaction makes such.
//
// A lease is one owner, as it is for etcd's clients, which take over the key of their lease if it is there. Who is put
// in front of what is decided so:
//
//   - An entry that is put again and stays on its own lease stays what it is, whatever its value: only a client of this
//     lease can act by it, and etcd's Mutex that finds its key there does not even write it.
//   - An entry that is put again on another lease, or on none, keeps its create revision, and so its position and its
//     token. Somebody may act by it now: etcd's Election, resumed with a leader's key, its revision and another
//     session, compares the create revision and puts the key on that session. So from this revision on the session that
//     made it does not hold and does not wait by it; it is told that the entry is lost, guards of its token fail, and
//     the key stands as a foreign one. The token still names it: a release deletes it. That it is put back on its lease
//     later does not bring the grant back: the loss was told for good.
//
// So at no revision a session of ours and another client both act as the holder. Keys nested deeper, as those of "a/b"
// are for "a", do not count here, but do for etcd's clients: an etcd client on "a" waits also behind the entries of
// "a/b". It waits for at least what we wait for, in the same order, and never holds together with anybody of "a".
//
// The state machine keeps the keys directly below a name in the order of their create revisions (see package mvcc), so
// to find who is first takes one look, however many stand behind or deeper below.
//
// What is not in etcd's layout stands under a prefix that no name begins with, see package layout, which draws all
// keys. The queue is the name, or all before the last slash: the key of an entry is always <queue>/<lease>[.<owner
// id>]. kind.go has the table of the kinds.
//
// # Rules
//
// Who holds is found by a rule: a pure function of the entries and at most one record. All but the one of elections
// with priorities go by the order of the entries: nobody overtakes, and who is inside stays there. Of a lock the oldest
// holds. Where several hold, readers or one writer, as many as have permits, or those of the generation that is open,
// the record says up to which token. The same rule serves to read a queue, to judge one entry without sorting, and to
// follow a queue by its changes (package mirror).
//
// The record of read-write locks and semaphores are counts of the entries, so that an acquire needs not read them: each
// entry that is made is added in its commit, and each that is deleted is taken off, and whoever has room then let in,
// in the commit that deletes it, by the reactor of the state machine. Nobody but procedures can write it
// (layout.Reserved). Where the reactor cannot, the queue is broken: the record is as it was, so who held holds and
// nobody else does, and whoever asks is told the same.
//
// Counters, sequences, latches, gates and groups are no queues. What their keys mean is package objects', which the SDK
// shares; their contracts are the docs of their services in coord.v1.
//
// # Kinds
//
// What kind a queue is, is noted with the attachment of each entry that a recipe made, and the other kind is refused.
// An entry of an etcd client has no kind and stands in both. Looked at are the oldest 32 entries.
//
// An instance's endpoint, SERVICE/ADDR for etcd's resolver (to users: its mirror), is a foreign key directly below the
// service's name that stays as long as the instance does. A lock or an election of that name would wait for it for
// ever, so whoever comes second is refused: who wants an entry where an endpoint stands, and an endpoint where an entry
// stands, an etcd client's included. The endpoint is known by its kind (KindEndpoint). etcd's own clients ask nobody:
// they wait.
//
// # Tokens and claims
//
// The token (an election's term) is the create revision of the entry: strictly increasing per name. A request that
// names an existing entry (same lease, same owner id) takes it over by writing it again, which keeps token and place
// and moves the mod revision: the claim. Who gives up an entry on behalf of one request removes it only if the claim is
// still that request's, so that a late clean-up never takes away what a retry has taken over.
//
// # Lingering places
//
// An entry may ask that its place be kept if its session expires. Then the state machine puts its key again with the
// create revision it had, on a lease whose id says that it lingers (statemachine.Lingers): clients can neither grant
// such an id nor renew, attach to or revoke the lease. It ends with its time, or with its key, which a forced release
// deletes. Such a place is never granted, and blocks all behind it, etcd's clients included, until that lease is gone.
// (The place of a waiter lingers, too, since nothing is written when it becomes the holder. With priorities only the
// leader's blocks.)
//
// # Transfer
//
// Who leads is decided by the order of create revisions alone, for etcd's clients, too. So to make another candidate
// the leader, the leader's entry is deleted, and so are those of the candidates ahead of the target, which are then
// made anew in their order, one revision each: behind everybody. Only a session's candidate can be moved, because only
// it is told of its new token; any other in between refuses the transfer, and so does a foreign key that leads. A note,
// written first, tells the lines that these entries are moved and not gone, and which tokens they had, for who was not
// there.
//
// # Elections with priorities
//
// A record says who leads; its mod revision is the term. It counts while the candidate it names stands as it did. It
// belongs to no lease, because what deletes a leader's keys must not write the record at the same revision: there a
// reactor of the state machine writes the next leader. Who leads stays; then the greatest priority leads, the oldest of
// equals. That costs a scan of the candidates. A candidate is marked when it is elected and leads once: if somebody
// deletes the record, the next one is elected and the former leader's entry goes. Nobody but
// procedures writes here.
//
// # What is taken for our own mark, and why no client can make it
//
//	counts, a limit, a leader, Elected, asks, transfers   below _coord/, where plain puts and deletions are refused by
//	  a barrier's state, counters, latches, gates, …      the member and the apply; procedures check what they write
//	registry records, versions of configurations          likewise; registry.go and config.go, and by the member
//	                                                      before
//	a place that lingers                                  the id of its lease, which no command grants
//	what kind of entry a key is, its sequence and linger  notes with its attachment: a plain put of the key forgets
//	                                                      them
//	a session                                             (lease id, index of its grant) in a table of its own: a
//	                                                      lease granted with the id of one that ended is none
//	the number of a stream                                chosen by the member that serves it; requests go by session
//	                                                      and epoch
//	the keys of locks and elections                       none: anybody's key counts, see State
//
// # Versions
//
// A procedure never changes what it does: its name ends in a version, and a change gets a new name.
package recipes
