package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

// Session is a lease that the client's heartbeats keep alive, and what it holds. It survives reconnects to any member
// within its TTL. Once lost it stays lost. Safe for concurrent use.
type Session struct {
	client *Client
	t      *transport
	ctx    context.Context // ends, with the reason as cause, when the session does
	cancel context.CancelCauseFunc

	// Set when the session was opened, and not changed.
	id      int64
	created uint64
	attempt time.Duration
	onState func(State)

	// The rest belongs to the transport's mutex.
	deadline   deadline
	state      State
	ended      error // why the session is over
	box        outbox
	epoch      uint64
	attached   bool   // to the transport's link
	attachedAt uint64 // the link's last heartbeat then: later ones renew the session
	attaching  *call
	admissions map[*admission]struct{}
	entries    map[string]*entry          // by key: what is held and waited for
	owners     map[string]map[string]bool // by name: owner ids in use
	serial     uint64                     // of the last owner id that was made up
	parties    int                        // of barriers, that the server may have something of
}

// NewSession opens a session, which lives until Close or until it is lost. ctx bounds the opening only.
func (c *Client) NewSession(ctx context.Context, opts ...SessionOption) (*Session, error) {
	s, err := c.openSession(ctx, applied(c.config.session(), opts))
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return s, nil
}

func (c *Client) openSession(ctx context.Context, o options) (*Session, error) {
	call, err := c.t.newCall(request{
		kind: coordv1.Kind_KIND_SESSION_OPEN,
		body: &coordv1.SessionOpen{TtlMs: o.ttl.Milliseconds(),
			Identity: &coordv1.Identity{Host: o.host, Process: o.process, Labels: o.labels}},
	})
	if err != nil {
		return nil, err
	}
	s := newSession(c, o.onState)
	call.take = s.wasOpened
	if _, err := c.t.await(ctx, nil, call); err != nil {
		return nil, err
	}
	return s, nil
}

func newSession(c *Client, onState func(State)) *Session {
	s := &Session{
		client: c, t: c.t, onState: onState,
		admissions: map[*admission]struct{}{}, entries: map[string]*entry{}, owners: map[string]map[string]bool{},
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.box.session = s
	return s
}

// wasOpened takes over the answer to SessionOpen.
func (s *Session) wasOpened(c *call) {
	if c.err != nil {
		return
	}
	opened := &coordv1.SessionOpened{}
	if err := proto.Unmarshal(c.response, opened); err != nil {
		c.err = fmt.Errorf("response of SessionOpen: %w", err)
		return
	}
	s.id, s.created, s.epoch = opened.Id, opened.Created, opened.Epoch
	if c.abandoned {
		s.t.endOnServer(s) // nobody wants it any more
		return
	}
	ttl := time.Duration(opened.TtlMs) * time.Millisecond
	s.deadline, s.attempt = deadline{ttl: ttl, sent: c.at}, attemptTime(ttl)
	s.attached, s.attachedAt = true, s.t.mu.link.heartbeats
	s.t.adopt(s)
}

// adopt makes s one of the transport's sessions.
func (t *transport) adopt(s *Session) {
	t.mu.sessions[s.id] = s
	t.mu.shortest = 0
	t.mu.nextLook = min(t.mu.nextLook, s.deadline.changes(t.clock()))
	signal(t.look)
}

// endOnServer ends a session that is not ours any more, if the server still has it.
func (t *transport) endOnServer(s *Session) {
	if c, err := t.newCall(s.endRequest()); err == nil {
		c.abandoned = true
		_ = t.add(nil, c)
	}
}

// endRequest is stubborn: a session that nobody ends is kept alive by the heartbeats of its stream.
func (s *Session) endRequest() request {
	return request{kind: coordv1.Kind_KIND_SESSION_END, body: &coordv1.SessionEnd{Session: s.id, Created: s.created},
		stubborn: true}
}

// reattach moves s to the link there is.
func (t *transport) reattach(s *Session) {
	s.epoch++
	announced := s.announce()
	req := &coordv1.SessionAttach{Session: s.id, Created: s.created, Epoch: s.epoch}
	for _, e := range announced {
		req.Entries = append(req.Entries, e.guard())
	}
	c, err := t.newCall(request{kind: coordv1.Kind_KIND_SESSION_ATTACH, body: req})
	if err != nil {
		t.end(s, err)
		return
	}
	c.abandoned = true // only take wants to hear of it
	c.take = func(c *call) {
		if s.attaching == c && s.ended == nil {
			s.attaching = nil
			t.wasAttached(s, announced, c)
		}
	}
	s.attaching = c
	_ = t.add(nil, c)
}

// wasAttached takes over the answer to SessionAttach: what became of the entries, and that the outbox may go.
func (t *transport) wasAttached(s *Session, announced []*entry, c *call) {
	resp := &coordv1.SessionAttached{}
	err := c.err
	if err == nil {
		err = proto.Unmarshal(c.response, resp)
	}
	if gone := sessionGone(err); gone != nil {
		t.end(s, gone)
		return
	}
	if err != nil { // nobody knows: with the next epoch, soon
		t.log.Warn("coord: attach a session", "session", s.id, "error", err)
		l := t.mu.link
		time.AfterFunc(max(minPause, s.attempt/4), func() {
			t.lock()
			defer t.unlock()
			if t.mu.link == l && s.ended == nil && !s.attached && s.attaching == nil {
				t.reattach(s)
			}
		})
		return
	}
	s.attached, s.attachedAt = true, t.mu.link.heartbeats
	s.renew(c.at, time.Duration(resp.TtlMs)*time.Millisecond)
	for i, e := range resp.Entries {
		if i < len(announced) {
			announced[i].reconcile(e)
		}
	}
	t.requeue(&s.box)
}

// renew takes over an acknowledged renewal. It comes too late if the deadline has passed: maintain ends the session
// then.
func (s *Session) renew(sent, ttl time.Duration) {
	s.deadline = s.deadline.renewed(sent, ttl)
	s.enter(s.deadline.state(s.t.clock()))
}

// enter notes the state and tells of it. Lost comes from end only.
func (s *Session) enter(state State) {
	if s.state == state || s.state == Lost || state == Lost && s.ended == nil {
		return
	}
	s.state = state
	s.t.later(func() { s.t.notify(func() { s.onState(state) }) })
}

// end ends a session: what it holds is lost, what it waits for, too. A request that was sent may have been executed.
func (t *transport) end(s *Session, why error) {
	if s.ended != nil {
		return
	}
	s.ended = why
	delete(t.mu.sessions, s.id)
	t.mu.shortest = 0
	for c := range s.admissions {
		c.finish(lost(why))
	}
	for _, c := range s.box.live() {
		t.unqueue(c)
		s.box.remove(c)
		if c.sends > 0 {
			c.settle(nil, unknown(why))
		} else {
			c.settle(nil, why)
		}
	}
	s.attached = false
	t.later(func() { s.cancel(why) })
	s.enter(Lost)
}

// Lease is the session's lease, for keys that shall live as long as the session.
func (s *Session) Lease() clientv3.LeaseID { return clientv3.LeaseID(s.id) }

// State is the session's state now.
func (s *Session) State() State {
	s.t.lock()
	defer s.t.unlock()
	if s.ended != nil {
		return Lost
	}
	return s.deadline.state(s.t.clock())
}

// Deadline is the instant until which the session is guaranteed, in terms of the local wall clock; each acknowledged
// heartbeat moves it. The zero time if the session is lost.
func (s *Session) Deadline() time.Time {
	s.t.lock()
	defer s.t.unlock()
	if s.ended != nil {
		return time.Time{}
	}
	return time.Now().Add(s.deadline.at() - s.t.clock())
}

// Done is closed when the session is lost or closed.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Context ends, with Err as its cause, when the session is lost or closed.
func (s *Session) Context() context.Context { return s.ctx }

// Err is nil while the session lives; then ErrSessionExpired, ErrSessionElsewhere, ErrSessionClosed or ErrClosed, with
// details.
func (s *Session) Err() error {
	s.t.lock()
	defer s.t.unlock()
	return s.ended
}

// Close ends the session: what it holds is lost at once (release it before), and handed on by the server. If no server
// answers within ctx the error says so, and the session dies by itself. Later calls do nothing.
func (s *Session) Close(ctx context.Context) error {
	s.t.lock()
	over := s.ended != nil
	s.t.end(s, ErrSessionClosed)
	s.t.unlock()
	if over {
		return nil
	}
	_, err := s.t.do(ctx, nil, s.endRequest())
	if err != nil && !errors.Is(err, ErrSessionExpired) {
		return fmt.Errorf("close session %x: %w", s.id, err)
	}
	return nil
}

// takeOwner returns an owner id for one more entry of each name: the first one has none, so that it looks like an etcd
// client's.
func (s *Session) takeOwner(names []string) string {
	id := ""
	for _, name := range names {
		if s.owners[name][""] {
			s.serial++
			id = strconv.FormatUint(s.serial, 36)
			break
		}
	}
	for _, name := range names {
		if s.owners[name] == nil {
			s.owners[name] = map[string]bool{}
		}
		s.owners[name][id] = true
	}
	return id
}

// releaseOwner makes an owner id available again, once its entries are known to be gone.
func (s *Session) releaseOwner(names []string, id string) {
	for _, name := range names {
		delete(s.owners[name], id)
		if len(s.owners[name]) == 0 {
			delete(s.owners, name)
		}
	}
}
