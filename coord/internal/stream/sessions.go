package stream

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/internal/api"
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
	attaching      bool   // the client does not know yet that it is attached
	lost           bool   // it is not the stream's any more
	// entries are those that the stream follows for it, made by request where it made them.
	entries map[*entry]struct{}
	made    map[uint64][]*entry
}

func (s *session) add(e *entry) {
	if s.entries == nil {
		s.entries, s.made = map[*entry]struct{}{}, map[uint64][]*entry{}
	}
	s.entries[e] = struct{}{}
	if e.sequence != 0 {
		s.made[e.sequence] = append(s.made[e.sequence], e)
	}
}

func (s *session) remove(e *entry) {
	delete(s.entries, e)
	rest := slices.DeleteFunc(s.made[e.sequence], func(o *entry) bool { return o == e })
	if len(rest) == 0 {
		delete(s.made, e.sequence)
		return
	}
	s.made[e.sequence] = rest
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
	return refuse(coordv1.Error_REASON_TOO_MANY_SESSIONS, codes.ResourceExhausted,
		fmt.Sprintf("the stream has %d sessions already", max))
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
	command := &raftv1.SessionOpen{
		Id: api.DrawLeaseID(), TtlMs: body.TtlMs, Stream: st.id, Identity: encode(body.GetIdentity()),
	}
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
	st.relook(st.attached(o.ID, o.Created, o.Epoch))
}

// attached adds a session that a command has attached, after the response was queued. It may be lost again already: by
// the same batch, which was told before. The caller holds the mutex. It returns nil where the stream has ended.
func (st *stream) attached(id int64, created, epoch uint64) *session {
	if st.mu.closed {
		return nil
	}
	s := st.mu.sessions[id]
	if s == nil || s.created != created {
		s = &session{id: id, created: created}
		if st.mu.sessions[id] == nil {
			st.server.sessions.Add(1)
		}
		st.mu.sessions[id] = s
	}
	s.epoch = epoch
	return s
}

// relook drops a session that is not the stream's any more. The caller holds the mutex.
func (st *stream) relook(s *session) {
	if s != nil && !s.lost && !st.server.opts.Backend.Attached(st.id, s.id, s.created) {
		st.lose(s)
	}
}

// lose drops a session and tells the client. The caller holds the mutex.
func (st *stream) lose(s *session) {
	s.lost = true
	delete(st.mu.sessions, s.id)
	st.server.sessions.Add(-1)
	if len(s.entries) > 0 {
		gone := slices.Collect(maps.Keys(s.entries))
		st.chore(func() { st.entries.drop(gone) })
	}
	if s.ending || s.attaching {
		return // it will be answered
	}
	cause := coordv1.SessionLost_ENDED
	if st.lostError(s) == statemachine.ErrSessionElsewhere {
		cause = coordv1.SessionLost_MOVED
	}
	st.out.push(&coordv1.Push{
		Session: s.id, Event: &coordv1.Push_SessionLost{SessionLost: &coordv1.SessionLost{Cause: cause}},
	})
}

// lostError is why a session is not the stream's any more.
func (st *stream) lostError(s *session) error {
	if now, ok := st.server.opts.Backend.Session(s.id); ok && now.Created == s.created {
		return statemachine.ErrSessionElsewhere
	}
	return statemachine.ErrSessionNotFound
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
		st.relook(s)
	}
}

// attaching is one SessionAttach.
type attaching struct {
	item    item
	body    *coordv1.SessionAttach
	ttl     int64    // milliseconds, once it is attached
	session *session // likewise
}

// attach attaches the sessions of a frame.
func (st *stream) attach(requests []*request) {
	var all []attaching
	for _, r := range requests {
		a := attaching{item: r.item(), body: &coordv1.SessionAttach{}}
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
		command.Items = append(command.Items, &raftv1.SessionAttach_Item{
			Id: a.body.Session, Created: a.body.Created, Epoch: a.body.Epoch,
		})
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
		var announced []*attaching
		for i := range all {
			a := &all[i]
			a.ttl = done.TTLs[i]
			if st.attachDone(a, done.Outcomes[i]) {
				announced = append(announced, a)
			}
		}
		if len(announced) > 0 {
			st.chore(func() { st.answerAnnounced(announced) })
		}
	})
}

// attachDone answers, unless the client has announced entries: then it reports true.
func (st *stream) attachDone(a *attaching, outcome statemachine.AttachOutcome) (announced bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mu.opening--
	switch outcome {
	case statemachine.Attached:
	case statemachine.AttachEpochPast:
		st.refuse(a.item, refusal(statemachine.ErrSessionElsewhere))
		return false
	default:
		st.refuse(a.item, refusal(statemachine.ErrSessionNotFound))
		return false
	}
	a.session = st.attached(a.body.Session, a.body.Created, a.body.Epoch)
	if len(a.body.Entries) > 0 && a.session != nil {
		a.session.attaching = true
		st.relook(a.session)
		return true
	}
	st.respond(a.item, a.body.Session, encode(&coordv1.SessionAttached{TtlMs: a.ttl}))
	st.relook(a.session)
	return false
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
