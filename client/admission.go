package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/objects"
)

// claim is one request for places in queues: one in that of each of its names, from the request to the end. It holds when all
// its entries do.
type claim struct {
	s       *Session
	kind    coordv1.Kind
	names   []string
	owner   string // owner id
	options options
	began   time.Time

	granted chan struct{} // closed when it holds
	over    chan struct{} // closed when it is not ours any more; err is set before
	freed   chan struct{} // closed when the server has nothing of it any more, after release or withdraw

	// The rest belongs to the transport's mutex.
	call     *call    // until it is answered
	entries  []*entry // in the order of names, once there was an answer
	holds    bool
	revision int64 // at which that was seen
	reads    bool  // of a read-write lock: as a reader
	behind   error // ErrForeignKey and which, if it had to wait behind such a one
	leaving  bool  // it is withdrawn or released
	err      error
	freedErr error
	contexts []*heldContext // those that end with it
}

// entry is one place in one queue.
type entry struct {
	claim *claim
	name  string
	key   string
	token int64
	holds bool
}

func (e *entry) guard() *coordv1.Guard {
	return &coordv1.Guard{Name: e.name, Key: e.key, Token: e.token}
}

// claim enqueues a request for entries of the names. body makes the request for an owner id.
func (s *Session) claim(kind coordv1.Kind, names []string, o options, body func(owner string) proto.Message) (*claim, error) {
	c := &claim{
		s: s, kind: kind, names: names, options: o, began: time.Now(),
		granted: make(chan struct{}), over: make(chan struct{}), freed: make(chan struct{}),
	}
	s.t.lock()
	defer s.t.unlock()
	if s.ended != nil {
		return nil, s.ended
	}
	c.owner = s.claimOwner(names)
	call, err := s.t.newCall(request{kind: kind, body: body(c.owner), stubborn: true})
	if err == nil {
		call.abandoned = true // only take wants to hear of it
		call.take = c.answered
		c.call = call
		err = s.t.add(s, call)
	}
	if err != nil {
		s.releaseOwner(names, c.owner)
		return nil, err
	}
	s.claims[c] = struct{}{}
	if kind == coordv1.Kind_KIND_BARRIER_ENTER {
		s.parties++
	}
	return c, nil
}

// answered takes over the answer to the request.
func (c *claim) answered(call *call) {
	c.call = nil
	if c.err != nil || c.leaving {
		return // nobody wants it any more, and what it made is being removed
	}
	resp := &coordv1.Acquired{}
	err := call.err
	if err == nil {
		err = proto.Unmarshal(call.response, resp)
	}
	if err == nil && len(resp.Entries) != len(c.names) {
		err = unknown(fmt.Errorf("%d entries of %d names", len(resp.Entries), len(c.names)))
	}
	if err != nil {
		c.gone(err)
		return
	}
	for i, r := range resp.Entries {
		if r.State == coordv1.AcquiredEntry_NONE { // of a try
			c.gone(notAcquired(r.Holder))
			return
		}
		e := &entry{claim: c, name: c.names[i], key: r.Key, token: r.Token, holds: r.State == coordv1.AcquiredEntry_HOLDS}
		c.entries = append(c.entries, e)
	}
	c.revision = resp.Revision
	for i, e := range c.entries {
		c.s.entries[e.key] = e
		if !e.holds {
			c.waits(e, resp.Entries[i])
		}
	}
	c.check()
}

// waits tells who wants to know that an entry has to wait.
func (c *claim) waits(e *entry, r *coordv1.AcquiredEntry) {
	holder := holderText(r.Holder)
	if c.behind == nil {
		c.behind = foreignKey(r.Holder)
	}
	if fn := c.options.onQueued; fn != nil {
		c.s.t.tell(func() { fn(r.Position, holder) })
	}
	if hook := c.s.client.config.Hooks.OnWait; hook != nil {
		c.s.t.tell(func() { hook(e.name, r.Position, holder) })
	}
}

// foreignKey is nil for an entry that a session made.
func foreignKey(e *coordv1.Entry) error {
	if text := objects.ForeignKey(e); text != "" {
		return fmt.Errorf("%w: %s", ErrForeignKey, text)
	}
	return nil
}

// notAcquired says who holds what a try did not get, as far as it is known.
func notAcquired(holder *coordv1.Entry) error {
	if err := foreignKey(holder); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAcquired, err)
	}
	if text := holderText(holder); text != "" {
		return fmt.Errorf("%w: held by %q", ErrNotAcquired, text)
	}
	return ErrNotAcquired
}

// check sees whether the claim holds now.
func (c *claim) check() {
	if c.holds || c.err != nil {
		return
	}
	for _, e := range c.entries {
		if !e.holds {
			return
		}
	}
	c.holds = true
	close(c.granted)
	name, waited := c.label(), time.Since(c.began)
	if fn := c.options.onAcquire; fn != nil {
		c.s.t.tell(func() { fn(waited) })
	}
	if hook := c.s.client.config.Hooks.OnAcquire; hook != nil {
		c.s.t.tell(func() { hook(name, waited) })
	}
}

// label is the name, or the names.
func (c *claim) label() string { return strings.Join(c.names, ",") }

// finish ends the claim for us; only the first reason counts. Contexts end before anybody hears of it.
func (c *claim) finish(why error) {
	if c.err != nil {
		return
	}
	c.err = why
	delete(c.s.claims, c)
	close(c.over)
	for _, h := range c.contexts {
		c.s.t.later(func() { h.cancel(why) })
	}
	c.contexts = nil
	if !c.holds || !errors.Is(why, ErrLost) {
		return
	}
	name := c.label()
	if fn := c.options.onLost; fn != nil {
		c.s.t.later(func() { c.s.t.tell(func() { fn(why) }) })
	}
	if hook := c.s.client.config.Hooks.OnLost; hook != nil {
		c.s.t.later(func() { c.s.t.tell(func() { hook(name, why) }) })
	}
}

// gone is finish where the server is known to have nothing of the claim.
func (c *claim) gone(why error) {
	c.finish(why)
	c.forget()
}

// forget forgets the claim's entries: the server has none of them any more.
func (c *claim) forget() {
	for _, e := range c.entries {
		if c.s.entries[e.key] == e {
			delete(c.s.entries, e.key)
		}
	}
	c.s.releaseOwner(c.names, c.owner)
	if c.kind == coordv1.Kind_KIND_BARRIER_ENTER {
		c.s.parties--
	}
}

// The server's news of entries. Of those that are being removed only their tokens matter still.

func (s *Session) entryGranted(g *coordv1.Granted) {
	if e := s.entries[g.Key]; e != nil && g.Token >= e.token {
		e.token, e.holds = g.Token, true
		e.claim.revision = max(e.claim.revision, g.Revision)
		e.claim.check()
	}
}

func (s *Session) entryLost(l *coordv1.EntryLost) {
	if e := s.entries[l.Key]; e != nil && l.Token >= e.token && e.claim.err == nil {
		e.lose(l.Cause)
	}
}

func (s *Session) entryRequeued(r *coordv1.Requeued) {
	if e := s.entries[r.Key]; e != nil && r.Token > e.token {
		e.token = r.Token
	}
}

func (s *Session) releaseAsked(a *coordv1.ReleaseAsked) {
	e := s.entries[a.Key]
	if e == nil || e.token != a.Token || e.claim.err != nil {
		return
	}
	if fn := e.claim.options.onAsked; fn != nil {
		s.t.tell(func() { fn(a.From, a.Reason) })
	}
}

// lose ends the claim of an entry that is gone on the server. Its other entries are given back.
func (e *entry) lose(cause coordv1.EntryLost_Cause) {
	why := ErrRemoved
	if cause == coordv1.EntryLost_TRANSFERRED {
		why = ErrTransferred
	}
	c := e.claim
	if len(c.entries) == 1 {
		c.gone(lost(why))
		return
	}
	c.finish(lost(fmt.Errorf("%q: %w", e.name, why)))
	c.sendRelease()
}

// reconcile takes over what became of an entry while there was no link.
func (e *entry) reconcile(r *coordv1.AcquiredEntry) {
	c := e.claim
	if c.err != nil {
		e.token = max(e.token, r.Token)
		return
	}
	holds := r.State == coordv1.AcquiredEntry_HOLDS
	switch {
	case r.State == coordv1.AcquiredEntry_NONE:
		e.lose(coordv1.EntryLost_REMOVED)
	case e.holds && (r.Token != e.token || !holds):
		// Ours is gone, and what stands there is another: of a transfer, which makes leaders leave. Nobody of us wants it.
		e.token = r.Token
		c.finish(lost(ErrTransferred))
		c.sendRelease()
	default:
		e.token, e.holds = r.Token, holds
		c.check()
	}
}

// announce is what the session holds and waits for, for the member it attaches through.
func (s *Session) announce() []*entry {
	announced := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		announced = append(announced, e)
	}
	return announced
}

// wait waits until the claim holds. Otherwise the place is given up when it returns, or, if no server answers, as soon
// as one does.
func (c *claim) wait(ctx context.Context) error {
	var patience <-chan time.Time
	if c.options.maxWait > 0 {
		timer := time.NewTimer(c.options.maxWait)
		defer timer.Stop()
		patience = timer.C
	}
	var why error
	select {
	case <-c.granted:
		return nil
	case <-c.over:
		select {
		case <-c.granted: // and lost at once: the caller finds out
			return nil
		default:
		}
		return c.err
	case <-ctx.Done():
		why = cause(ctx)
	case <-patience:
		why = c.elapsed()
	}
	if !c.withdraw(why) {
		return why
	}
	bounded := time.NewTimer(3 * c.s.attempt)
	defer bounded.Stop()
	select {
	case <-c.freed:
	case <-c.s.ctx.Done():
	case <-bounded.C:
	}
	return why
}

// elapsed is the error of a wait that is over.
func (c *claim) elapsed() error {
	c.s.t.lock()
	defer c.s.t.unlock()
	if c.behind != nil {
		return fmt.Errorf("%w: when the wait began: %w", ErrNotAcquired, c.behind)
	}
	return ErrNotAcquired
}

// withdraw gives up a claim that nobody wants any more, whether or not the request has been executed. It returns true if
// the server has to be told, see freed.
func (c *claim) withdraw(why error) bool {
	t := c.s.t
	t.lock()
	defer t.unlock()
	if c.err != nil {
		return false
	}
	asked := c.call
	switch {
	case asked == nil: // there are entries, and their tokens are known
		c.finish(why)
		c.sendRelease()
		return true
	case asked.sends == 0:
		asked.stubborn = false
		t.abandon(asked)
		c.gone(why)
		return false
	}
	// Whatever becomes of the request, it must not be acknowledged before it is withdrawn.
	c.leaving, asked.pinned = true, true
	c.finish(why)
	c.send(coordv1.Kind_KIND_WITHDRAW, &coordv1.Withdraw{Sequence: asked.sequence}, func(*call) (bool, error) {
		t.unpin(asked)
		return true, nil
	})
	return true
}

// sendRelease removes what is left of the claim's entries, by their tokens. Tokens of waiters may change under way, by a
// transfer or with the grant of an election with priorities: then it is tried again.
func (c *claim) sendRelease() {
	req := &coordv1.Release{}
	for _, e := range c.entries {
		req.Entries = append(req.Entries, e.guard())
	}
	c.send(coordv1.Kind_KIND_RELEASE, req, func(call *call) (bool, error) {
		resp := &coordv1.Released{}
		if err := proto.Unmarshal(call.response, resp); err != nil {
			return true, unknown(err)
		}
		if resp.Removed == int64(len(req.Entries)) {
			return true, nil
		}
		for i, e := range c.entries {
			if e.token != req.Entries[i].Token {
				c.sendRelease()
				return false, nil
			}
		}
		return true, lost(ErrRemoved)
	})
}

// send sends what removes the claim's entries, until there is an outcome, which says whether that is the end of them.
func (c *claim) send(kind coordv1.Kind, body proto.Message, outcome func(*call) (bool, error)) {
	removal, err := c.s.t.newCall(request{kind: kind, body: body, stubborn: true})
	if err == nil {
		removal.abandoned = true // only take wants to hear of it
		removal.take = func(call *call) { c.wasSent(call, outcome) }
		err = c.s.t.add(c.s, removal)
	}
	if err != nil {
		c.freedErr = err
		close(c.freed)
	}
}

// wasSent takes over the outcome of what removes the claim's entries.
func (c *claim) wasSent(removal *call, outcome func(*call) (bool, error)) {
	end := true
	if c.freedErr = removal.err; removal.err == nil {
		end, c.freedErr = outcome(removal)
	}
	if !end {
		return
	}
	if removal.err == nil {
		c.forget()
	}
	close(c.freed)
}

// release gives back what is held. It is over for us first: nobody shall rely on it while it is being given back.
func (c *claim) release(ctx context.Context) error {
	t := c.s.t
	t.lock()
	switch {
	case c.err == nil:
		c.finish(ErrReleased)
		c.sendRelease()
	case errors.Is(c.err, ErrLost):
		defer t.unlock()
		return c.err
	}
	t.unlock()
	select {
	case <-c.freed:
		return c.freedErr
	case <-ctx.Done():
		return cause(ctx) // the session goes on trying
	}
}

// what names what is claimed, for errors.
func (c *claim) what() string { return fmt.Sprintf("%s %q", kindNames[c.kind], c.label()) }

// kindNames are what requests that claim are about.
var kindNames = map[coordv1.Kind]string{
	coordv1.Kind_KIND_ACQUIRE:           "lock",
	coordv1.Kind_KIND_CAMPAIGN:          "election",
	coordv1.Kind_KIND_RW_ACQUIRE:        "read-write lock",
	coordv1.Kind_KIND_SEMAPHORE_ACQUIRE: "semaphore",
	coordv1.Kind_KIND_BARRIER_ENTER:     "barrier",
}

// Held, Leadership and their like are made of this.

// Lost is closed when the grant is not guaranteed any more, for whatever reason; Release and Resign are one. It is closed
// before the server can give it to somebody else, unless somebody deleted the entry by hand.
func (c *claim) Lost() <-chan struct{} { return c.over }

// Err is nil until Lost is closed; then it wraps ErrLost and the reason, or is ErrReleased.
func (c *claim) Err() error {
	c.s.t.lock()
	defer c.s.t.unlock()
	return c.err
}

// Deadline is the instant until which the grant is guaranteed by the session as it is now; see Session.Deadline.
func (c *claim) Deadline() time.Time {
	if c.Err() != nil {
		return time.Time{}
	}
	return c.s.Deadline()
}

// Revision is the store's revision at which the grant was seen.
func (c *claim) Revision() int64 {
	c.s.t.lock()
	defer c.s.t.unlock()
	return c.revision
}

// Session is the session that holds.
func (c *claim) Session() *Session { return c.s }

// KV is etcd's API, whose writes have an effect only while the grant holds, exactly once; the error wraps ErrFenced
// otherwise. Reads are not guarded. Writes go through the session that holds.
func (c *claim) KV() clientv3.KV {
	guards := make([]*coordv1.Guard, len(c.entries))
	for i, e := range c.entries {
		guards[i] = e.guard()
	}
	return c.s.kv(guards)
}

// heldContext is a context that ends with a claim.
type heldContext struct{ cancel context.CancelCauseFunc }

// Context returns a context that ends when parent does, and, with the reason as its cause, when the grant does. Acquiring
// the same lock under it WithReentry enters again. The returned function frees what belongs to the context.
func (c *claim) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, heldKey{c.s.client, c.kind, c.label()}, c))
	h := &heldContext{cancel}
	c.s.t.lock()
	defer c.s.t.unlock()
	if c.err != nil {
		cancel(c.err)
		return ctx, func() {}
	}
	c.contexts = append(c.contexts, h)
	return ctx, func() {
		cancel(nil)
		c.s.t.lock()
		defer c.s.t.unlock()
		if i := slices.Index(c.contexts, h); i >= 0 {
			c.contexts = slices.Delete(c.contexts, i, i+1)
		}
	}
}

// heldKey is the key of a context's value that says which claim it was made under.
type heldKey struct {
	client *Client
	kind   coordv1.Kind
	label  string
}

// under is the claim that ctx was made under, nil if there is none that holds.
func (c *Client) under(ctx context.Context, kind coordv1.Kind, label string) *claim {
	held, ok := ctx.Value(heldKey{c, kind, label}).(*claim)
	if !ok || held.Err() != nil {
		return nil
	}
	return held
}

// do runs fn with a context that ends, with the reason as its cause, when the grant does. It waits for fn to return before
// it gives the grant back, also when fn panics.
func (c *claim) do(ctx context.Context, fn func(context.Context) error) (err error) {
	inner, cancel := c.Context(ctx)
	defer cancel()
	inner, end := c.s.client.config.Hooks.trace(inner, "hold", c.label())
	defer func() { end(err) }()
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*c.s.attempt)
		defer cancel()
		backErr := c.release(bounded)
		switch {
		case err == nil:
			err = backErr
		case errors.Is(backErr, ErrLost) && !errors.Is(err, ErrLost):
			err = errors.Join(err, backErr)
		}
	}()
	return fn(inner)
}
