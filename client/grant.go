package client

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Grant is what everything that was acquired has in common: Held, HeldLocks, RWHeld, Permits, Leadership and Party are
// grants. Only this package makes one. Safe for concurrent use.
type Grant struct{ *admission }

// Lost is closed when the grant is not guaranteed any more, for whatever reason; Release and Resign are one. It is
// closed before the server can give it to somebody else, unless somebody deleted the entry by hand.
func (g Grant) Lost() <-chan struct{} { return g.over }

// Err is nil until Lost is closed; then it wraps ErrLost and the reason, or is ErrReleased.
func (g Grant) Err() error { return g.why() }

// Deadline is the instant until which the grant is guaranteed by the session as it is now; see Session.Deadline.
func (g Grant) Deadline() time.Time {
	if g.Err() != nil {
		return time.Time{}
	}
	return g.s.Deadline()
}

// Revision is the store's revision at which the grant was seen.
func (g Grant) Revision() int64 {
	g.s.t.lock()
	defer g.s.t.unlock()
	return g.revision
}

// Session is the session that holds.
func (g Grant) Session() *Session { return g.s }

// KV is etcd's API, whose writes have an effect only while the grant holds, exactly once; the error wraps ErrFenced
// otherwise. Reads are not guarded. Writes go through the session that holds.
func (g Grant) KV() clientv3.KV {
	guards := make([]*coordv1.Guard, len(g.entries))
	for i, e := range g.entries {
		guards[i] = e.guard()
	}
	return g.s.kv(guards)
}

// Context returns a context that ends when parent does, and, with the reason as its cause, when the grant does.
// Acquiring the same lock under it WithReentry enters again. The returned function frees what belongs to the context.
func (g Grant) Context(parent context.Context) (context.Context, context.CancelFunc) {
	return g.context(parent)
}
