package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	"github.com/coord-dev/coord/proto/objects"
)

// admission is one request for places in queues: one in that of each of its names, from the request to the end. It
// holds when all its entries do.
type admission struct {
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

// entry is who waits or holds in one queue.
type entry struct {
	admission *admission
	name      string
	key       string
	token     int64
	holds     bool
}

func (e *entry) guard() *coordv1.Guard {
	return &coordv1.Guard{Name: e.name, Key: e.key, Token: e.token}
}

// admit enqueues a request for entries of the names. body makes the request for an owner id.
func (s *Session) admit(kind coordv1.Kind, names []string, o options,
	body func(owner string) proto.Message) (*admission, error) {
	c := &admission{
		s: s, kind: kind, names: names, options: o, began: time.Now(),
		granted: make(chan struct{}), over: make(chan struct{}), freed: make(chan struct{}),
	}
	s.t.lock()
	defer s.t.unlock()
	if s.ended != nil {
		return nil, s.ended
	}
	c.owner = s.takeOwner(names)
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
	s.admissions[c] = struct{}{}
	if kind == coordv1.Kind_KIND_BARRIER_ENTER {
		s.parties++
	}
	return c, nil
}

// answered takes over the answer to the request.
func (a *admission) answered(call *call) {
	a.call = nil
	if a.err != nil || a.leaving {
		return // nobody wants it any more, and what it made is being removed
	}
	resp := &coordv1.Acquired{}
	err := call.err
	if err == nil {
		err = proto.Unmarshal(call.response, resp)
	}
	if err == nil && len(resp.Entries) != len(a.names) {
		err = unknown(fmt.Errorf("%d entries of %d names", len(resp.Entries), len(a.names)))
	}
	if err != nil {
		a.gone(err)
		return
	}
	for i, r := range resp.Entries {
		if r.State == coordv1.AcquiredEntry_NONE { // of a try
			a.gone(notAcquired(r.Holder))
			return
		}
		e := &entry{admission: a, name: a.names[i], key: r.Key, token: r.Token,
			holds: r.State == coordv1.AcquiredEntry_HOLDS}
		a.entries = append(a.entries, e)
	}
	a.revision = resp.Revision
	for i, e := range a.entries {
		a.s.entries[e.key] = e
		if !e.holds {
			a.waits(e, resp.Entries[i])
		}
	}
	a.check()
}

// waits tells who wants to know that an entry has to wait.
func (a *admission) waits(e *entry, r *coordv1.AcquiredEntry) {
	holder := holderText(r.Holder)
	if a.behind == nil {
		a.behind = foreignKey(r.Holder)
	}
	if fn := a.options.onQueued; fn != nil {
		a.s.t.notify(func() { fn(r.Position, holder) })
	}
	if hook := a.s.client.config.Hooks.OnWait; hook != nil {
		a.s.t.notify(func() { hook(e.name, r.Position, holder) })
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

// check sees whether the admission holds now.
func (a *admission) check() {
	if a.holds || a.err != nil {
		return
	}
	for _, e := range a.entries {
		if !e.holds {
			return
		}
	}
	a.holds = true
	close(a.granted)
	name, waited := a.label(), time.Since(a.began)
	if fn := a.options.onAcquire; fn != nil {
		a.s.t.notify(func() { fn(waited) })
	}
	if hook := a.s.client.config.Hooks.OnAcquire; hook != nil {
		a.s.t.notify(func() { hook(name, waited) })
	}
}

// label is the name, or the names.
func (a *admission) label() string { return strings.Join(a.names, ",") }

// finish ends the admission for us; only the first reason counts. Contexts end before anybody hears of it.
func (a *admission) finish(why error) {
	if a.err != nil {
		return
	}
	a.err = why
	delete(a.s.admissions, a)
	close(a.over)
	for _, h := range a.contexts {
		a.s.t.later(func() { h.cancel(why) })
	}
	a.contexts = nil
	if !a.holds || !errors.Is(why, ErrLost) {
		return
	}
	name := a.label()
	if fn := a.options.onLost; fn != nil {
		a.s.t.later(func() { a.s.t.notify(func() { fn(why) }) })
	}
	if hook := a.s.client.config.Hooks.OnLost; hook != nil {
		a.s.t.later(func() { a.s.t.notify(func() { hook(name, why) }) })
	}
}

// gone is finish where the server is known to have nothing of the admission.
func (a *admission) gone(why error) {
	a.finish(why)
	a.forget()
}

// forget forgets the admission's entries: the server has none of them any more.
func (a *admission) forget() {
	for _, e := range a.entries {
		if a.s.entries[e.key] == e {
			delete(a.s.entries, e.key)
		}
	}
	a.s.releaseOwner(a.names, a.owner)
	if a.kind == coordv1.Kind_KIND_BARRIER_ENTER {
		a.s.parties--
	}
}

// The server's news of entries. Of those that are being removed only their tokens matter still.

func (s *Session) entryGranted(g *coordv1.Granted) {
	if e := s.entries[g.Key]; e != nil && g.Token >= e.token {
		e.token, e.holds = g.Token, true
		e.admission.revision = max(e.admission.revision, g.Revision)
		e.admission.check()
	}
}

func (s *Session) entryLost(l *coordv1.EntryLost) {
	if e := s.entries[l.Key]; e != nil && l.Token >= e.token && e.admission.err == nil {
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
	if e == nil || e.token != a.Token || e.admission.err != nil {
		return
	}
	if fn := e.admission.options.onAsked; fn != nil {
		s.t.notify(func() { fn(a.From, a.Reason) })
	}
}

// lose ends the admission of an entry that is gone on the server. Its other entries are given back.
func (e *entry) lose(cause coordv1.EntryLost_Cause) {
	why := ErrRemoved
	if cause == coordv1.EntryLost_TRANSFERRED {
		why = ErrTransferred
	}
	c := e.admission
	if len(c.entries) == 1 {
		c.gone(lost(why))
		return
	}
	c.finish(lost(fmt.Errorf("%q: %w", e.name, why)))
	c.sendRelease()
}

// reconcile takes over what became of an entry while there was no link.
func (e *entry) reconcile(r *coordv1.AcquiredEntry) {
	c := e.admission
	if c.err != nil {
		e.token = max(e.token, r.Token)
		return
	}
	holds := r.State == coordv1.AcquiredEntry_HOLDS
	switch {
	case r.State == coordv1.AcquiredEntry_NONE:
		e.lose(coordv1.EntryLost_REMOVED)
	case e.holds && (r.Token != e.token || !holds):
		// Ours is gone, and what stands there is another: of a transfer, which makes leaders leave. Nobody of us wants
		// it.
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

// wait waits until the admission holds. Otherwise the place is given up when it returns, or, if no server answers, as
// soon as one does.
func (a *admission) wait(ctx context.Context) error {
	var patience <-chan time.Time
	if a.options.maxWait > 0 {
		timer := time.NewTimer(a.options.maxWait)
		defer timer.Stop()
		patience = timer.C
	}
	var why error
	select {
	case <-a.granted:
		return nil
	case <-a.over:
		select {
		case <-a.granted: // and lost at once: the caller finds out
			return nil
		default:
		}
		return a.err
	case <-ctx.Done():
		why = cause(ctx)
	case <-patience:
		why = a.elapsed()
	}
	if !a.withdraw(why) {
		return why
	}
	bounded := time.NewTimer(3 * a.s.attempt)
	defer bounded.Stop()
	select {
	case <-a.freed:
	case <-a.s.ctx.Done():
	case <-bounded.C:
	}
	return why
}

// elapsed is the error of a wait that is over.
func (a *admission) elapsed() error {
	a.s.t.lock()
	defer a.s.t.unlock()
	if a.behind != nil {
		return fmt.Errorf("%w: when the wait began: %w", ErrNotAcquired, a.behind)
	}
	return ErrNotAcquired
}

// withdraw gives up an admission that nobody wants any more, whether or not the request has been executed. It returns
// true if the server has to be told, see freed.
func (a *admission) withdraw(why error) bool {
	t := a.s.t
	t.lock()
	defer t.unlock()
	if a.err != nil {
		return false
	}
	asked := a.call
	switch {
	case asked == nil: // there are entries, and their tokens are known
		a.finish(why)
		a.sendRelease()
		return true
	case asked.sends == 0:
		asked.stubborn = false
		t.abandon(asked)
		a.gone(why)
		return false
	}
	// Whatever becomes of the request, it must not be acknowledged before it is withdrawn.
	a.leaving, asked.pinned = true, true
	a.finish(why)
	a.send(coordv1.Kind_KIND_WITHDRAW, &coordv1.Withdraw{Sequence: asked.sequence}, func(*call) (bool, error) {
		t.unpin(asked)
		return true, nil
	})
	return true
}

// sendRelease removes what is left of the admission's entries, by their tokens. Tokens of waiters may change under way,
// by a transfer or with the grant of an election with priorities: then it is tried again.
func (a *admission) sendRelease() {
	req := &coordv1.Release{}
	for _, e := range a.entries {
		req.Entries = append(req.Entries, e.guard())
	}
	a.send(coordv1.Kind_KIND_RELEASE, req, func(call *call) (bool, error) {
		resp := &coordv1.Released{}
		if err := proto.Unmarshal(call.response, resp); err != nil {
			return true, unknown(err)
		}
		if resp.Removed == int64(len(req.Entries)) {
			return true, nil
		}
		for i, e := range a.entries {
			if e.token != req.Entries[i].Token {
				a.sendRelease()
				return false, nil
			}
		}
		return true, lost(ErrRemoved)
	})
}

// send sends what removes the admission's entries, until there is an outcome, which says whether that is the end of
// them.
func (a *admission) send(kind coordv1.Kind, body proto.Message, outcome func(*call) (bool, error)) {
	removal, err := a.s.t.newCall(request{kind: kind, body: body, stubborn: true})
	if err == nil {
		removal.abandoned = true // only take wants to hear of it
		removal.take = func(call *call) { a.wasSent(call, outcome) }
		err = a.s.t.add(a.s, removal)
	}
	if err != nil {
		a.freedErr = err
		close(a.freed)
	}
}

// wasSent takes over the outcome of what removes the admission's entries.
func (a *admission) wasSent(removal *call, outcome func(*call) (bool, error)) {
	end := true
	if a.freedErr = removal.err; removal.err == nil {
		end, a.freedErr = outcome(removal)
	}
	if !end {
		return
	}
	if removal.err == nil {
		a.forget()
	}
	close(a.freed)
}

// release gives back what is held. It is over for us first: nobody shall rely on it while it is being given back.
func (a *admission) release(ctx context.Context) error {
	t := a.s.t
	t.lock()
	switch {
	case a.err == nil:
		a.finish(ErrReleased)
		a.sendRelease()
	case errors.Is(a.err, ErrLost):
		defer t.unlock()
		return a.err
	}
	t.unlock()
	select {
	case <-a.freed:
		return a.freedErr
	case <-ctx.Done():
		return cause(ctx) // the session goes on trying
	}
}

// what names what is asked for, for errors.
func (a *admission) what() string { return fmt.Sprintf("%s %q", kindNames[a.kind], a.label()) }

// kindNames are the names of what is acquired, by the kind of the request, as messages say them.
var kindNames = map[coordv1.Kind]string{
	coordv1.Kind_KIND_ACQUIRE:           "lock",
	coordv1.Kind_KIND_CAMPAIGN:          "election",
	coordv1.Kind_KIND_RW_ACQUIRE:        "read-write lock",
	coordv1.Kind_KIND_SEMAPHORE_ACQUIRE: "semaphore",
	coordv1.Kind_KIND_BARRIER_ENTER:     "barrier",
}

// why is why it is over; nil while it is not.
func (a *admission) why() error {
	a.s.t.lock()
	defer a.s.t.unlock()
	return a.err
}

// heldContext is a context that ends with an admission.
type heldContext struct{ cancel context.CancelCauseFunc }

// context returns a context that ends when parent does, and, with the reason as its cause, when the admission does. The
// returned function frees what belongs to the context.
func (a *admission) context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, heldKey{a.s.client, a.kind, a.label()}, a))
	h := &heldContext{cancel}
	a.s.t.lock()
	defer a.s.t.unlock()
	if a.err != nil {
		cancel(a.err)
		return ctx, func() {}
	}
	a.contexts = append(a.contexts, h)
	return ctx, func() {
		cancel(nil)
		a.s.t.lock()
		defer a.s.t.unlock()
		if i := slices.Index(a.contexts, h); i >= 0 {
			a.contexts = slices.Delete(a.contexts, i, i+1)
		}
	}
}

// heldKey is the key of a context's value that says which admission it was made under.
type heldKey struct {
	client *Client
	kind   coordv1.Kind
	label  string
}

// under is the admission that ctx was made under, nil if there is none that holds.
func (c *Client) under(ctx context.Context, kind coordv1.Kind, label string) *admission {
	held, ok := ctx.Value(heldKey{c, kind, label}).(*admission)
	if !ok || held.why() != nil {
		return nil
	}
	return held
}

// do runs fn with a context that ends, with the reason as its cause, when the grant does. It waits for fn to return
// before it gives the grant back, also when fn panics.
func (a *admission) do(ctx context.Context, fn func(context.Context) error) (err error) {
	inner, cancel := a.context(ctx)
	defer cancel()
	inner, end := a.s.client.config.Hooks.trace(inner, "hold", a.label())
	defer func() { end(err) }()
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*a.s.attempt)
		defer cancel()
		backErr := a.release(bounded)
		switch {
		case err == nil:
			err = backErr
		case errors.Is(backErr, ErrLost) && !errors.Is(err, ErrLost):
			err = errors.Join(err, backErr)
		}
	}()
	return fn(inner)
}
