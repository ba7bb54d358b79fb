// Package client is the Go SDK of coord: sessions, locks and elections with fencing tokens, beside etcd's own client on the
// same connection for everything else.
//
//	c, err := client.New(client.Config{Endpoints: []string{"127.0.0.1:2379"}})
//	err = c.Lock("job").Do(ctx, func(ctx context.Context, held *client.Held) error {
//		return store.Write(ctx, row, held.Token()) // ctx ends, with cause ErrLost, before anybody else can hold the lock
//	})
//
// # What is promised
//
// A Session is a lease that is kept alive, together with a local, conservative deadline: the instant at which its last
// acknowledged renewal was sent, plus the TTL, minus a margin. The server measures from later, so it cannot end the session
// before; when the deadline passes without news, everything the session holds is lost, and says so through its
// context or Lost channel. On Linux the deadline runs on while the machine sleeps (CLOCK_BOOTTIME); elsewhere a forward jump
// of the wall clock counts as time that passed.
//
// A process that is stopped (a pause of the runtime, SIGSTOP, a suspended machine) cannot notice anything while it is: a
// lock is advisory. What protects a resource is the fencing token: Held.Token grows with every grant, and Held.Guard makes
// a transaction of the store depend on the grant.
//
// # One member at a time
//
// All calls go to one endpoint until it fails or falls silent; then they move to the next one together. A session notices
// a silent member within a ninth of its TTL after it did not answer a renewal, well before the session is in danger.
// A request whose outcome was hidden by a broken connection is repeated and means the same entry: nothing is acquired twice.
package client
