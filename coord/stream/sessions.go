package stream

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/api"
	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
	"github.com/coord-dev/coord/statemachine"
)

// maxAttach is the number of sessions that one command attaches.
const maxAttach = 1000

// session is a session that is attached to a stream. It is guarded by the stream's mutex.
type session struct {
	id             int64
	created, epoch uint64
	acknowledged   uint64 // what the log was told
	ending         bool   // the client is ending it
	lost           bool   // it is not the stream's any more
}

// reserve makes room for n sessions that are about to be opened or attached.
func (st *stream) reserve(n int) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.mu.closed || len(st.mu.sessions)+st.mu.opening+n > st.server.opts.Limits.Sessions {
		return false
	}
	st.mu.opening += n
	return true
}

func (st *stream) release(n int) {
	st.mu.Lock()
	st.mu.opening -= n
	st.mu.Unlock()
}

func tooManySessions(max int) *coordv1.Refusal {
	return refuse(coordv1.Error_REASON_TOO_MANY_SESSIONS, codes.ResourceExhausted, fmt.Sprintf("the stream has %d sessions already", max))
}

// open opens a session. Its place is reserved for that long.
func (st *stream) open(r *request) {
	body := &coordv1.SessionOpen{}
	refused := decode(r, body)
	if refused == nil {
		refused = checkOpen(body)
	}
	if refused == nil {
		if err := st.server.opts.Etcd.CheckNew(proto.Size(body.GetIdentity())); err != nil {
			refused = refusal(err)
		}
	}
	if refused == nil && !st.reserve(1) {
		refused = tooManySessions(st.server.opts.Limits.Sessions)
	}
	if refused != nil {
		st.refuse(r.item(), refused)
		return
	}
	command := &raftv1.SessionOpen{Id: api.DrawLeaseID(), TtlMs: body.TtlMs, Stream: st.id, Identity: encode(body.GetIdentity())}
	item := r.item()
	st.submit(raftv1.KindSessionOpen, encode(command), func(result statemachine.Result) {
		opened, ok := result.Response.(statemachine.SessionOpened)
		if !ok {
			st.release(1)
			st.refuse(item, refusal(resultError(result)))
			return
		}
		st.opened(item, opened)
	})
}

func (st *stream) opened(item item, o statemachine.SessionOpened) {
	response := encode(&coordv1.SessionOpened{Id: o.ID, Created: o.Created, TtlMs: o.TTL, Epoch: o.Epoch})
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mu.opening--
	st.respond(item, o.ID, response)
	st.attached(&session{id: o.ID, created: o.Created, epoch: o.Epoch})
}

// attached adds a session that a command has attached, after the response was queued. It may be lost again already: by the
// same batch, which was told before. The caller holds the mutex.
func (st *stream) attached(s *session) {
	if st.mu.closed {
		return
	}
	if st.mu.sessions[s.id] == nil {
		st.server.sessions.Add(1)
	}
	st.mu.sessions[s.id] = s
	if !st.server.opts.Backend.Attached(st.id, s.id, s.created) {
		st.lose(s)
	}
}

// lose drops a session and tells the client. The caller holds the mutex.
func (st *stream) lose(s *session) {
	s.lost = true
	delete(st.mu.sessions, s.id)
	st.server.sessions.Add(-1)
	if s.ending {
		return // it will be answered
	}
	cause := coordv1.SessionLost_ENDED
	if now, ok := st.server.opts.Backend.Session(s.id); ok && now.Created == s.created {
		cause = coordv1.SessionLost_MOVED
	}
	st.out.push(&coordv1.Push{Session: s.id, Event: &coordv1.Push_SessionLost{SessionLost: &coordv1.SessionLost{Cause: cause}}})
}

// sessionChanged is called from the apply when a session that was attached to this stream is so no more.
func (st *stream) sessionChanged(c statemachine.SessionChange) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if s := st.mu.sessions[c.ID]; s != nil && s.created == c.Created {
		st.lose(s)
	}
}

// recheck drops the sessions that are not attached any more, after changes that nobody told.
func (st *stream) recheck() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, s := range st.mu.sessions {
		if !st.server.opts.Backend.Attached(st.id, s.id, s.created) {
			st.lose(s)
		}
	}
}

// attaching is one SessionAttach.
type attaching struct {
	item item
	body *coordv1.SessionAttach
}

// attach attaches the sessions of a frame.
func (st *stream) attach(requests []*request) {
	var all []attaching
	for _, r := range requests {
		a := attaching{r.item(), &coordv1.SessionAttach{}}
		refused := decode(r, a.body)
		if refused == nil && !st.reserve(1) {
			refused = tooManySessions(st.server.opts.Limits.Sessions)
		}
		if refused != nil {
			st.refuse(a.item, refused)
			continue
		}
		all = append(all, a)
	}
	for len(all) > 0 {
		n := min(len(all), maxAttach)
		st.submitAttach(all[:n:n])
		all = all[n:]
	}
}

func (st *stream) submitAttach(all []attaching) {
	command := &raftv1.SessionAttach{Stream: st.id}
	for _, a := range all {
		command.Items = append(command.Items, &raftv1.SessionAttach_Item{Id: a.body.Session, Created: a.body.Created, Epoch: a.body.Epoch})
	}
	st.submit(raftv1.KindSessionAttach, encode(command), func(result statemachine.Result) {
		done, ok := result.Response.(statemachine.SessionsAttached)
		if !ok || len(done.Outcomes) != len(all) {
			st.release(len(all))
			for _, a := range all {
				st.refuse(a.item, refusal(resultError(result)))
			}
			return
		}
		for i, a := range all {
			st.attachDone(a, done.Outcomes[i], done.TTLs[i])
		}
	})
}

func (st *stream) attachDone(a attaching, outcome statemachine.AttachOutcome, ttl int64) {
	err := statemachine.ErrSessionNotFound
	switch outcome {
	case statemachine.Attached:
		st.mu.Lock()
		defer st.mu.Unlock()
		st.mu.opening--
		st.respond(a.item, a.body.Session, encode(&coordv1.SessionAttached{TtlMs: ttl}))
		st.attached(&session{id: a.body.Session, created: a.body.Created, epoch: a.body.Epoch})
		return
	case statemachine.AttachEpochPast:
		err = statemachine.ErrSessionElsewhere
	}
	st.release(1)
	st.refuse(a.item, refusal(err))
}

// endSession ends a session, attached here or not.
func (st *stream) endSession(r *request) {
	body := &coordv1.SessionEnd{}
	if refused := decode(r, body); refused != nil {
		st.refuse(r.item(), refused)
		return
	}
	st.setEnding(body, true)
	item := r.item()
	command := encode(&raftv1.SessionEnd{Id: body.Session, Created: body.Created})
	st.submit(raftv1.KindSessionEnd, command, func(result statemachine.Result) {
		ended, ok := result.Response.(statemachine.SessionEnded)
		if !ok {
			st.setEnding(body, false)
			st.refuse(item, refusal(resultError(result)))
			return
		}
		st.respond(item, 0, encode(&coordv1.SessionEnded{Revision: ended.Revision}))
	})
}

// setEnding notes that a session's end will be answered, so that the client needs no other news of it.
func (st *stream) setEnding(end *coordv1.SessionEnd, ending bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if s := st.mu.sessions[end.Session]; s != nil && s.created == end.Created {
		s.ending = ending
	}
}

// resultError is why a command has no response.
func resultError(r statemachine.Result) error {
	if r.Err != nil {
		return r.Err
	}
	return fmt.Errorf("the command was answered with %T", r.Response)
}
