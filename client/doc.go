// Package client is the Go SDK of coord: sessions; locks, read-write locks, semaphores and elections with fencing
// tokens; barriers, counters, sequences, latches, gates and groups; and etcd's API for keys, transactions, watches and
// leases. Everything goes over one stream of one connection, in batches.
//
//	c, err := client.New(client.Config{Endpoints: []string{"127.0.0.1:2379"}})
//	err = c.Lock("job").Do(ctx, func(ctx context.Context, held *client.Held) error {
//		// ctx ends, with cause ErrLost, before anybody else can hold the lock.
//		_, err := held.KV().Put(ctx, "row", value) // has an effect only while the lock is held; ErrFenced otherwise
//		return err
//	})
//
// # Verbs
//
// A recipe is made by its name, of a Client or of a Session: c.Lock("job"). It holds no state and asks nobody. Locks,
// several locks at once, read-write locks and semaphores have the same verbs: Acquire waits, TryAcquire does not, Do
// runs a function while it is held; Describe says who holds and who waits. What was acquired has Release; what all that
// is held has in common is Grant's. An election says it in its own words: Campaign, TryCampaign, Run, Resign; so does a
// barrier: Enter, Leave.
//
// Options are typed by recipe: one that means nothing to it does not compile. Errors are listed by when they occur,
// with what to do; see the variables of this package.
//
// # Sessions
//
// A Session is a lease with an identity and a local, conservative deadline: the instant at which its last acknowledged
// heartbeat was sent, plus the TTL, minus a margin. The server measures from later, so it cannot end the session
// before; when the deadline passes without news, everything the session holds is lost, and says so through its context
// or Lost channel. On Linux the deadline runs on while the machine sleeps (CLOCK_BOOTTIME); elsewhere a forward jump of
// the wall clock counts as time that passed. One heartbeat renews all sessions of a client.
//
// A session survives broken connections and stopped members within its TTL. A lost one stays lost. Only the session
// that the client's own locks, elections and writes share is replaced by itself: whoever waits in a queue through it
// queues again, Election.Run campaigns again, and what was held is lost and says so.
//
// A process that is stopped (a pause of the runtime, SIGSTOP, a suspended machine) cannot notice anything while it is:
// a lock is advisory. What protects a resource is the fencing token: it grows with every grant. Writes through Held.KV
// are fenced by the store; Held.Guards do the same for a transaction by any etcd client; resources elsewhere check the
// token, see package fence.
//
// # Exactly once
//
// Every request of a session has a number, and the servers keep its outcome until the client has it. So a request that
// has to be sent again, after a lost response, through another member or another leader, is never executed twice. An
// error says which of three it is: refused (nothing was done), given up before it was sent (nothing was done), or
// ErrOutcomeUnknown: the context or the session ended while it was under way.
//
// # One member at a time
//
// The stream goes to one endpoint until that fails, stops, or does not answer a heartbeat within about a ninth of the
// shortest TTL; then it moves to the next one with all sessions. Nothing in New waits for a server, and nothing is left
// running after Close.
package client
